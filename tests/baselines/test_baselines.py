import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.impute import KNNImputer

from mmgraph import DataError, DataWarning, MultimodalData
from mmgraph.baselines import BASELINES
from mmgraph.baselines.architectures import ConcatMLP, TokenTransformer, train_network
from mmgraph.baselines.inputs import StandardScaler, filled_table, fit_scalers
from mmgraph.baselines.knn_imputer import NearestDonors

pytestmark = pytest.mark.usefixtures("few_trees")

NAMES = ("labs", "scan", "walk")
EXACT_PRIOR = ("best_single", "late_logistic", "late_forest")


def make_arrays(num_samples, seed):
    """Two classes that `labs` and `scan` tell apart; noise in `walk`."""
    rng = np.random.default_rng(seed)
    y = np.arange(num_samples) % 3 % 2  # a third of class 1
    labs = rng.normal(size=(num_samples, 3)) + 2.5 * y[:, None]
    labs[rng.random(labs.shape) < 0.1] = np.nan
    labs[:, 0] = np.where(np.isnan(labs).all(axis=1), 0.0, labs[:, 0])
    scan = rng.normal(size=(num_samples, 2)) - 2.5 * y[:, None]
    walk = rng.normal(size=(num_samples, 4))
    return {"labs": labs, "scan": scan, "walk": walk}, y


def make_data(num_samples=120, seed=0, *, present=None, labels=("no", "yes"), **extra):
    arrays, y = make_arrays(num_samples, seed)
    y = np.array(labels)[y]
    return MultimodalData.from_arrays(
        arrays, y=extra.pop("y", y), present=present, **extra
    )


def some_present(num_samples, seed=5):
    present = np.random.default_rng(seed).random((num_samples, 3)) < 0.7
    present[:4] = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    return present


@pytest.fixture(scope="module", params=BASELINES)
def fitted(request, few_trees):
    """Each baseline, trained where a third is missing; by its name."""
    train = make_data(present=some_present(120))
    return request.param, BASELINES[request.param](seed=1).fit(train)


@pytest.fixture(scope="module")
def test_data():
    """Nothing at all, each modality alone, and others."""
    return make_data(60, 1, present=some_present(60, seed=6))


def test_probabilities_have_the_shape_of_classes(fitted, test_data):
    _, model = fitted
    proba = model.predict_proba(test_data)
    assert model.classes_.tolist() == ["no", "yes"]
    assert proba.shape == (60, 2)
    assert proba.min() >= 0
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-9)
    predicted = model.predict(test_data)
    assert np.array_equal(predicted, model.classes_[proba.argmax(axis=1)])
    assert model.predict_proba(test_data[[]]).shape == (0, 2)


def test_a_separable_problem_is_learned(fitted):
    name, model = fitted
    data = make_data(90, 2)
    assert (model.predict(data) == data.y).mean() > 0.8, name


def test_nothing_observed_gives_a_finite_prediction(fitted):
    name, model = fitted
    data = make_data(5, present=np.zeros((5, 3), bool))
    proba = model.predict_proba(data)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba, np.tile(proba[0], (5, 1)), atol=1e-6)
    np.testing.assert_allclose(model.prior_, [2 / 3, 1 / 3])
    if name in EXACT_PRIOR:
        np.testing.assert_allclose(proba[0], model.prior_)


def test_values_behind_missing_modalities_are_never_read(fitted):
    name, model = fitted
    arrays, y = make_arrays(60, 3)
    present = some_present(60)
    poisoned = {
        m: np.where(present[:, [i]], x, 1e30) for i, (m, x) in enumerate(arrays.items())
    }
    plain = MultimodalData.from_arrays(arrays, y=y, present=present)
    other = MultimodalData.from_arrays(poisoned, y=y, present=present)
    assert np.array_equal(model.predict_proba(plain), model.predict_proba(other))
    if name not in ("mean_forest", "late_forest"):  # slow, and the same inputs
        a, b = (BASELINES[name]().fit(data) for data in (plain, other))
        assert np.array_equal(a.predict_proba(plain), b.predict_proba(plain))


def test_a_sample_alone_is_as_in_the_batch(fitted, test_data):
    _, model = fitted
    together = model.predict_proba(test_data)[:8]
    alone = [model.predict_proba(test_data[[i]])[0] for i in range(8)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_modalities_in_another_order_predict_the_same(fitted, test_data):
    _, model = fitted
    turned = test_data.select(NAMES[::-1])
    assert np.array_equal(model.predict_proba(turned), model.predict_proba(test_data))


def test_a_modality_that_the_test_data_never_have_is_just_missing(fitted, test_data):
    _, model = fitted
    arrays, y = make_arrays(60, 1)
    present = test_data.present.copy()
    present[:, 0] = False
    masked = MultimodalData.from_arrays(arrays, y=y, present=present)
    without = MultimodalData.from_arrays(
        {**arrays, "labs": [None] * 60}, y=y, present=present
    )
    expected = model.predict_proba(masked)
    assert np.array_equal(model.predict_proba(without), expected)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_state(fitted):
    name, model = fitted
    state = torch.get_rng_state()
    again = clone(model).fit(make_data(present=some_present(120)))
    data = make_data(20, 4)
    assert again.seed == 1
    assert np.array_equal(again.predict_proba(data), model.predict_proba(data)), name
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(params=BASELINES)
def unfitted(request):
    """Each baseline, not yet trained."""
    return BASELINES[request.param]()


def test_patterns_that_training_never_had_are_predicted(unfitted, test_data):
    model = unfitted.fit(make_data(60))
    proba = model.predict_proba(test_data)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-9)
    clear = test_data.present[:, :2].any(axis=1)
    if type(model).__name__ != "BestSingle":
        right = model.predict(test_data)[clear] == test_data.y[clear]
        assert right.mean() > 0.75


def test_one_class_is_certain(unfitted):
    model = unfitted.fit(make_data(10, y=np.ones(10)))
    assert model.classes_.tolist() == [1.0]
    assert np.array_equal(model.predict_proba(make_data(4)), np.ones((4, 1)))


def test_a_rare_class_and_odd_columns_do_not_crash(unfitted):
    arrays, y = make_arrays(60, 0)
    y[0] = 2  # one sample of its class
    arrays["labs"][:, 1] = np.nan  # never observed in training
    arrays["scan"][:, 0] = 7.0  # constant
    arrays["walk"][:] = np.nan  # missing everywhere
    model = unfitted.fit(MultimodalData.from_arrays(arrays, y=y))
    proba = model.predict_proba(make_data(9, 1))
    assert proba.shape == (9, 3)
    assert np.isfinite(proba).all()
    assert proba.std(axis=0).max() > 0


def test_nothing_observed_in_training_gives_the_prior(unfitted):
    model = unfitted.fit(make_data(30, present=np.zeros((30, 3), bool)))
    expected = np.tile([2 / 3, 1 / 3], (4, 1))
    np.testing.assert_allclose(model.predict_proba(make_data(4)), expected)


@pytest.mark.parametrize("name", ["mean_logistic", "late_logistic"])
def test_samples_without_a_label_are_not_used(name):
    data = make_data(60)
    y = np.where(np.arange(60) < 40, data.y, None)
    model = BASELINES[name]().fit(data, y)
    other = BASELINES[name]().fit(data[:40])
    assert np.array_equal(model.predict_proba(data), other.predict_proba(data))
    numbers = np.where(np.arange(60) < 40, np.arange(60) % 2, np.nan)
    assert BASELINES[name]().fit(data, numbers).classes_.tolist() == [0, 1]


def test_best_single_finds_the_modality_that_tells():
    arrays, y = make_arrays(90, 0)
    arrays["scan"] = arrays["scan"] * 0.1 + np.random.default_rng(9).normal(
        size=(90, 2)
    )
    data = MultimodalData.from_arrays(arrays, y=y)
    assert BASELINES["best_single"]().fit(data).modality_ == "labs"
    groups = np.arange(90) // 9
    data = MultimodalData.from_arrays(arrays, y=y, groups=groups)
    assert BASELINES["best_single"]().fit(data).modality_ == "labs"


def test_best_single_keeps_groups_together():
    """`scan` names the group and nothing else: only leaking folds would choose it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 8)
    y = np.repeat(rng.permutation(np.arange(12) % 2), 8)
    arrays = {
        "scan": np.eye(12)[groups],
        "labs": rng.normal(size=(96, 2)) + 0.8 * y[:, None],
    }
    grouped = MultimodalData.from_arrays(arrays, y=y, groups=groups)
    assert BASELINES["best_single"]().fit(grouped).modality_ == "labs"
    loose = MultimodalData.from_arrays(arrays, y=y)
    assert BASELINES["best_single"]().fit(loose).modality_ == "scan"


def test_late_fusion_is_the_mean_log_probability_of_its_experts(test_data):
    train = make_data()
    both = BASELINES["late_logistic"]().fit(train)
    single = [
        BASELINES["late_logistic"]()
        .fit(train.select([m]))
        .predict_proba(test_data.select([m]))
        for m in NAMES
    ]
    log_proba = np.log(np.stack(single)) * test_data.present.T[:, :, None]
    count = np.maximum(test_data.present.sum(axis=1), 1)[:, None]
    expected = np.exp(log_proba.sum(axis=0) / count)
    expected /= expected.sum(axis=1, keepdims=True)
    some = test_data.present.any(axis=1)
    proba = both.predict_proba(test_data)
    np.testing.assert_allclose(proba[some], expected[some], rtol=1e-6)


def test_sequences_and_text_are_read_through_features():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    walk = [rng.normal(size=(5 + i % 3, 2)) + 3 * y[i] for i in range(40)]
    note = [None if i < 5 else ("worse", "stable")[y[i]] for i in range(40)]
    data = MultimodalData.from_arrays({"walk": walk, "note": note}, y=y)
    model = BASELINES["late_logistic"]().fit(data)
    assert (model.predict(data) == y).mean() > 0.9


def test_synergy_needs_modalities_that_meet():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500, 2))
    y = (a[:, 0] * b[:, 0] > 0).astype(int)
    data = MultimodalData.from_arrays({"a": a, "b": b}, y=y)
    train, test = data[:350], data[350:]
    late = BASELINES["late_forest"]().fit(train).predict(test)
    early = BASELINES["concat_mlp"]().fit(train).predict(test)
    assert (late == test.y).mean() < 0.65
    assert (early == test.y).mean() > 0.75


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y must be given to fit a baseline, got None"),
        (np.zeros((6, 2)), r"y must have shape \[N\] to fit a baseline, got \[6, 2\]"),
        (np.full(6, np.nan), "y must have a known label, got none"),
        (np.linspace(0, 1, 6), "y must hold classes to fit a baseline, got numbers"),
        (np.zeros(5), "y must have one label per sample"),
    ],
)
def test_labels_must_be_classes(y, message):
    with pytest.raises(DataError, match=message):
        BASELINES["mean_logistic"]().fit(make_data(6, y=None), y)


def test_test_data_must_fit_the_training_data():
    model = BASELINES["mean_logistic"]()
    data = make_data(12)
    with pytest.raises(DataError, match="MeanLogistic must be fitted before it"):
        model.predict(data)
    model.fit(data)
    with pytest.raises(DataError, match="must have the modalities of the training"):
        model.predict(data.select(["labs"]))
    arrays, y = make_arrays(12, 0)
    narrow = MultimodalData.from_arrays({**arrays, "labs": arrays["labs"][:, :2]}, y=y)
    with pytest.raises(DataError, match="'labs' must have 3 features as in training"):
        model.predict(narrow)


def test_filled_tables_by_hand():
    nan = np.nan
    x = np.array([[0.0, nan, 5.0], [2.0, nan, 5.0], [4.0, 1.0, 5.0], [nan, nan, nan]])
    table = filled_table({"a": x}, fit_scalers({"a": x}))
    z = 2 / np.sqrt(8 / 3)
    expected = [[-z, 0, 0, 1, 0], [0, 0, 0, 1, 0], [z, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(table, expected, atol=1e-12)
    far = StandardScaler.fit(x).filled(np.array([[1e9, 1.0, 5.0]]))
    assert far[0, 0] == 10


def test_nearest_donors_match_sklearn_where_it_looks_as_far():
    rng = np.random.default_rng(0)
    donors, table = rng.normal(size=(20, 6)), rng.normal(size=(300, 6))
    donors[rng.random(donors.shape) < 0.4] = np.nan
    table[rng.random(table.shape) < 0.4] = np.nan
    donors[:, 5] = table[:, 5] = np.nan
    donors[:8, :2] = table[:40, :2] = np.nan
    table[0] = np.nan
    expected = KNNImputer(keep_empty_features=True).fit(donors).transform(table)
    nearest = NearestDonors(donors, (2, 3, 1))
    filled = nearest.fill(table)
    np.testing.assert_allclose(filled, expected, atol=1e-12)
    assert nearest.fill(table[:0]).shape == (0, 6)


@pytest.mark.parametrize("kind", [ConcatMLP, TokenTransformer])
def test_networks_read_only_what_is_present(kind):
    net = kind([3, 2], 2)
    x = torch.randn(4, 5)
    present = torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    owner = torch.tensor([0, 0, 0, 1, 1])
    changed = torch.where(present[:, owner], x, torch.full_like(x, 1e3))
    assert torch.equal(net(x, present), net(changed, present))
    net(x, present).pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_early_stopping_keeps_the_best_weights():
    """Labels are noise: training longer only hurts the held-out samples."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 20, generator=generator)
    y = torch.arange(60) % 2
    present = torch.ones(60, 1, dtype=torch.bool)
    net = train_network(lambda: ConcatMLP([20], 2), x, present, y, seed=0)
    assert not net.training
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(net(x, present), y)
    assert loss > 0.3  # 200 epochs would learn the noise by heart


@pytest.mark.parametrize("name", BASELINES)
def test_fill_values_are_missing_cells(name):
    arrays, y = make_arrays(120, 0)
    rows = np.arange(0, 120, 7)
    marked, missing = arrays["labs"].copy(), arrays["labs"].copy()
    marked[rows, 1], missing[rows, 1] = -9999, np.nan
    with pytest.warns(DataWarning, match="-9999 in 18 cells of channel 1"):
        model = BASELINES[name](seed=1).fit(
            MultimodalData.from_arrays(arrays | {"labs": marked}, y=y)
        )
    same = MultimodalData.from_arrays(arrays | {"labs": missing}, y=y)
    expected = BASELINES[name](seed=1).fit(same).predict_proba(same)
    new = MultimodalData.from_arrays(arrays | {"labs": marked})
    np.testing.assert_allclose(model.predict_proba(new), expected, atol=1e-6)
