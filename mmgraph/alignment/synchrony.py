"""How two modalities vary together: curves of evidence over the lag between them.

A curve is a log-likelihood ratio of dependence against independence, by lag. Curves of
samples add up.

Letters: ``N`` samples, ``P`` cells of a grid, ``F`` features, ``R`` components, ``K``
lags on each side, ``U`` units of a bootstrap, ``W`` bootstraps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mmgraph.alignment.canonical import CCA
from mmgraph.alignment.lags import correlate, correlate_each, refined_peak
from mmgraph.alignment.rows import FloatArray
from mmgraph.alignment.signals import FeatureMap, Recording, add_lags, complete
from mmgraph.errors import DataError

Pair: TypeAlias = tuple[Recording, Recording]
Arrays: TypeAlias = tuple[FloatArray, FloatArray]

NUM_COMPONENTS = 5
RIDGE = 0.01
MOST_ROWS = 100_000  # of a fit
LARGEST = 0.999  # correlation
FEW = 5  # recordings, of which blocks are drawn
BLOCK_SECONDS = 1.0
FEWEST = 0.1  # share of the most cells that a lag must have


@dataclass(frozen=True)
class Lags:
    """Lags at which recordings are compared.

    Attributes:
        step: Seconds between cells of the grid.
        count: Lags on each side of the middle, K.
        spacing: Cells between the lags of features.
        phase: Seconds of the middle lag, within half a step of 0.
    """

    step: float
    count: int
    spacing: int
    phase: float = 0.0

    @property
    def seconds(self) -> FloatArray:
        """Seconds of all lags, ``[2 K + 1]``."""
        lags = np.arange(-self.count, self.count + 1, dtype=np.float64)
        return lags * self.step + self.phase

    def shift(self, a: Recording, b: Recording) -> float:
        """Return the cells by which the starts of two recordings differ."""
        return (self.phase - (a.start - b.start)) / self.step


@dataclass(frozen=True)
class VariateModel:
    """Joint Gaussian distribution of canonical variates of recordings in step.

    Attributes:
        features: Features of both modalities.
        cca: Canonical correlation analysis of features with lags.
        deviations: ``[R]`` standard deviations of the variates of both.
        correlations: ``[R]`` correlations of the variates.
        lags: Lags of recordings in step.
        origin: Lag in seconds at which recordings in step agree best, about 0.
    """

    features: tuple[FeatureMap, FeatureMap]
    cca: CCA
    deviations: tuple[FloatArray, FloatArray]
    correlations: FloatArray
    lags: Lags
    origin: float = 0.0

    @classmethod
    def fit(cls, pairs: Sequence[Pair], lags: Lags) -> "VariateModel":
        """Fit to recordings in step, with common cells.

        Raises:
            DataError: If no recordings overlap in time.
        """
        lags = replace(lags, phase=0.0)
        first = FeatureMap.fit([a for a, _ in pairs])
        second = FeatureMap.fit([b for _, b in pairs])
        rows: list[tuple[FloatArray, FloatArray]] = []
        for a, b in pairs:
            x, y = _overlap(first(a), second(b), lags)
            both = complete(x) & complete(y)
            rows.append((x[both], y[both]))
        x, y = (np.concatenate(side) for side in zip(*rows, strict=True))
        if not len(x):
            raise DataError(
                "Recordings in step must overlap in time, got none with common cells."
                " Compare the origins of both clocks, and the gaps between rows."
            )
        kept = slice(None, None, len(x) // MOST_ROWS + 1)
        cells = {"a": x[kept], "b": y[kept]}
        cca = CCA(NUM_COMPONENTS, ridge=RIDGE).fit(cells)
        left, right = cca.transform(cells).values()
        deviations = left.std(axis=0), right.std(axis=0)
        scale = deviations[0] * deviations[1]
        covariance = (left * right).mean(axis=0)
        correlations = (covariance / np.where(scale > 0, scale, 1)).clip(0, LARGEST)
        model = cls((first, second), cca, deviations, correlations, lags)
        total = model.curves(pairs, lags).sum(axis=0, keepdims=True)
        return replace(model, origin=float(peak_seconds(total, lags)[0]))

    def variates(self, pair: Pair) -> Pair:
        """Return standardized variates of both recordings, NaN where unknown."""
        found = []
        for name, each, features, deviation in zip(
            "ab", pair, self.features, self.deviations, strict=True
        ):
            x = add_lags(features(each).values, self.lags.spacing)
            x[~complete(x)] = np.nan
            variates = self.cca.transform({name: x})[name]
            scaled = variates / np.where(deviation > 0, deviation, 1)
            found.append(Recording(each.start, scaled))
        return found[0], found[1]

    def curves(self, pairs: Sequence[Pair], lags: Lags) -> FloatArray:
        """Return the log-likelihood ratio of each pair at each lag, ``[N, 2 K + 1]``.

        For one component of correlation r, a cell with variates u and v contributes
        ``-log(1 - r^2) / 2 - (r^2 (u^2 + v^2) - 2 r u v) / (2 (1 - r^2))``.
        """
        r = self.correlations
        rest = 1 - r**2
        constant = -0.5 * np.log(rest).sum()
        square, product = -0.5 * r**2 / rest, r / rest
        rows = []
        for pair in pairs:
            left, right = self.variates(pair)
            (u, seen_u), (v, seen_v) = (_known(each.values) for each in (left, right))
            x = [u * product, (u**2 @ square)[:, None], seen_u * constant, seen_u]
            y = [v, seen_v, seen_v, (v**2 @ square)[:, None]]
            a, b = (np.concatenate(side, axis=1) for side in (x, y))
            rows.append(correlate(a, b, lags.count, lags.shift(left, right)))
        return np.stack(rows)


@dataclass(frozen=True)
class Dependence:
    """Gaussian mutual information of two modalities at each lag.

    Attributes:
        products: ``[U, 2 K + 1, F, F]`` sums of products of whitened features.
        count: ``[U, 2 K + 1]`` cells with both.
    """

    products: FloatArray
    count: FloatArray

    @classmethod
    def fit(cls, pairs: Sequence[Pair], lags: Lags, units: int) -> "Dependence":
        """Sum the products of recordings.

        Args:
            pairs: Recordings.
            lags: Lags.
            units: Number of units of a bootstrap at most. With fewer recordings, blocks
                of recordings are units.
        """
        first = _whitened([a for a, _ in pairs])
        second = _whitened([b for _, b in pairs])
        width = first[0].values.shape[1], second[0].values.shape[1]
        size = max(units, len(pairs)) if len(pairs) < FEW else min(units, len(pairs))
        products = np.zeros((size, 2 * lags.count + 1, *width))
        count = np.zeros((size, 2 * lags.count + 1))
        unit = 0
        for a, whole in zip(first, second, strict=True):
            for b in _blocks(whole, size // len(pairs), lags.step):
                (x, seen_x), (y, seen_y) = (_known(each.values) for each in (a, b))
                shift, k = lags.shift(a, b), unit % size
                products[k] += correlate_each(x, y, lags.count, shift)
                count[k] += correlate(seen_x, seen_y, lags.count, shift)
                unit += 1
        return cls(products[:unit], count[:unit])

    def curves(self, weights: FloatArray) -> FloatArray:
        """Return the log-likelihood ratio of dependence, ``[W, 2 K + 1]``.

        Lags at which few cells overlap have no evidence.

        Args:
            weights: ``[W, U]`` how often each unit counts.
        """
        rows = []
        for weight in weights:
            count = weight @ self.count
            enough = count > FEWEST * max(count.max(), 1)
            mean = np.tensordot(weight, self.products, 1)
            mean = mean / np.where(enough, count, np.inf)[:, None, None]
            squares = np.linalg.eigvalsh(mean @ mean.mT).clip(0, LARGEST**2)
            rows.append(-0.5 * count * np.log1p(-squares).sum(axis=1))
        return np.stack(rows)


def peak_seconds(curves: FloatArray, lags: Lags) -> FloatArray:
    """Return the seconds of the peaks of curves ``[W, 2 K + 1]``."""
    return lags.step * (refined_peak(curves)[0] - lags.count) + lags.phase


def _overlap(a: Recording, b: Recording, lags: Lags) -> Arrays:
    """Return features with lags of the cells that both have, ``[P, F]`` each."""
    x, y = (add_lags(each.values, lags.spacing) for each in (a, b))
    behind = round((a.start - b.start) / lags.step)  # cells of b before the first of a
    x, y = x[max(-behind, 0) :], y[max(behind, 0) :]
    count = min(len(x), len(y))
    return x[:count], y[:count]


def _blocks(recording: Recording, count: int, step: float) -> list[Recording]:
    """Return parts of a recording of at least one second, at most ``count``."""
    cells = len(recording.values)
    count = min(count, int(cells * step / BLOCK_SECONDS))
    parts = np.array_split(np.arange(cells), max(count, 1))
    return [
        Recording(recording.start + step * part[0], recording.values[part])
        for part in parts
    ]


def _whitened(recordings: Sequence[Recording]) -> list[Recording]:
    """Return features with about the identity as their covariance."""
    features = FeatureMap.fit(recordings)
    found = [features(each) for each in recordings]
    rows = np.concatenate([each.values for each in found])
    rows = rows[complete(rows)]
    if not len(rows):
        return found
    covariance = rows.T @ rows / len(rows)
    least = RIDGE * np.trace(covariance) / len(covariance) + np.finfo(float).tiny
    values, vectors = np.linalg.eigh(covariance)
    root = vectors / np.sqrt(values.clip(min=0) + least)
    return [Recording(each.start, each.values @ root) for each in found]


def _known(x: FloatArray) -> Arrays:
    """Return values with zeros in place of NaN, and ``[P, 1]`` ones where known."""
    known = complete(x)[:, None]
    return np.where(known, x, 0), known.astype(np.float64)
