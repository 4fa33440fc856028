"""Conformal sets and intervals by observed subset of modalities."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from mmgraph import (
    CheckpointError,
    ConfigError,
    DataError,
    DataWarning,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
    checkpoint,
)
from mmgraph.conformal import (
    Thresholds,
    calibrate,
    class_scores,
    conformal_quantile,
    uniform_numbers,
)

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {
    "members": 1,
    "epochs": 1,
    "experts": ("linear",),
    "hidden_channels": 4,
    "num_heads": 1,
}
NAMES = ("a", "b", "c")
NUM = 500


def make(num: int = NUM, seed: int = 0, rate: float = 0.3, classes: int = 3, **plain):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(num, 2))
    rows = {name: shape + rng.normal(size=(num, 2)) for name in NAMES}
    y = np.digitize(shape[:, 0], [-0.5, 0.5] if classes == 3 else [0])
    present = rng.random((num, 3)) > rate
    plain = {"y": y, "ids": np.arange(num) + 10_000 * seed} | plain
    return MultimodalData.from_arrays(rows, present=present, **plain)


@pytest.fixture(scope="module")
def classifier() -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(make())


CALIBRATION, TEST = make(seed=1), make(3000, seed=2, rate=0.6)


# Quantile


def test_the_quantile_is_the_rank_of_the_formula():
    scores = np.random.default_rng(0).permutation(99) / 1.0
    assert conformal_quantile(scores, 0.1) == 89  # 90th smallest: ceil(100 * 0.9)
    assert conformal_quantile(scores[:9], 0.1) == scores[:9].max()
    assert conformal_quantile(scores[:8], 0.1) == np.inf
    assert conformal_quantile(np.empty(0), 0.5) == np.inf


def test_ties_are_counted_as_scores():
    scores = np.array([0.1, 0.2, 0.2, 0.2, 0.9])
    assert conformal_quantile(scores, 0.5) == 0.2  # rank 3
    assert conformal_quantile(scores, 0.2) == 0.9  # rank 5


def coverage(quantile, draws: int = 4000, num: int = 9, alpha: float = 0.1) -> float:
    rng = np.random.default_rng(0)
    samples = rng.random((draws, num + 1))
    return float(np.mean([row[-1] <= quantile(row[:-1], alpha) for row in samples]))


def test_coverage_is_between_its_bounds_and_a_planted_fault_is_seen():
    """Without the + 1 of the rank, coverage is 0.8 instead of 0.9."""
    assert 0.885 <= coverage(conformal_quantile) <= 0.915

    def without_one(scores, alpha):
        return float(np.sort(scores)[int(np.ceil(len(scores) * (1 - alpha))) - 2])

    assert coverage(without_one) < 0.85


# Masked calibration


def exchangeable(rng, num: int):
    """Labels with two modalities that go missing completely at random."""
    y = rng.integers(2, size=num)
    x = {m: y + s * rng.normal(size=num) for m, s in (("a", 0.7), ("b", 1.5))}
    present = rng.random((num, 2)) > (0.2, 0.4)
    arrays = {name: values[:, None] for name, values in x.items()}
    return MultimodalData.from_arrays(arrays, y=y, present=present)


def bayes(data) -> np.ndarray:
    """Class probabilities of the law of ``exchangeable`` from what is observed."""
    odds = np.zeros(len(data))
    for name, sd in (("a", 0.7), ("b", 1.5)):
        x = data.features()[name][:, 0].astype(float)
        odds += np.where(np.isnan(x), 0, (np.nan_to_num(x) - 0.5) / sd**2)
    p = 1 / (1 + np.exp(-odds))
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("kind", ["aps", "lac"])
def test_every_subset_is_covered_on_exchangeable_data(kind):
    rng, hits, totals = np.random.default_rng(1), {}, {}
    for draw in range(60):
        data, test = exchangeable(rng, 120), exchangeable(rng, 60)
        codes, u = np.asarray(data.y), rng.random(len(data))

        def score(part, rows, codes=codes, u=u):
            scores = class_scores(bayes(part), kind, u[rows])
            return scores[np.arange(len(rows)), codes[rows]][:, None]

        thresholds = calibrate(
            data, score, alpha=0.2, condition="subset", min_samples=10
        )
        limit, supported = thresholds(test.present)
        scores = class_scores(bayes(test), kind, rng.random(len(test)))
        covered = (scores <= limit)[np.arange(len(test)), np.asarray(test.y)]
        assert supported.all(), draw
        for subset in {tuple(row) for row in test.present.tolist()}:
            rows = (test.present == subset).all(1)
            hits[subset] = hits.get(subset, 0) + covered[rows].sum()
            totals[subset] = totals.get(subset, 0) + rows.sum()
    for subset, total in totals.items():
        if kind == "lac" and not any(subset):
            continue  # all scores tie: every set holds both classes
        error = 3.5 * (0.16 / total + 0.16 / 60 / 20) ** 0.5  # test and calibration
        assert 0.8 - error <= hits[subset] / total <= 0.8 + 1 / 20 + error, subset


def test_samples_without_the_subset_change_nothing():
    data = make(200, seed=3)
    without = data.mask({"a": np.zeros(200, bool)}).replace(ids=np.arange(200) + 99_999)
    both = MultimodalData.concat([data, without])
    wanted = np.array([[True, True, False]])

    def thresholds(part):
        def score(samples, rows):
            return np.nan_to_num(samples.features()["a"][:, :1].astype(float))

        return calibrate(part, score, alpha=0.1, condition="subset", min_samples=5)

    assert thresholds(data)(wanted)[0] == thresholds(both)(wanted)[0]


def test_scores_see_the_modalities_of_the_subset_only():
    seen = []

    def score(samples, rows):
        seen.append(samples.present)
        return np.zeros((len(rows), 1))

    thresholds = calibrate(
        CALIBRATION, score, alpha=0.1, condition="subset", min_samples=5
    )
    thresholds(np.array([[True, False, True]]))
    np.testing.assert_array_equal(np.unique(seen[-1], axis=0), [[True, False, True]])
    assert len(seen[-1]) == (CALIBRATION.present[:, [0, 2]].all(1)).sum()


def test_coverage_holds_for_every_number_of_modalities(classifier):
    sets = classifier.conformal(CALIBRATION, alpha=0.2)
    predicted = sets.predict(TEST)
    covered = predicted[np.arange(len(TEST)), np.asarray(TEST.y)]
    for count in range(4):
        rows = TEST.present.sum(1) == count
        assert covered[rows].mean() == pytest.approx(0.8, abs=0.06)
    nothing = predicted[TEST.present.sum(1) == 0].sum(1).mean()
    complete = predicted[TEST.present.sum(1) == 3].sum(1).mean()
    assert complete < nothing


def test_marginal_calibration_covers_samples_with_few_modalities_less(classifier):
    few = TEST.present.sum(1) == 1
    share = {}
    for condition in ("subset", "marginal"):
        sets = classifier.conformal(CALIBRATION, 0.1, condition=condition, score="lac")
        covered = sets.predict(TEST)[np.arange(len(TEST)), np.asarray(TEST.y)]
        share[condition] = covered[few].mean()
    assert share["marginal"] < share["subset"] - 0.01
    assert [row["subset"] for row in sets.table_] == ["all samples"]


def test_rare_classes_are_covered_by_class(classifier):
    sets = classifier.conformal(CALIBRATION, alpha=0.2, by_class=True)
    y = np.asarray(TEST.y)
    covered = sets.predict(TEST)[np.arange(len(TEST)), y]
    for k in range(3):
        assert covered[y == k].mean() > 0.74
    row = sets.table_[0]
    assert len(row["threshold"]) == len(row["calibration_samples"]) == 3


def test_few_samples_are_marked_and_the_nested_set_is_not_smaller(classifier):
    rare = CALIBRATION.mask({"c": np.arange(NUM) < 20})
    sets = classifier.conformal(rare, alpha=0.1, min_samples=30, score="lac")
    with_c = TEST[np.flatnonzero(TEST.present.all(1))]
    assert not sets.supported(with_c).any()
    assert sets.supported(with_c.select(["a", "b"])).all()
    [row] = [row for row in sets.table_ if row["subset"] == "a+b+c"]
    assert not row["supported"]
    assert 0 < row["calibration_samples"] < 30
    covered = sets.predict(with_c)[np.arange(len(with_c)), np.asarray(with_c.y)]
    assert covered.mean() >= 0.84  # 205 samples: two standard errors


def test_nothing_observed_gives_the_set_of_class_frequencies(classifier):
    y = np.asarray(CALIBRATION.y)
    nothing = TEST[:50].mask(np.zeros((50, 3), bool))
    sets = classifier.conformal(CALIBRATION, alpha=0.6, score="lac").predict(nothing)
    assert (sets == sets[0]).all()
    prior = classifier.predict_proba(nothing)[0]
    true = np.sort(1 - prior[y])
    limit = true[int(np.ceil(501 * 0.4)) - 1]
    np.testing.assert_array_equal(sets[0], 1 - prior <= limit)


def test_sets_do_not_depend_on_other_samples(classifier):
    sets = classifier.conformal(CALIBRATION)
    whole = sets.predict(TEST[:40])
    backwards = sets.predict(TEST[np.arange(40)[::-1]])
    np.testing.assert_array_equal(whole, backwards[::-1])


def test_aps_sums_the_classes_that_are_more_probable():
    rng = np.random.default_rng(0)
    proba = np.round(rng.dirichlet(np.ones(6), size=200), 1)  # with ties
    uniform = rng.random(200)
    more = proba[:, None, :] > proba[:, :, None]
    expected = (more * proba[:, None]).sum(2) + uniform[:, None] * proba
    np.testing.assert_allclose(class_scores(proba, "aps", uniform), expected)


def test_uniform_numbers_are_uniform_and_differ_between_parts():
    u, v = (
        uniform_numbers(np.arange(2000), 0, part) for part in ("test", "calibration")
    )
    assert abs(np.corrcoef(u, v)[0, 1]) < 0.08
    assert np.abs(np.histogram(u, 10, (0, 1))[0] - 200).max() < 60


def test_label_dependent_missingness_breaks_the_guarantee_and_is_warned_about():
    rng = np.random.default_rng(0)

    def drawn(num, seed, informative=True):
        rare = np.random.default_rng(seed).normal(size=(num, 2))[:, 0] > 1
        data = make(num, seed=seed, rate=0.0, y=rare.astype(int))
        kept = np.where(rare, 0.1, 0.9) if informative else np.full(num, 0.5)
        return data.mask({n: rng.random(num) < kept for n in "bc"})

    def coverage(informative):
        sets = clf.conformal(drawn(500, 5, informative), alpha=0.1, score="lac")
        test = drawn(3000, 6, informative)
        covered = sets.predict(test)[np.arange(3000), np.asarray(test.y)]
        return covered[test.present.sum(1) == 1].mean()  # mostly of the rare class

    clf = FusionClassifier(**SMALL).fit(drawn(500, 7, informative=False))
    with pytest.warns(DataWarning, match="predicts the label in the calibration"):
        biased = coverage(informative=True)
    assert coverage(informative=False) > 0.87
    assert biased < 0.8


def test_sets_are_saved_with_the_model(classifier, tmp_path):
    sets = classifier.conformal(CALIBRATION, alpha=0.15, by_class=True)
    expected = sets.predict(TEST)
    classifier.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.conformal_.predict(TEST), expected)
    assert len(loaded.conformal_.table_) == 8  # all subsets of three modalities
    assert loaded.conformal_.alpha == 0.15
    assert str(loaded.conformal_) == str(sets)
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    second = FusionClassifier.from_pretrained(again).conformal_
    assert second.table_ == loaded.conformal_.table_
    refitted = loaded.set_params(**SMALL).fit(make(100))
    assert refitted.conformal_ is None


@pytest.mark.slow
def test_sets_of_hundreds_of_subsets_are_saved(tmp_path):
    rng = np.random.default_rng(0)
    names, present = "abcdefgh", rng.random((400, 8)) > 0.5

    def drawn():
        arrays = {n: rng.normal(size=(400, 1)) for n in names}
        y = rng.integers(2, size=400)
        return MultimodalData.from_arrays(arrays, y=y, present=present)

    clf = FusionClassifier(**SMALL).fit(drawn())
    sets = clf.conformal(drawn())
    clf.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path).conformal_
    assert loaded.table_ == sets.table_
    assert len(loaded.table_) > 150  # those of the calibration samples


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("score",), "x"),
        (("seed",), None),
        (("by_class",), None),
        (("thresholds",), []),
        (("thresholds", "alpha"), 2),
        (("thresholds", "alpha"), "x"),
        (("thresholds", "condition"), "x"),
        (("thresholds", "modalities"), ["a", "c", "b"]),
        (("thresholds", "known", 0, 0), [True]),
        (("thresholds", "known", 0, 1), {}),
        (("thresholds", "known", 0, 1, "thresholds"), ["x"]),
        (("thresholds", "known", 0, 1, "thresholds"), [0.5, 0.5, 0.5, 0.5]),
        (("thresholds", "known", 0, 1, "thresholds"), [math.nan] * 3),
        (("thresholds", "marginal"), None),
    ],
    ids=str,
)
def test_damaged_thresholds_are_refused(classifier, tmp_path, path, value):
    classifier.conformal(CALIBRATION, by_class=True)
    classifier.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / checkpoint.MANIFEST).read_text())
    part = manifest["conformal"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    manifest[checkpoint.OWN_HASH] = checkpoint._hash_of(manifest)
    (tmp_path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        FusionClassifier.from_pretrained(tmp_path)


def test_a_subset_that_a_saved_model_lacks_is_not_supported():
    known = Thresholds(NAMES, 0.1, "subset", 30, calibrate_marginal())
    limit, supported = known(np.array([[True, False, False]]))
    assert limit.tolist() == [[0.5]]
    assert not supported.any()


def calibrate_marginal():
    from mmgraph.conformal import SubsetThreshold

    return SubsetThreshold((0.5,), (100,), True)


def test_sets_equal_those_of_mapie_on_complete_data(classifier):
    """A test oracle: pip install mapie."""
    pytest.importorskip("mapie")
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    calibration, test = make(seed=7, rate=0.0), make(400, seed=8, rate=0.0)

    class Wrapped(ClassifierMixin, BaseEstimator):
        """The model on rows of the numbers of all modalities."""

        classes_ = classifier.classes_

        def fit(self, X, y):  # noqa: N803
            return self

        def _data(self, X):  # noqa: N803
            parts = np.split(np.asarray(X), 3, axis=1)
            return MultimodalData.from_arrays(dict(zip(NAMES, parts, strict=True)))

        def predict_proba(self, X):  # noqa: N803
            proba = classifier.predict_proba(self._data(X)).astype(np.float64)
            return proba / proba.sum(axis=1, keepdims=True)

        def predict(self, X):  # noqa: N803
            return self.classes_[self.predict_proba(X).argmax(1)]

        def __sklearn_is_fitted__(self):
            return True

    tables = [
        np.concatenate(list(d.features().values()), axis=1) for d in (calibration, test)
    ]
    theirs = SplitConformalClassifier(
        Wrapped(), confidence_level=0.9, conformity_score="lac", prefit=True
    ).conformalize(tables[0], np.asarray(calibration.y))
    expected = theirs.predict_set(tables[1])[1][..., 0]
    ours = classifier.conformal(calibration, 0.1, score="lac").predict(test)
    np.testing.assert_array_equal(ours, expected)


# Regression


@pytest.fixture(scope="module")
def regressor() -> FusionRegressor:
    return FusionRegressor(**SMALL).fit(targets(seed=0))


def targets(seed: int, num: int = NUM, rate: float = 0.3, several: bool = False):
    data = make(num, seed=seed, rate=rate)
    rng = np.random.default_rng(seed)
    y = (
        10
        + 3 * rng.normal(size=num)
        + 4 * np.random.default_rng(seed).normal(size=(num, 2))[:, 0]
    )
    return data.replace(y=np.stack([y, -y], axis=1) if several else y)


def test_intervals_cover_and_are_wider_where_less_is_observed(regressor):
    intervals = regressor.conformal(targets(1), alpha=0.2)
    test = targets(2, 2000, 0.6)
    low, high = intervals.predict(test).T
    y, count = np.asarray(test.y), test.present.sum(1)
    covered = (low <= y) & (y <= high)
    for number in range(4):
        assert covered[count == number].mean() == pytest.approx(0.8, abs=0.07)
    width = high - low
    assert width[count == 3].mean() < width[count == 0].mean()
    center = regressor.predict(test)
    np.testing.assert_allclose((low + high) / 2, center, rtol=1e-5)


def test_intervals_are_saved_with_the_model(regressor, tmp_path):
    intervals = regressor.conformal(targets(1))
    expected = intervals.predict(targets(2)[:50])
    regressor.save_pretrained(tmp_path)
    loaded = FusionRegressor.from_pretrained(tmp_path).conformal_
    np.testing.assert_array_equal(loaded.predict(targets(2)[:50]), expected)


def test_several_targets_have_an_interval_each():
    model = FusionRegressor(**SMALL).fit(targets(0, several=True))
    bounds = model.conformal(targets(1, several=True), alpha=0.2).predict(
        targets(2)[:9]
    )
    assert bounds.shape == (9, 2, 2)
    assert (bounds[..., 0] < bounds[..., 1]).all()
    with pytest.raises(DataError, match="calibration must have 2 targets, got 1"):
        model.conformal(targets(1))


# Bad input


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (
            CALIBRATION,
            {"alpha": 0.0},
            ConfigError,
            "alpha must be between 0 and 1, got 0.0",
        ),
        (
            CALIBRATION,
            {"alpha": 1},
            ConfigError,
            "alpha must be between 0 and 1, got 1",
        ),
        (CALIBRATION, {"condition": "mondrian"}, ConfigError, "'subset' or 'marginal'"),
        (CALIBRATION, {"score": "raps"}, ConfigError, "score must be 'aps' or 'lac'"),
        (CALIBRATION, {"min_samples": 0}, ConfigError, "min_samples must be a whole"),
        (CALIBRATION[:20], {}, DataError, "at least 30 samples with a label, got 20"),
        (
            CALIBRATION.replace(y=None),
            {},
            DataError,
            "calibration must have labels, got none",
        ),
        (
            CALIBRATION.replace(y=np.asarray(CALIBRATION.y) + 1),
            {},
            DataError,
            r"classes of the training, \[0, 1, 2\], got 3",
        ),
    ],
)
def test_bad_input_is_one_clear_error(classifier, data, options, error, message):
    with pytest.raises(error, match=message):
        classifier.conformal(data, **options)


def test_a_model_of_several_labels_has_no_sets():
    y = np.stack([np.asarray(make().y) > 0, np.asarray(make().y) > 1], axis=1).astype(
        int
    )
    model = FusionClassifier(**SMALL).fit(make().replace(y=y))
    with pytest.raises(ConfigError, match="conformal must go with a model of classes"):
        model.conformal(CALIBRATION.replace(y=y))
    with pytest.raises(ConfigError, match="acquire must go with a model of classes"):
        model.acquire(TEST[:5], make())


def test_samples_without_a_label_are_left_out(classifier):
    y = np.asarray(CALIBRATION.y).astype(float)
    y[:100] = np.nan
    some = classifier.conformal(CALIBRATION.replace(y=y), score="lac").predict(
        TEST[:30]
    )
    rest = classifier.conformal(CALIBRATION[100:], score="lac").predict(TEST[:30])
    np.testing.assert_array_equal(some, rest)
    given = classifier.conformal(replace(CALIBRATION, y=None), y=y, score="lac")
    np.testing.assert_array_equal(given.predict(TEST[:30]), rest)


@pytest.mark.parametrize("kind", [FusionClassifier, FusionRegressor])
def test_calibration_on_the_training_samples_is_reported(kind, tmp_path):
    train, other = make(120), make(120, seed=1)
    model = kind(**SMALL).fit(train)
    model.save_pretrained(tmp_path)
    for each in (model, kind.from_pretrained(tmp_path)):
        with pytest.warns(DataWarning, match="not used in training, got the training"):
            each.conformal(train)
        each.conformal(other)  # a warning would be an error
