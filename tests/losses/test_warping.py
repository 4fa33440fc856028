"""Soft-DTW: reference loop, gradients, ends of padded sequences, bands, errors."""

import math
from itertools import pairwise

import pytest
import torch

from mmgraph import losses
from mmgraph.errors import ConfigError, DataError

NAN = math.nan
LENGTHS_X, LENGTHS_Y = torch.tensor([5, 3, 1, 4, 1]), torch.tensor([7, 2, 4, 1, 1])


def costs(*shape):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=True)


def sequences(count, steps, channels=2):
    return torch.randn(count, steps, channels, dtype=torch.float64)


def cell_loop(cost, gamma, allowed=None):
    """Return the soft-DTW of one pair, cell by cell."""
    value = {}
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            if allowed is not None and not allowed[i, j]:
                continue
            cells = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            before = [value[cell] for cell in cells if cell in value]
            if i == j == 0:
                least = 0
            elif not before:
                continue
            elif gamma:
                least = -gamma * torch.logsumexp(-torch.stack(before) / gamma, 0)
            else:
                least = torch.stack(before).min()
            value[i, j] = cost[i, j] + least
    return value[cost.shape[0] - 1, cost.shape[1] - 1]


def loop(cost, gamma):
    sizes = zip(cost, LENGTHS_X.tolist(), LENGTHS_Y.tolist(), strict=True)
    return torch.stack([cell_loop(each[:t, :s], gamma) for each, t, s in sizes])


@pytest.mark.parametrize("gamma", [1.0, 0.1, 0.0])
def test_values_and_gradients_equal_the_loop_over_cells(gamma):
    cost = costs(5, 5, 7)
    weight = torch.rand(5, dtype=torch.float64)
    value = losses.soft_dtw(cost, LENGTHS_X, LENGTHS_Y, gamma=gamma)
    expected = loop(cost, gamma)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(value @ weight, cost)
    (reference,) = torch.autograd.grad(expected @ weight, cost)
    torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


def test_gradients_equal_finite_differences():
    cost = costs(5, 5, 7)
    assert torch.autograd.gradcheck(
        lambda c: losses.soft_dtw(c, LENGTHS_X, LENGTHS_Y, gamma=0.5, band=0.9), cost
    )
    x, y = (sequences(2, n).requires_grad_() for n in (4, 3))
    lengths = torch.tensor([4, 2]), torch.tensor([3, 3])
    assert torch.autograd.gradcheck(
        lambda x, y: losses.soft_dtw_divergence(x, y, *lengths), (x, y)
    )


def test_nothing_behind_the_ends_is_read():
    x, y = sequences(2, 5), sequences(2, 6)
    lengths = torch.tensor([3, 5]), torch.tensor([6, 2])
    results = []
    for filling in (0.0, NAN, math.inf):
        a, b = x.clone(), y.clone()
        a[0, 3:], b[1, 2:] = filling, filling
        a.requires_grad_()
        value = losses.soft_dtw_divergence(a, b, *lengths)
        (gradient,) = torch.autograd.grad(value.sum(), a)
        assert not gradient[0, 3:].any()
        assert gradient[0, :3].all()
        results.append((value.detach(), gradient))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_a_pair_has_the_same_value_alone_and_in_a_padded_batch():
    cost = costs(5, 5, 7)
    together = losses.soft_dtw(cost, LENGTHS_X, LENGTHS_Y)
    for i, (t, s) in enumerate(zip(LENGTHS_X, LENGTHS_Y, strict=True)):
        assert torch.equal(losses.soft_dtw(cost[i : i + 1, :t, :s])[0], together[i])


def test_an_empty_sequence_has_zero_loss_and_gradient():
    cost = costs(2, 3, 3)
    value = losses.soft_dtw(cost, torch.tensor([0, 2]), torch.tensor([3, 3]))
    assert value[0] == 0
    (gradient,) = torch.autograd.grad(value.sum(), cost)
    assert not gradient[0].any()
    assert gradient[1].any()
    x, y = sequences(2, 3), sequences(2, 4)
    value = losses.soft_dtw_divergence(x, y, lengths_y=torch.tensor([0, 4]))
    assert value[0] == 0
    assert value[1] > 0
    assert losses.soft_dtw(costs(2, 0, 3)).tolist() == [0, 0]
    assert losses.soft_dtw(costs(0, 2, 3)).shape == (0,)


def test_sequences_of_one_step_are_matched_with_all_steps():
    x, y = sequences(1, 1), sequences(1, 6)
    total = (x - y).square().sum()
    cost = torch.cdist(x, y).square()
    for band in (None, 0.0):
        torch.testing.assert_close(losses.soft_dtw(cost, band=band)[0], total)
        rows = losses.soft_dtw(cost.mT, gamma=0.0, band=band)[0]
        torch.testing.assert_close(rows, total)


@pytest.mark.parametrize(("steps", "band"), [((8, 8), 0.2), ((9, 4), 0.4)])
def test_a_band_limits_the_difference_of_relative_positions(steps, band):
    cost = costs(1, *steps)
    place = [torch.arange(n, dtype=torch.float64) / (n - 1) for n in steps]
    allowed = (place[0][:, None] - place[1]).abs() <= band
    value = losses.soft_dtw(cost, band=band)[0]
    torch.testing.assert_close(value, cell_loop(cost[0], 1.0, allowed))
    assert value > losses.soft_dtw(cost)[0]
    (gradient,) = torch.autograd.grad(value, cost)
    assert not gradient[0][~allowed].any()


def test_the_narrowest_band_is_the_diagonal():
    cost = costs(3, 6, 6)
    diagonal = cost.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(losses.soft_dtw(cost, gamma=0.0, band=0.0), diagonal)
    assert torch.allclose(losses.soft_dtw(cost, band=1.0), losses.soft_dtw(cost))


def test_the_smoothing_tends_to_dtw_from_below():
    cost = costs(4, 6, 5)
    values = [losses.soft_dtw(cost, gamma=g) for g in (1.0, 0.1, 1e-3, 0.0)]
    for smooth, sharp in pairwise(values):
        assert (smooth <= sharp + 1e-12).all()
    torch.testing.assert_close(values[2], values[3], rtol=0, atol=0.02)


def test_the_divergence_is_zero_at_equality_symmetric_and_not_negative():
    for draw in range(25):
        generator = torch.Generator().manual_seed(draw)
        size = torch.randint(1, 9, (2, 20), generator=generator)
        x, y = (
            torch.randn(20, 8, 2, dtype=torch.float64, generator=generator)
            for _ in range(2)
        )
        scale = 10.0 ** (draw % 4 - 2)
        value = losses.soft_dtw_divergence(scale * x, scale * y, *size)
        assert (value >= -1e-9).all()
        assert losses.soft_dtw_divergence(x, x, size[0], size[0]).tolist() == [0] * 20
        swapped = losses.soft_dtw_divergence(scale * y, scale * x, size[1], size[0])
        torch.testing.assert_close(swapped, value)


def test_a_mean_of_sequences_is_found_by_its_gradient():
    x = torch.sin(torch.linspace(0, 6, 12))[None, :, None]
    late = torch.sin(torch.linspace(-0.6, 5.4, 12))[None, :, None]
    fitted = torch.zeros(1, 12, 1, requires_grad=True)
    optimizer = torch.optim.Adam([fitted], 0.3)
    for _ in range(15):
        optimizer.zero_grad()
        pairs = fitted.expand(2, -1, -1), torch.cat([x, late])
        loss = losses.soft_dtw_divergence(*pairs, gamma=0.1).mean()
        loss.backward()
        optimizer.step()
    between = losses.soft_dtw_divergence(x, late, gamma=0.1)
    assert loss < 0.7 * between
    assert fitted.max() > 0.7


def test_half_precision_is_summed_in_float32():
    x, y = sequences(2, 5).half(), sequences(2, 4).half()
    value = losses.soft_dtw_divergence(x, y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, losses.soft_dtw_divergence(x.float(), y.float()))


def test_bands_without_a_path_are_refused():
    cost = costs(2, 9, 4)
    with pytest.raises(
        DataError, match=r"band must leave a path .* got 0\.01 for lengths 9 and 4"
    ):
        losses.soft_dtw(cost, band=0.01)
    lengths = torch.tensor([4, 9]), torch.tensor([4, 4])
    with pytest.raises(DataError, match=r"of pair 1\. Widen the band"):
        losses.soft_dtw(cost, *lengths, band=0.01)


def test_options_and_lengths_are_checked():
    cost, lengths = costs(2, 3, 3), torch.tensor([1, 4])
    with pytest.raises(ConfigError, match="gamma must be a number of at least 0"):
        losses.soft_dtw(cost, gamma=-1.0)
    with pytest.raises(ConfigError, match="band must be a number from 0 to 1"):
        losses.soft_dtw(cost, band=1.5)
    with pytest.raises(DataError, match="lengths_y must be between 0 and the 3 steps"):
        losses.soft_dtw(cost, None, lengths)
    x = sequences(2, 3)
    x[1, 2] = NAN
    message = "x must be finite within the lengths .* in pair 1. Pass lengths_x"
    with pytest.raises(DataError, match=message):
        losses.soft_dtw_divergence(x, sequences(2, 3))
    with pytest.raises(DataError, match="cost must be finite within the lengths"):
        losses.soft_dtw(torch.full((1, 2, 2), NAN))


@pytest.mark.usefixtures("unchecked")
def test_sequences_of_unequal_lengths_need_lengths():
    ragged = [torch.zeros(3, 1), torch.zeros(2, 1)]
    message = r"x must be a tensor \[B, T, C\] .* got list\. Pad .* pass lengths_x"
    with pytest.raises(DataError, match=message):
        losses.soft_dtw_divergence(ragged, torch.zeros(2, 3, 1))
    pair = torch.zeros(2, 3, 1), torch.zeros(2, 3, 2)
    with pytest.raises(DataError, match="same number of pairs and of channels"):
        losses.soft_dtw_divergence(*pair)
    with pytest.raises(DataError, match=r"got int64 of shape \[1, 2, 2\]"):
        losses.soft_dtw(torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(DataError, match="lengths_x must be a tensor of 2 whole"):
        losses.soft_dtw(torch.zeros(2, 3, 3), torch.tensor([3]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_values_and_gradients_on_cuda_equal_those_on_the_cpu():
    cost = costs(5, 5, 7)
    (expected,) = torch.autograd.grad(
        losses.soft_dtw(cost, LENGTHS_X, LENGTHS_Y, band=0.8).sum(), cost
    )
    moved = cost.detach().cuda().requires_grad_()
    value = losses.soft_dtw(moved, LENGTHS_X.cuda(), LENGTHS_Y.cuda(), band=0.8)
    (gradient,) = torch.autograd.grad(value.sum(), moved)
    torch.testing.assert_close(gradient.cpu(), expected)
