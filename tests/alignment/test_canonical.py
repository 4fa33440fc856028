"""Canonical correlation analysis: references, missing rows, permutation test."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import kstest

from mmgraph import MultimodalData
from mmgraph.alignment import CCA
from mmgraph.errors import ConfigError, DataError

WIDTHS = {"image": 5, "text": 4, "sound": 6}


def make_rows(num=200, names=tuple(WIDTHS), noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(num, 3))
    return {
        name: cause @ rng.normal(size=(3, WIDTHS[name]))
        + noise * rng.normal(size=(num, WIDTHS[name]))
        for name in names
    }


def correlations(a, b):
    """Return the correlation of each column of a with the same column of b."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))


@pytest.mark.parametrize("names", [("image", "text"), tuple(WIDTHS)])
def test_complete_data_give_the_variates_of_cca_zoo(names):
    linear = pytest.importorskip("cca_zoo.linear")
    rows = make_rows(names=names)
    found = CCA(3, ridge=0).fit(rows).transform(rows)
    references = [linear.GCCA(n_components=3)]
    references += [linear.CCA(n_components=3)] if len(names) == 2 else []
    for reference in references:
        expected = reference.fit(list(rows.values())).transform(list(rows.values()))
        for name, variates in zip(names, expected, strict=True):
            same = np.abs(correlations(found[name], variates))
            np.testing.assert_allclose(same, 1, atol=1e-9)


def test_two_complete_modalities_have_the_correlations_of_the_eigenproblem():
    rows = make_rows(names=("image", "text"))
    x, y = (each - each.mean(axis=0) for each in rows.values())
    cross = x.T @ y
    values = eigh(cross @ np.linalg.solve(y.T @ y, cross.T), x.T @ x)[0][::-1][:4]
    model = CCA(4, ridge=0).fit(rows)
    np.testing.assert_allclose(model.correlations_, np.sqrt(values), atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_repeated_rows_are_rows_of_greater_weight(ridge):
    rows = make_rows()
    rows["text"][:40] = np.nan
    once = CCA(3, ridge=ridge).fit(rows)
    twice = CCA(3, ridge=ridge).fit({n: np.tile(x, (2, 1)) for n, x in rows.items()})
    for name in rows:
        np.testing.assert_allclose(twice.weights_[name], once.weights_[name], atol=1e-9)


@pytest.mark.parametrize("singles", [True, False])
def test_consensus_meets_its_definition(singles):
    rows = make_rows(120)
    rng = np.random.default_rng(1)
    for x in rows.values():
        x[rng.random(len(x)) < 0.4] = np.nan
    model = CCA(3, ridge=0.2, scale=False, singles=singles).fit(rows)
    counts = sum(~np.isnan(x[:, 0]) for x in rows.values())
    used = counts >= (1 if singles else 2)
    assert 20 < used.sum() < 120
    operator = np.zeros((used.sum(), used.sum()))
    parts = {}
    for name, x in rows.items():
        has = ~np.isnan(x[used, 0])
        z = np.where(has[:, None], x[used] - x[used][has].mean(axis=0), 0)
        covariance = z.T @ z / has.sum()
        width = len(covariance)
        regularized = 0.8 * covariance
        regularized += 0.2 * np.trace(covariance) / width * np.eye(width)
        parts[name] = np.linalg.solve(regularized, z.T) / has.sum()
        operator += z @ parts[name]
    diagonal = np.diag(counts[used].astype(float))
    vectors = eigh(operator, diagonal)[1][:, ::-1][:, :3]
    consensus = vectors * np.sqrt(used.sum())
    np.testing.assert_allclose(counts[used] @ consensus, 0, atol=1e-8)
    for name, part in parts.items():
        weight = part @ consensus
        sign = np.sign((weight * model.weights_[name]).sum(axis=0))
        np.testing.assert_allclose(sign * weight, model.weights_[name], atol=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_samples_without_any_modality_change_no_bit(kernel):
    rows = make_rows(80)
    rows["sound"][10:30] = np.nan
    longer = {n: np.insert(x, [0, 40, 80], np.nan, axis=0) for n, x in rows.items()}
    a = CCA(3, kernel=kernel, landmarks=30).fit(rows)
    b = CCA(3, kernel=kernel, landmarks=30).fit(longer)
    for name in rows:
        assert np.array_equal(a.weights_[name], b.weights_[name])
        assert np.array_equal(a.means_[name], b.means_[name])
    assert np.array_equal(a.correlations_, b.correlations_)


def test_samples_of_one_modality_are_used_on_request():
    rows = make_rows(100)
    model = CCA(3, singles=True).fit(rows)
    more = {
        n: np.pad(x, ((0, 100), (0, 0)), constant_values=np.nan)
        for n, x in rows.items()
    }
    more["text"][100:] = 5 + 3 * np.random.default_rng(1).normal(size=(100, 4))
    ignored = CCA(3).fit(more)
    assert np.array_equal(ignored.weights_["text"], CCA(3).fit(rows).weights_["text"])
    longer = CCA(3, singles=True).fit(more)
    for name in ("image", "sound"):
        assert np.array_equal(longer.means_[name], model.means_[name])
    np.testing.assert_allclose(longer.means_["text"], np.nanmean(more["text"], axis=0))
    # divided by the number of its rows, not by the number of samples
    z = more["text"] - longer.means_["text"]
    whitened = longer._whiten(more)["text"]
    scaled = 0.9 * z.T @ z + 0.1 * np.diag(np.diag(z.T @ z))
    inverse = whitened.inverse_root @ whitened.inverse_root.T
    np.testing.assert_allclose(inverse @ scaled / 200, np.eye(4), atol=1e-9)


def test_two_modalities_that_no_sample_has_together_are_compared():
    rows = make_rows(600, noise=0.3)
    rows["image"][:200], rows["sound"][200:400] = np.nan, np.nan
    train = {n: x[:400] for n, x in rows.items()}
    model = CCA(3).fit(train)
    assert model.num_pairs_.tolist() == [[200, 200, 0], [200, 400, 200], [0, 200, 200]]
    z = model.transform({n: x[400:] for n, x in rows.items()})
    assert correlations(z["image"], z["sound"]).min() > 0.8
    assert model.score({n: x[400:] for n, x in rows.items()}) > 0.8


def test_missing_rows_are_nan_and_the_consensus_is_the_mean_of_the_others():
    rows = make_rows(60)
    rows["image"][0] = np.nan
    for x in rows.values():
        x[1] = np.nan
    model = CCA(2).fit(rows)
    z, joint = model.transform(rows), model.consensus(rows)
    assert np.isnan(z["image"][:2]).all()
    assert not np.isnan(z["text"][0]).any()
    np.testing.assert_allclose(joint[0], (z["text"][0] + z["sound"][0]) / 2)
    assert np.isnan(joint[1]).all()
    alone = model.transform({"text": rows["text"][[5]]})["text"][0]
    np.testing.assert_allclose(alone, z["text"][5], atol=1e-12)


def test_p_values_of_noise_are_uniform():
    rng = np.random.default_rng(0)
    found = []
    for i in range(200):
        rows = {name: rng.normal(size=(40, 3)) for name in ("a", "b")}
        rows["b"][: i % 10] = np.nan
        found.append(CCA(1, ridge=0, seed=i).test(rows, permutations=19)[0])
    assert kstest(np.array(found) - rng.random(200) / 20, "uniform").pvalue > 0.01


def test_components_of_noise_are_not_significant():
    rng = np.random.default_rng(0)
    rows = make_rows(300, ("image", "text"))
    rows = {
        n: np.hstack([x[:, :3], rng.normal(size=(300, 3))]) for n, x in rows.items()
    }
    p = CCA(6).test(rows, permutations=99)
    assert p[0] == 0.01
    assert p[-1] > 0.5
    assert np.all(np.diff(p) >= 0)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_degenerate_features_give_finite_variates(kernel, ridge):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4))
    rows = {
        "wide": rng.normal(size=(20, 50)),  # more features than samples
        "repeated": np.hstack([x, x, np.full((20, 2), 0.1)]),  # and constant channels
        "constant": np.full((20, 3), 1.7),
    }
    rows["wide"][3, 5] = np.nan  # a cell
    model = CCA(5, ridge=ridge, kernel=kernel).fit(rows)
    z = model.transform(rows)
    assert all(np.isfinite(each).all() for each in z.values())
    assert not z["constant"].any()
    assert np.isfinite(model.correlations_).all()
    p = model.test(rows, permutations=5)
    assert p.shape == model.correlations_.shape
    assert np.all(p > 0)


def test_equal_singular_values_have_p_values():
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(13, 24)) for name in ("a", "b")}
    model = CCA(10, ridge=0, kernel="rbf")
    p = model.test(rows, permutations=9)  # every direction correlates perfectly
    assert len(p) == 10
    assert np.all(p == 1)


def test_one_pair_has_no_correlation():
    rows = make_rows(10, ("image", "text"))
    rows["image"][5:], rows["text"][:4] = np.nan, np.nan
    model = CCA(2, singles=True).fit(rows)
    assert np.isnan(model.correlations_).all()
    assert np.isnan(model.score(rows))


def test_a_kernel_finds_a_relation_that_is_not_linear():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, size=600)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    other = np.stack([np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    rows = {"a": circle, "b": other + 0.1 * rng.normal(size=other.shape)}
    train, test = (
        {n: x[part] for n, x in rows.items()} for part in (np.s_[:400], np.s_[400:])
    )
    assert CCA(2).fit(train).score(test) < 0.2
    assert CCA(2, kernel="rbf", landmarks=100).fit(train).score(test) > 0.9


def test_weights_and_bias_are_those_of_the_variates():
    rows = make_rows(50)
    model = CCA(3).fit(rows)
    weight, bias = model.weights_of("text")
    expected = model.transform(rows)["text"]
    np.testing.assert_allclose(rows["text"] @ weight + bias, expected, atol=1e-12)


def test_data_with_categories_have_the_channels_of_the_training():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "age"])
    frame["site"] = np.where(frame.a + frame.b > 0, "north", "south")
    labs = {"labs": ["a", "b"], "history": ["age", "site"]}
    data = MultimodalData.from_pandas(frame, labs)
    model = CCA(1).fit(data[:40])
    assert model.weights_["history"].shape == (3, 1)  # age, north, south
    north = data[np.flatnonzero(frame.site == "north")]
    assert model.transform(north)["history"].shape == (len(north), 1)
    assert model.score(data[40:]) > 0.5


def test_tensors_and_lists_are_rows():
    rows = make_rows(30, ("image", "text"))
    expected = CCA(2).fit(rows).correlations_
    given = {"image": torch.from_numpy(rows["image"]), "text": rows["text"].tolist()}
    assert np.array_equal(CCA(2).fit(given).correlations_, expected)


def test_unlinked_modalities_are_an_error():
    rows = make_rows(40)
    rows["sound"][:20] = np.nan
    rows["image"][20:], rows["text"][20:] = np.nan, np.nan
    message = r"none that links image, text with sound\. .*alignment\.transport"
    with pytest.raises(DataError, match=message):
        CCA().fit(rows)
    with pytest.raises(DataError, match="at least two modalities, got image"):
        CCA().fit({"image": rows["image"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "cubic"}, "kernel must be 'linear' or 'rbf', got 'cubic'"),
        ({"ridge": -0.1}, r"ridge must be in \[0, 1\], got -0.1"),
        ({"num_components": 0}, "num_components must be at least 1, got 0"),
        ({"landmarks": 0}, "landmarks must be at least 1, got 0"),
    ],
)
def test_parameters_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        CCA(**options).fit(make_rows(20))


def test_new_data_must_fit_the_training_data():
    rows = make_rows(30)
    with pytest.raises(DataError, match="must be fitted"):
        CCA().transform(rows)
    model = CCA().fit(rows)
    with pytest.raises(DataError, match=r"got 'txt'\. Did you mean 'text'"):
        model.transform({"txt": rows["text"]})
    with pytest.raises(DataError, match=r"'text' must have 4 features .*, got 3"):
        model.transform({"text": rows["text"][:, :3]})
    with pytest.raises(ConfigError, match="permutations must be at least 1, got 0"):
        model.test(rows, permutations=0)
    with pytest.raises(ConfigError, match="kernel 'linear', got 'rbf'"):
        CCA(kernel="rbf", landmarks=5).fit(rows).weights_of("text")
    with pytest.raises(DataError, match="infinity in row 2"):
        model.transform({"text": np.where(np.arange(30)[:, None] == 2, np.inf, 0)})
    with pytest.raises(DataError, match="features that vary"):
        CCA().fit({"a": np.ones((5, 2)), "b": np.ones((5, 2))})
