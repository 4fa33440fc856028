"""Resampling on a common clock: linear interpolation by rows or by seconds."""

import numpy as np
import pytest
import torch

from mmgraph.nn.resampling import Sequences, common_window, resample

LENGTHS = torch.tensor([4, 1, 7])


def packed(*, seconds: bool = False, channels: int = 2) -> Sequences:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(int(LENGTHS.sum()), channels, generator=generator)
    steps = torch.rand(len(values), generator=generator, dtype=torch.double) + 0.1
    times = torch.cat([x.cumsum(0) for x in steps.split(LENGTHS.tolist())])
    return Sequences(values, LENGTHS, times if seconds else None)


def padded(sequences: Sequences, steps: int = 9) -> Sequences:
    """Return the padded form, with any content behind the end."""
    values = torch.full((len(LENGTHS), steps, sequences.values.shape[1]), 1e6)
    seconds = torch.zeros(len(LENGTHS), steps, dtype=torch.double)
    parts = sequences.values.split(LENGTHS.tolist())
    for i, part in enumerate(parts):
        values[i, : len(part)] = part
    if sequences.seconds is None:
        return Sequences(values, LENGTHS)
    for i, part in enumerate(sequences.seconds.split(LENGTHS.tolist())):
        seconds[i, : len(part)] = part
    return Sequences(values, LENGTHS, seconds)


@pytest.mark.parametrize("seconds", [False, True])
def test_points_are_interpolated_linearly(seconds):
    sequences = packed(seconds=seconds)
    result = resample([sequences], num_points=11).values.view(3, 11, 2)
    first = 0
    for i, length in enumerate(LENGTHS.tolist()):
        x = sequences.values[first : first + length].double().numpy()
        t = np.arange(length) if not seconds else sequences.seconds.numpy()[first:]
        t = t[:length]
        grid = np.linspace(t[0], t[-1], 11)
        expected = np.stack([np.interp(grid, t, x[:, c]) for c in range(2)], 1)
        np.testing.assert_allclose(result[i], expected, atol=1e-5)
        first += length


@pytest.mark.parametrize("seconds", [False, True])
def test_padded_sequences_equal_packed_ones(seconds):
    sequences = packed(seconds=seconds)
    expected = resample([sequences], num_points=5).values
    result = resample([padded(sequences)], num_points=5)
    assert result.values.shape == (3, 5, 2)
    torch.testing.assert_close(result.values.flatten(0, 1), expected)


def test_a_pair_is_joined_in_the_seconds_that_overlap():
    left = Sequences(
        torch.arange(5.0)[:, None], torch.tensor([5]), torch.arange(5.0).double()
    )
    right = Sequences(
        10 * torch.arange(2.0, 7.0)[:, None],
        torch.tensor([5]),
        torch.arange(2.0, 7.0).double(),
    )
    assert common_window([left, right]).tolist() == [[2.0, 4.0]]
    joined = resample([left, right], num_points=3).values
    assert joined.tolist() == [[2.0, 20.0], [3.0, 30.0], [4.0, 40.0]]


def test_shares_of_the_recording_stand_in_for_too_little_overlap():
    left = Sequences(
        torch.arange(3.0)[:, None], torch.tensor([3]), torch.arange(3.0).double()
    )
    right = Sequences(
        torch.arange(3.0)[:, None], torch.tensor([3]), torch.arange(100.0, 103).double()
    )
    assert common_window([left, right]).isnan().all()
    joined = resample([left, right], num_points=3).values
    assert torch.equal(joined[:, 0], joined[:, 1])


def test_a_point_next_to_a_missing_cell_is_missing():
    values = torch.tensor([[0.0], [torch.nan], [2.0], [3.0]])
    result = resample([Sequences(values, torch.tensor([4]))], num_points=7).values
    assert result[:, 0].isnan().tolist() == [False, *[True] * 3, False, False, False]


def test_times_far_from_the_origin_keep_their_differences():
    near = packed(seconds=True)
    far = Sequences(near.values, near.lengths, near.seconds + 1.7e9)
    torch.testing.assert_close(
        resample([far]).values, resample([near]).values, atol=1e-4, rtol=0
    )
