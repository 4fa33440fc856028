"""Kernel sums and ridge regression against explicit features and refits."""

import numpy as np
import pytest
import torch

from mmgraph import DataError
from mmgraph.kernels import (
    alignment_weights,
    combine,
    fit_landmark_ridge,
    fit_ridge,
)


def data(num: int = 30, width: int = 6):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(num, width, generator=generator, dtype=torch.double)
    y = torch.randn(num, 2, generator=generator, dtype=torch.double)
    return z, y, torch.arange(num) % 4, 0.1 + torch.rand(num, generator=generator)


def test_combined_kernels_equal_the_joined_features():
    generator = torch.Generator().manual_seed(3)
    z = {k: torch.randn(20, w, generator=generator) for k, w in (("a", 3), ("b", 2))}
    weights = {"a": 0.3, "b": 2.0}
    kernels = {k: x @ x.T for k, x in z.items()}
    for _ in range(20):
        present = torch.rand(20, 2, generator=generator) < 0.6
        combined = combine(kernels, present, weights=weights).double()
        total = present.float() @ torch.tensor([0.3, 2.0])
        scale = torch.where(total > 0, total, 1).rsqrt()
        joined = torch.cat(
            [
                weights[k] ** 0.5 * x * present[:, m, None] * scale[:, None]
                for m, (k, x) in enumerate(z.items())
            ],
            1,
        )
        torch.testing.assert_close(combined.float(), joined @ joined.T)
        assert torch.linalg.eigvalsh(combined).min() > -1e-5


def test_complete_samples_have_the_mean_of_the_kernels():
    kernels = {"a": torch.eye(3), "b": torch.ones(3, 3)}
    everything = torch.ones(3, 2, dtype=torch.bool)
    expected = (torch.eye(3) + 1) / 2
    torch.testing.assert_close(combine(kernels, everything), expected)


def test_values_of_missing_modalities_are_not_read():
    present = torch.tensor([[True, False], [True, True]])
    kernels = {"a": torch.ones(2, 2), "b": torch.full((2, 2), torch.nan)}
    kernels["b"][1, 1] = 1.0
    assert combine(kernels, present).isfinite().all()


def test_out_of_fold_predictions_equal_refits():
    z, y, folds, ridge = data()
    kernel = z @ z.T
    coefficient, predicted = fit_ridge(kernel, y, folds, ridge)
    torch.testing.assert_close(kernel @ coefficient + ridge[:, None] * coefficient, y)
    for fold in range(4):
        out = folds == fold
        system = kernel[~out][:, ~out] + torch.diag(ridge[~out])
        refit = kernel[out][:, ~out] @ torch.linalg.solve(system, y[~out])
        torch.testing.assert_close(predicted[out], refit)


def test_a_fold_of_all_rows_predicts_the_mean():
    z, y, _, ridge = data()
    predicted = fit_ridge(z @ z.T, y, torch.zeros(30), ridge)[1]
    torch.testing.assert_close(predicted, torch.zeros_like(y), atol=1e-8, rtol=0)


def test_landmarks_that_span_all_features_change_nothing():
    z, y, folds, ridge = data()
    landmarks = torch.arange(0, 30, 2)
    kernel = z @ z.T
    coefficient, predicted = fit_ridge(kernel, y, folds, ridge)
    few, approximate = fit_landmark_ridge(
        kernel[:, landmarks], landmarks, y, folds, ridge, kernel.diagonal()
    )
    torch.testing.assert_close(
        kernel[:, landmarks] @ few, kernel @ coefficient, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(approximate, predicted, atol=1e-5, rtol=1e-5)


def test_what_landmarks_do_not_explain_is_penalized():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(80, 400, generator=generator).double() / 20
    y = (z[:, :40].sum(1) + z[:, :40].sum(1).abs())[:, None]
    y, folds, ridge = y - y.mean(), torch.arange(80) % 4, torch.full((80,), 0.01)
    kernel, landmarks = z @ z.T, torch.arange(40)
    _, exact = fit_ridge(kernel, y, folds, ridge.double())
    own = kernel.diagonal()
    error, without = (
        (predicted - exact).square().mean()
        for predicted in (
            fit_landmark_ridge(
                kernel[:, landmarks], landmarks, y, folds, ridge.double(), diagonal
            )[1]
            for diagonal in (own, torch.zeros_like(own))
        )
    )
    assert error < 0.5 * without


def random_kernels(num: int = 14, others: int = 9):
    """Return double kernels of two feature maps, the maps, and their masks."""
    rng = np.random.default_rng(5)
    maps = {k: rng.normal(size=(num + others, w)) for k, w in (("a", 3), ("b", 5))}
    kernels = {k: x[:num] @ x[num:].T for k, x in maps.items()}
    return kernels, maps, rng.random((num + others, 2)) < 0.6


def test_kernels_of_two_sets_equal_the_joined_features():
    kernels, maps, present = random_kernels()
    weights = {"b": 2.0, "a": 0.3}
    total = present @ [0.3, 2.0]
    scale = np.where(total > 0, total, 1) ** -0.5
    joined = np.concatenate(
        [
            weights[k] ** 0.5 * x * present[:, [m]] * scale[:, None]
            for m, (k, x) in enumerate(maps.items())
        ],
        axis=1,
    )
    combined = combine(kernels, present[:14], others=present[14:], weights=weights)
    assert isinstance(combined, np.ndarray)
    np.testing.assert_allclose(combined, joined[:14] @ joined[14:].T, atol=1e-12)


def test_combined_kernels_are_positive_semidefinite_for_any_pattern():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3, 2))
    kernels = {
        str(m): np.exp(-((x[:, None, m] - x[:, m]) ** 2).sum(-1)) for m in range(3)
    }
    for _ in range(200):
        present, weights = rng.random((12, 3)) < 0.5, rng.random(3)
        named = dict(zip("012", weights, strict=True))
        combined = combine(kernels, present, weights=named)
        assert np.linalg.eigvalsh(combined).min() > -1e-10
        np.testing.assert_allclose(np.diag(combined), present.any(1), atol=1e-12)


def alignment(weights, kernels, y):
    kernel = sum(w * k for w, k in zip(weights, kernels.values(), strict=True))
    middle = np.eye(len(y)) - 1 / len(y)
    kernel = middle @ kernel @ middle
    target = np.equal.outer(y, y).astype(float)
    return (kernel * target).sum() / np.linalg.norm(kernel)


def test_alignment_weights_equal_a_search_over_a_grid():
    rng = np.random.default_rng(1)
    y = np.arange(40) % 2
    x = {k: rng.normal(size=(40, 2)) + s * y[:, None] for k, s in (("a", 1), ("b", 2))}
    kernels = {k: z @ z.T for k, z in x.items()}
    found = alignment_weights(kernels, y, np.ones((40, 2), bool))
    assert sum(found.values()) == pytest.approx(1)
    grid = np.linspace(0, 1, 2001)
    scores = [alignment((w, 1 - w), kernels, y) for w in grid]
    assert found["a"] == pytest.approx(grid[np.argmax(scores)], abs=1e-3)
    assert 0.05 < found["a"] < 0.95


def test_alignment_is_that_of_samples_with_both_modalities():
    rng = np.random.default_rng(2)
    y = np.arange(60) % 3
    x = {k: rng.normal(size=(60, 2)) + y[:, None] for k in "ab"}
    kernels = {k: z @ z.T for k, z in x.items()}
    present = rng.random((60, 2)) < 0.7
    expected = alignment_weights(kernels, y, present)
    for m, kernel in enumerate(kernels.values()):
        kernel[~present[:, m]] = kernel[:, ~present[:, m]] = np.nan
    assert alignment_weights(kernels, y, present) == expected
    assert alignment_weights(kernels, y.astype(str), present) == expected
    tensors = {k: torch.as_tensor(z) for k, z in kernels.items()}
    found = alignment_weights(tensors, torch.as_tensor(y), torch.as_tensor(present))
    assert found == pytest.approx(expected)


def test_kernel_of_noise_gets_no_weight():
    rng = np.random.default_rng(3)
    y = np.arange(200) % 2
    noise = rng.normal(size=(200, 5))
    perfect = np.equal.outer(y, y).astype(float)
    kernels = {"perfect": perfect, "noise": noise @ noise.T / 5}
    weights = alignment_weights(kernels, y, np.ones((200, 2), bool))
    assert weights["noise"] < 0.02
    y = noise[:, 0] + 0.1 * rng.normal(size=200)  # numbers as targets
    weights = alignment_weights(kernels, y, np.ones((200, 2), bool))
    assert weights["perfect"] < 0.02


def test_kernels_without_alignment_get_equal_weights():
    present = np.ones((4, 2), bool)
    kernels = {"a": np.ones((4, 4)), "b": np.ones((4, 4))}
    assert alignment_weights(kernels, [0, 1, 0, 1], present) == {"a": 0.5, "b": 0.5}
    present[:, 1] = False
    kernels["a"] = np.equal.outer([0, 1, 0, 1], [0, 1, 0, 1]).astype(float)
    assert alignment_weights(kernels, [0, 1, 0, 1], present) == {"a": 1.0, "b": 0.0}


EYE, ALL = np.eye(3), np.ones((3, 1), bool)


@pytest.mark.parametrize(
    ("kernels", "present", "options", "message"),
    [
        ({}, ALL, {}, "kernels must be a dict of one or more kernels"),
        (EYE, ALL, {}, "dict of one or more kernels by name, got ndarray"),
        (
            {"a": EYE, "b": np.eye(4)},
            ALL,
            {},
            "matrices of one shape, got {'a': .3, 3.",
        ),
        ({"a": np.ones(3)}, ALL, {}, "matrices of one shape"),
        (
            {"a": EYE},
            ALL[:2],
            {},
            r"present must have shape \[3, 1\] and type bool, got",
        ),
        ({"a": EYE}, ALL.astype(int), {}, "type bool, got .3, 1. and int64"),
        ({"a": EYE[:, :2]}, ALL, {}, r"others must have shape \[2, 1\]"),
        ({"a": EYE}, ALL, {"weights": {"a": -1}}, "weights must be at least 0, got"),
        (
            {"a": EYE},
            ALL,
            {"weights": {"a": np.nan}},
            "weights must be at least 0, got",
        ),
        ({"a": EYE}, ALL, {"weights": {"b": 1}}, "names of the kernels, a, got b"),
        ({"a": EYE}, ALL, {"weights": {}}, "names of the kernels, a, got none"),
    ],
)
def test_kernels_that_cannot_be_combined_are_refused(
    kernels, present, options, message
):
    with pytest.raises(DataError, match=message):
        combine(kernels, present, **options)


@pytest.mark.parametrize(
    ("kernel", "y", "message"),
    [
        (EYE[:, :2], [0, 1, 0], r"shape \[N, N\], got \[3, 2\]"),
        (EYE, [0, 1], r"y must have shape \[3\] as the kernels, got \[2\]"),
        (EYE, [0.5, 1.0, np.nan], "y must be known in all samples, got NaN"),
    ],
)
def test_targets_that_do_not_fit_are_refused(kernel, y, message):
    with pytest.raises(DataError, match=message):
        alignment_weights({"a": kernel}, y, ALL)
