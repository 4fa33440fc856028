"""RandomConvolution: the formula, and independence of a sequence from the others."""

import pytest
import torch

from mmgraph.nn.random_convolution import KERNELS, STEP, TAPS, RandomConvolution

LENGTHS = torch.tensor([1, 2, 30, 17, 9, 40, 5])
FIRST = LENGTHS.cumsum(0) - LENGTHS


def rows(channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(int(LENGTHS.sum()), channels, generator=generator)
    values[::11, 1] = torch.nan
    return values


def fitted(ends: tuple[int, ...] = (3,)) -> RandomConvolution:
    module = RandomConvolution(ends, num_dilations=3)
    module.fit(rows(sum(ends)), LENGTHS, torch.Generator().manual_seed(0))
    return module


def test_features_of_training_sequences_are_standardized():
    module = RandomConvolution([3])
    z = module.fit(rows(), LENGTHS, torch.Generator().manual_seed(0))
    assert z.shape == (len(LENGTHS), module.out_features)
    torch.testing.assert_close(z, module(rows(), LENGTHS))
    assert z.square().sum(1).mean() == pytest.approx(1, abs=0.1)
    assert z.mean(0).abs().max() < 1e-5


def test_shares_excess_and_positions_follow_the_formula():
    module = fitted()
    number, d, kernel, q = 2, 1, 5, 1
    x = module._inputs(rows())[FIRST[number] : FIRST[number] + LENGTHS[number]]
    mixed = x @ module.mixing[d, kernel]
    weights = torch.full((TAPS,), -1.0)
    weights[list(KERNELS[kernel])] = 2.0
    reach = int(module.dilation[d]) * (TAPS // 2)
    padded = torch.nn.functional.pad(mixed, (reach, reach))[None, None]
    response = torch.nn.functional.conv1d(
        padded, weights[None, None], dilation=int(module.dilation[d])
    )[0, 0]
    assert len(response) == LENGTHS[number]
    excess = response - module.threshold[d, kernel, q]
    above = excess > 0
    place = (torch.arange(len(response)) + 0.5) / len(response)
    expected = [
        above.float().mean(),
        excess[above].sum() / (1 + above.sum()),
        place[above].sum() / (1 + above.sum()),
    ]
    shape = len(LENGTHS), 3, 3, len(KERNELS), 2
    pooled = module._pool(rows(), LENGTHS).view(shape)[number, d, :, kernel, q]
    torch.testing.assert_close(pooled, torch.stack(expected))


def test_sequence_alone_equals_sequence_in_a_batch():
    module, together = fitted(), fitted()(rows(), LENGTHS)
    for i, (first, length) in enumerate(zip(FIRST, LENGTHS, strict=True)):
        alone = module(rows()[first : first + length], LENGTHS[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-6, rtol=0)


def test_padded_sequences_have_the_features_of_packed_ones():
    module = fitted()
    padded = torch.full((len(LENGTHS), 50, 3), 1e6)
    for x, first, length in zip(padded, FIRST, LENGTHS, strict=True):
        x[:length] = rows()[first : first + length]
    packed = module(rows(), LENGTHS)
    torch.testing.assert_close(module(padded, LENGTHS), packed, atol=1e-6, rtol=0)


def test_chunks_do_not_matter(monkeypatch):
    module = fitted()
    whole = module(rows(), LENGTHS)
    monkeypatch.setattr("mmgraph.nn.random_convolution.CHUNK_ROWS", 7)
    torch.testing.assert_close(module(rows(), LENGTHS), whole, atol=1e-6, rtol=0)


def test_kernels_of_joined_sequences_read_each_of_them():
    module = fitted((2, 3))
    first, second = module.mixing.split([2, 3], -1)
    assert (first != 0).any(-1).all()
    assert (second != 0).any(-1).all()
    assert (module.mixing < 0).any()
    assert (fitted().mixing >= 0).all()


def test_constant_sequences_are_not_at_a_threshold():
    values = torch.full((60, 2), 3.7)
    module = RandomConvolution([2])
    module.fit(values, torch.tensor([20, 40]), torch.Generator().manual_seed(0))
    distance = (module.threshold / STEP).frac().abs()
    torch.testing.assert_close(distance, torch.full_like(distance, 0.5))
    assert module(values, torch.tensor([20, 40])).isfinite().all()


def test_missing_cells_count_as_the_mean():
    module = fitted()
    values = rows()
    filled = torch.where(values.isnan(), module.mean, values)
    torch.testing.assert_close(
        module(filled, LENGTHS), module(values, LENGTHS), atol=1e-5, rtol=0
    )
