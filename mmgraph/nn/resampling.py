"""Sequences of several samples, and their resampling on a common clock.

A clock maps the rows of a sequence to places from 0 to 1: shares of a window of seconds
or, without times, of the number of rows.

Letters: ``L`` rows of all sequences, ``n`` sequences, ``T`` rows of the longest
sequence, ``P`` points of the clock, ``C`` channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_POINTS = 96
MIN_OVERLAP = 0.5  # of the duration of the shorter sequence
OUTSIDE = 0.25  # places beyond the clock are clipped at this distance


@dataclass(frozen=True)
class Sequences:
    """Sequences, packed or padded.

    Attributes:
        values: ``[L, C]`` rows of all sequences, or padded sequences ``[n, T, C]``.
        lengths: ``[n]`` number of rows of each sequence; at least 1 if packed.
        seconds: ``[L]`` or ``[n, T]`` times of the rows, ascending; None without times.
    """

    values: Tensor
    lengths: Tensor
    seconds: Tensor | None = None

    @property
    def is_padded(self) -> bool:
        """True for padded sequences, whose shapes do not depend on the data."""
        return self.values.ndim == 3

    @property
    def first_rows(self) -> Tensor:
        """``[n]`` index of the first row of each sequence among all rows."""
        if self.is_padded:
            steps = self.values.shape[1]
            return steps * torch.arange(self.values.shape[0], device=self.device)
        return self.lengths.cumsum(0) - self.lengths

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
        return self.values.device

    def repeat(self, x: Tensor) -> Tensor:
        """Repeat a number of each sequence ``[n]`` for its rows ``[L]``, ``[n, T]``."""
        if self.is_padded:
            return x[:, None].expand(-1, self.values.shape[1])
        return x.repeat_interleave(self.lengths)

    def places(self, window: Tensor | None = None) -> Tensor:
        """Return the place of each row on a clock as doubles, ``[L]`` or ``[n, T]``.

        Args:
            window: ``[n, 2]`` seconds at which the clock starts and ends; where NaN, or
                by default, the clock is the share of the rows of the sequence.
        """
        rows = self.repeat(torch.ones_like(self.lengths)).flatten().cumsum(0) - 1
        position = rows.view(self.values.shape[:-1]) - self.repeat(self.first_rows)
        last = self.repeat(self.lengths - 1)
        by_row = position.double() / last.clamp(min=1)
        if window is not None and self.seconds is not None:
            start, stop = (self.repeat(x) for x in window.double().unbind(1))
            by_time = (self.seconds - start) / (stop - start)
            by_row = torch.where(by_time.isnan(), by_row, by_time)
        outside = by_row.clamp(-OUTSIDE, 1 + OUTSIDE)
        return torch.where(position <= last, outside, 1 + OUTSIDE)


def common_window(sequences: Sequence[Sequences]) -> Tensor | None:
    """Return start and end of the seconds in which sequences overlap, ``[n, 2]``.

    Args:
        sequences: Sequences of several modalities of the same samples.

    Returns:
        NaN where the overlap is shorter than half of the shortest sequence; None if a
        modality has no times.
    """
    if any(s.seconds is None for s in sequences):
        return None
    begins, ends = [], []
    for s in sequences:
        assert s.seconds is not None
        seconds, first = s.seconds.flatten(), s.first_rows
        begins.append(seconds[first])
        ends.append(seconds[first + (s.lengths - 1).clamp(min=0)])
    start, stop = torch.stack(begins).amax(0), torch.stack(ends).amin(0)
    shortest = (torch.stack(ends) - torch.stack(begins)).amin(0)
    overlaps = (stop > start) & (stop - start >= MIN_OVERLAP * shortest)
    window = torch.stack([start, stop], -1)
    return torch.where(overlaps[:, None], window, torch.nan)


def resample(sequences: Sequence[Sequences], num_points: int = NUM_POINTS) -> Sequences:
    """Interpolate sequences linearly at equally spaced points, and join their channels.

    The clock runs over the seconds in which all sequences of a sample overlap, and over
    the share of the rows of each where they have no times or overlap too little. A
    point next to a missing cell is missing.

    Args:
        sequences: Sequences of one or several modalities of the same samples.
        num_points: ``P``, number of points.

    Returns:
        Padded sequences ``[n, P, C]``, or packed ones if the given ones are packed.
    """
    window = common_window(sequences)
    parts = [_interpolate(s, s.places(window), num_points) for s in sequences]
    values = torch.cat(parts, -1)
    lengths = torch.full_like(sequences[0].lengths, num_points)
    packed = not sequences[0].is_padded
    return Sequences(values.flatten(0, 1) if packed else values, lengths)


def _interpolate(sequences: Sequences, places: Tensor, num_points: int) -> Tensor:
    """Return values ``[n, P, C]`` at points from 0 to 1 of the places of the rows."""
    grid = torch.linspace(0, 1, num_points, dtype=torch.double, device=places.device)
    first, most = sequences.first_rows[:, None], sequences.lengths[:, None] - 1
    if sequences.is_padded:
        behind = (places[:, None] <= grid[:, None]).sum(-1)  # [n, P]
    else:
        number = torch.arange(len(first), device=places.device)
        key = places + 2 * sequences.repeat(number)  # ascending over all sequences
        goal = grid + 2 * number[:, None]
        behind = torch.searchsorted(key, goal, right=True) - first
    low = torch.minimum(behind - 1, most).clamp(min=0)
    high = torch.minimum(low + 1, most).clamp(min=0)
    low, high = first + low, first + high
    values, places = sequences.values.flatten(0, -2), places.flatten()
    gap = places[high] - places[low]
    share = (grid - places[low]) / torch.where(gap > 0, gap, 1)
    share = share.clamp(0, 1)[..., None].to(values.dtype)
    a, b = values[low], values[high]
    between = torch.where(share < 1, a + share * (b - a), b)
    return torch.where(share > 0, between, a)
