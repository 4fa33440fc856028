"""Resampling of sequences on a clock that several sequences have in common.

A clock maps the rows of a sequence to places from 0 to 1: shares of a window of seconds
or, without times, of the number of rows.

Letters: ``L`` rows of all sequences, ``n`` sequences, ``T`` rows of the longest
sequence, ``P`` points of the clock, ``C`` channels, ``E`` sequences of a sample.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

NUM_POINTS = 96
MIN_OVERLAP = 0.5  # of the duration of the shorter sequence
OUTSIDE = 0.25  # places beyond the clock are clipped at this distance


def place_by_row(position: Tensor, length: Tensor) -> Tensor:
    """Return the share of a sequence before each row, from 0 to 1, as doubles.

    Args:
        position: Position of each row in its sequence.
        length: Number of rows of its sequence, broadcast to the positions.
    """
    return position.double() / (length - 1).clamp(min=1)


def common_window(first: Sequence[Tensor], last: Sequence[Tensor]) -> Tensor:
    """Return start and end of the seconds in which all sequences overlap, ``[n, 2]``.

    Args:
        first: ``E`` first times ``[n]``.
        last: ``E`` last times ``[n]``.

    Returns:
        NaN where the overlap is empty, or shorter than half of the shortest sequence.
    """
    begins, ends = torch.stack(list(first)), torch.stack(list(last))
    start, stop = begins.amax(0), ends.amin(0)
    shortest = (ends - begins).amin(0)
    overlaps = (stop > start) & (stop - start >= MIN_OVERLAP * shortest)
    window = torch.stack([start, stop], -1)
    return torch.where(overlaps[:, None], window, torch.nan)


def resample(
    values: Tensor, place: Tensor, lengths: Tensor, num_points: int = NUM_POINTS
) -> Tensor:
    """Interpolate sequences linearly at equally spaced points of a clock.

    Before the first row and after the last one, that row is repeated. A point next to a
    missing cell is missing.

    Args:
        values: ``[L, C]`` rows of all sequences, or padded sequences ``[n, T, C]``.
        place: ``[L]`` or ``[n, T]`` double, place of each row on the clock, ascending
            within a sequence; the clock runs from 0 to 1.
        lengths: ``[n]`` number of rows of each sequence; at least 1, unless sequences
            are padded.
        num_points: ``P``.

    Returns:
        ``[n, P, C]``.
    """
    grid = torch.linspace(0, 1, num_points, dtype=torch.double, device=place.device)
    place = place.clamp(-OUTSIDE, 1 + OUTSIDE)
    if values.ndim == 3:
        step = values.shape[1]
        first = torch.arange(values.shape[0], device=values.device) * step
        exists = torch.arange(step, device=values.device) < lengths[:, None]
        before = (place[:, None] <= grid[:, None]) & exists[:, None]  # [n, P, T]
        behind = before.sum(-1)
        values, place = values.flatten(0, 1), place.flatten()
    else:
        first = lengths.cumsum(0) - lengths
        sample = torch.repeat_interleave(lengths)
        rows = torch.arange(len(lengths), device=place.device)[:, None]
        key = place + 2 * sample  # ascending over all sequences
        behind = torch.searchsorted(key, grid + 2 * rows, right=True) - first[:, None]
    most = (lengths[:, None] - 1).clamp(min=0)
    low = (behind - 1).clamp(min=0).minimum(most)
    high = (low + 1).minimum(most)
    low, high = first[:, None] + low, first[:, None] + high
    gap = place[high] - place[low]
    share = (grid - place[low]) / torch.where(gap > 0, gap, 1)
    share = share.clamp(0, 1)[..., None].to(values.dtype)
    a, b = values[low], values[high]
    between = torch.where(share < 1, a + share * (b - a), b)
    return torch.where(share > 0, between, a)
