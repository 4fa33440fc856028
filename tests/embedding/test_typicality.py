"""Typicality of rows: distances to training rows, without labels."""

import pytest
import torch

from mmgraph.embedding.typicality import Typicality, fit_typicality


def fit(*features, groups=None, seed=0):
    groups = torch.arange(len(features[0])) if groups is None else groups
    return fit_typicality(features, groups, torch.Generator().manual_seed(seed))


@pytest.fixture
def rows():
    """Rows with correlated channels, in which a tenth of the cells are missing."""
    x = torch.randn(400, 2) @ torch.randn(2, 6) + 0.3 * torch.randn(400, 6)
    return x.masked_fill(torch.rand(x.shape) < 0.1, torch.nan)


def test_new_rows_of_the_training_population_are_reliable(rows):
    [module] = fit(rows[:250])
    share = (module(rows[250:]) == 1).double().mean()
    assert 0.85 < share < 1


def test_noise_and_gain_are_unreliable(rows):
    [module] = fit(rows[:250])
    new = rows[250:]
    noisy = new + 3 * rows.nan_to_num().std() * torch.randn(new.shape)
    assert (module(noisy) < 0.1).double().mean() > 0.8
    assert (module(20 * new) < 0.1).double().mean() > 0.8


def test_units_do_not_matter(rows):
    [one], [other] = fit(rows), fit(1000 * rows)
    torch.testing.assert_close(one(rows), other(1000 * rows), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("num", [3, 30])
def test_few_or_equal_training_rows_give_no_limit(num):
    [module] = fit(torch.ones(num, 2))
    assert float(module.limit) == 0
    assert torch.equal(module(torch.tensor([[9.0, -9.0]])), torch.ones(1).double())


def test_missing_rows_of_the_training_do_not_count(rows):
    poisoned = torch.cat([rows, torch.full((50, 6), torch.nan)])
    whole = torch.cat([rows, rows[:50]])
    module, _ = fit(poisoned, whole)
    assert torch.isfinite(module.landmark).all()
    assert float(module.limit) > 0


def test_landmarks_are_means_of_training_rows(rows):
    [module] = fit(rows)
    inputs = module.scaler(rows.sign() * rows.abs().sqrt())
    nearest = torch.cdist(module.landmark, inputs).amin(1)
    assert float(nearest.min()) > 0


def test_rows_are_held_out_with_their_group():
    """Repeated rows of one group do not make each other typical."""
    x = torch.randn(40, 3).repeat_interleave(6, dim=0)
    group = torch.arange(40).repeat_interleave(6)
    [alone], [grouped] = fit(x), fit(x, groups=group)
    assert float(grouped.limit) > 1.5 * float(alone.limit)


def test_one_group_is_divided_into_rows(rows):
    [module] = fit(rows, groups=torch.zeros(len(rows), dtype=torch.long))
    assert float(module.limit) > 0


def test_modules_have_the_sizes_of_their_configuration():
    module = Typicality(3, 7)
    assert module.landmark.shape == (7, 6)
