"""Multiple-kernel fusion: weights, ridge, and what its parameters do."""

import kernel_fusion as benchmark
import numpy as np
import pytest
from sklearn.base import clone

from mmgraph import ConfigError, MultimodalData, load_dataset
from mmgraph.baselines import KernelFusion
from mmgraph.kernels import combine

FAST = {"ridge": 1.0, "copies": 1, "landmarks": 40}


def make_data(num: int = 80) -> MultimodalData:
    """Return two modalities that predict the class, and one of noise."""
    rng = np.random.default_rng(0)
    y = np.arange(num) % 2
    arrays = {"a": rng.normal(size=(num, 2)) + 2 * y[:, None]}
    arrays["b"] = rng.normal(size=(num, 3)) + y[:, None]
    arrays["noise"] = rng.normal(size=(num, 2))
    present = rng.random((num, 3)) < 0.8
    return MultimodalData.from_arrays(arrays, y=y, present=present)


def test_weights_are_the_mean_of_aligned_and_equal_ones():
    model = KernelFusion(**FAST).fit(make_data())
    assert list(model.weights_) == ["a", "b", "noise"]
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert model.alignment_["a"] > model.alignment_["b"] > model.alignment_["noise"]
    assert model.weights_["b"] == pytest.approx(model.alignment_["b"] / 2 + 1 / 6)
    equal = KernelFusion(**FAST, weights="uniform").fit(make_data())
    assert list(equal.weights_.values()) == pytest.approx([1 / 3] * 3)


def test_noise_gets_no_aligned_weight_on_heart():
    data = load_dataset("heart").replace(groups=None)
    aligned, final = benchmark.noise_weights(data[:700], seed=0)
    assert aligned < 0.02
    assert final < 0.6 / 7


def test_features_are_those_of_the_combined_kernel():
    data = make_data()
    model = KernelFusion(**FAST).fit(data)
    tables = model._inputs(data)
    features = model._features(tables, 0.5)
    joined = model._join(features, [data.present])
    kernels = {name: z @ z.T for name, z in features.items()}
    expected = combine(kernels, data.present, weights=model.weights_)
    np.testing.assert_allclose(joined @ joined.T, expected, atol=1e-12)


def test_ridge_is_chosen_or_given():
    data = make_data()
    assert KernelFusion(**FAST).fit(data).ridge_ == 1.0
    chosen = KernelFusion(copies=1, landmarks=40).fit(data)
    assert chosen.ridge_ in (0.03, 0.1, 0.3, 1.0, 3.0)
    few = data[[0, *np.flatnonzero(data.y == 1)[:2]]]
    assert KernelFusion(copies=1).fit(few).ridge_ == 1.0


def test_kernel_is_chosen_on_a_held_out_fold():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    linear, circle = x.sum(1) > 0, (x[:, :2] ** 2).sum(1) > 1.4
    shares = [
        KernelFusion(copies=0, landmarks=100, ridge=0.1)
        .fit(MultimodalData.from_arrays({"x": x}, y=y.astype(int)))
        .linear_share_
        for y in (linear, circle)
    ]
    assert shares == [0.5, 0.0]


def test_nothing_observed_is_the_class_frequency():
    data = make_data()[:61]
    nothing = data.mask(np.zeros(data.shape, bool))
    model = KernelFusion(**FAST).fit(data)
    np.testing.assert_allclose(model.predict_proba(nothing)[0], model.prior_)


def test_parameters_are_read_and_cloned():
    model = KernelFusion(weights="uniform", ridge=0.3, copies=2, landmarks=9, seed=4)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["landmarks"] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "equal"}, "weights must be 'alignment' or 'uniform', got 'equal'"),
        ({"ridge": 0}, "ridge must be None or a number above 0, got 0"),
        ({"linear_share": 1.5}, "linear_share must be None or a number from 0 to 1"),
        ({"copies": -1}, "copies must be a whole number of at least 0, got -1"),
        ({"landmarks": 0.5}, "landmarks must be a whole number above 0, got 0.5"),
    ],
)
def test_invalid_parameters_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        KernelFusion(**options).fit(make_data())
