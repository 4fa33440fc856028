"""Products of two sequences at all lags, and the peaks of curves over lags.

Letters: ``P`` and ``Q`` cells of two sequences, ``F`` and ``G`` columns, ``K`` lags on
each side, ``W`` curves, ``U`` units.
"""

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.interpolate import CubicSpline

from mmgraph.alignment.rows import FloatArray

BOOTSTRAPS = 200
APART = 0.1  # share of the lags that belong to the peak itself, on each side
FINER = 8  # points of an interval for each lag
TAILS = 0.05, 0.95  # of 90% intervals


def correlate(x: FloatArray, y: FloatArray, lags: int, shift: float) -> FloatArray:
    """Return sums of products at lags, ``[2 K + 1]``, also between cells.

    Entry k is the sum over columns and cells q of ``x[q + k - K + shift] y[q]``, by the
    Fourier transform, with zeros behind the ends.

    Args:
        x: ``[P, F]``.
        y: ``[Q, F]``.
        lags: K.
        shift: Cells by which all lags are shifted; need not be whole.
    """
    size = next_fast_len(len(x) + len(y), real=True)
    spectrum = (rfft(x, size, axis=0) * rfft(y, size, axis=0).conj()).sum(axis=1)
    return _at_lags(spectrum[:, None], size, len(x), len(y), lags, shift)[:, 0]


def correlate_each(x: FloatArray, y: FloatArray, lags: int, shift: float) -> FloatArray:
    """Return sums of products of all pairs of columns, ``[2 K + 1, F, G]``.

    See :func:`correlate`.
    """
    size = next_fast_len(len(x) + len(y), real=True)
    left, right = rfft(x, size, axis=0), rfft(y, size, axis=0).conj()
    spectrum = left[:, :, None] * right[:, None, :]
    flat = spectrum.reshape(len(spectrum), -1)
    found = _at_lags(flat, size, len(x), len(y), lags, shift)
    return found.reshape(-1, x.shape[1], y.shape[1])


def _at_lags(
    spectrum: FloatArray, size: int, ahead: int, behind: int, lags: int, shift: float
) -> FloatArray:
    """Return sums ``[2 K + 1, F]``, given their spectrum ``[S, F]``."""
    whole = round(shift)
    rest = shift - whole
    if abs(rest) > 1e-9:
        angle = 2j * np.pi * rest * np.arange(len(spectrum)) / size
        spectrum = spectrum * np.exp(angle)[:, None]
    sums = irfft(spectrum, size, axis=0)
    wanted = np.arange(-lags, lags + 1) + whole
    inside = (wanted > -behind) & (wanted < ahead)
    return np.asarray(np.where(inside[:, None], sums[np.where(inside, wanted, 0)], 0))


def refined_peak(curves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the positions and heights of the peaks of curves, by a parabola.

    Args:
        curves: ``[W, L]``.

    Returns:
        ``[W]`` positions between 0 and L - 1, and ``[W]`` heights.
    """
    rows, width = np.arange(len(curves)), curves.shape[1]
    top = curves.argmax(axis=1)
    before, after = np.maximum(top - 1, 0), np.minimum(top + 1, width - 1)
    low, middle, high = curves[rows, before], curves[rows, top], curves[rows, after]
    bend = low - 2 * middle + high
    inner = (before < top) & (top < after) & (bend < 0)
    ahead = np.where(inner, 0.5 * (low - high) / np.where(inner, bend, 1), 0)
    return top + ahead, middle - 0.25 * (low - high) * ahead


def peak_score(curves: FloatArray) -> FloatArray:
    """Return the height of peaks above the highest value at other lags, ``[W]``.

    The unit is the standard deviation of the values at other lags: those farther from
    the peak than a tenth of all. A curve without spread scores 0.
    """
    top = curves.argmax(axis=1)
    place = np.arange(curves.shape[1])
    other = np.abs(place - top[:, None]) > APART * curves.shape[1]
    outside = np.where(other, curves, np.nan)
    spread = np.nanstd(outside, axis=1)
    height = curves.max(axis=1) - np.nanmax(outside, axis=1)
    return np.where(spread > 0, height / np.where(spread > 0, spread, 1), 0)


def draw_weights(units: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each unit is drawn in each bootstrap, ``[200, U]``."""
    share = np.full(units, 1 / units)
    return rng.multinomial(units, share, size=BOOTSTRAPS).astype(np.float64)


class TemperedIntervals:
    """90% intervals of lags whose log-probabilities are curves over a temperature.

    Args:
        curves: ``[W, L]`` log-likelihood ratios.
        seconds: ``[L]`` lags, equally spaced.
    """

    def __init__(self, curves: FloatArray, seconds: FloatArray) -> None:
        count = FINER * (len(seconds) - 1) + 1
        self.seconds = np.linspace(seconds[0], seconds[-1], count)
        smooth = CubicSpline(seconds, curves, axis=1)(self.seconds)
        self.curves = smooth - smooth.max(axis=1, keepdims=True)

    def at(self, temperature: float) -> FloatArray:
        """Return the ends of the intervals, ``[2, W]``."""
        share = np.exp(self.curves / temperature).cumsum(axis=1)
        low, high = ((share >= tail * share[:, -1:]).argmax(axis=1) for tail in TAILS)
        return np.asarray(self.seconds[np.stack([np.maximum(low - 1, 0), high])])
