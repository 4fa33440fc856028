"""Kernel sums and ridge regression against explicit features and refits."""

import torch

from mmgraph.kernels import combine, fit_landmark_ridge, fit_ridge


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
