"""Shapley values of modalities.

A model that predicts from any subset of modalities defines the value of each coalition
directly, without imputation.

Letters: ``N`` samples, ``M`` modalities, ``C`` coalitions, ``R`` orders, ``K`` outputs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray, empty_column
from mmgraph.errors import DataError

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Predict: TypeAlias = Callable[[MultimodalData], FloatArray]
ToValues: TypeAlias = Callable[[FloatArray], FloatArray]

MAX_EXACT = 8  # modalities up to which every coalition is evaluated
ORDERS = 32  # random orders for more modalities
MAX_EVALUATIONS = 16384  # samples times coalitions that are predicted at once


class Explanation(NamedTuple):
    """Shapley values of modalities: ``base + values.sum(1)`` are the predictions.

    Attributes:
        base: ``[K]`` prediction with nothing observed.
        values: ``[N, M, K]`` Shapley values; exactly 0 for a missing modality.
        modalities: Names of the ``M`` modalities.
    """

    base: FloatArray
    values: FloatArray
    modalities: tuple[str, ...]


def explain(
    predict: Predict, data: MultimodalData, *, orders: int | None = None, seed: int = 0
) -> Explanation:
    """Compute the Shapley values of the modalities of each sample.

    The Shapley value is the only additive attribution that sums to the difference
    between prediction and base (efficiency), is equal for modalities with equal
    contributions (symmetry), and is zero for a modality that never contributes.

    Args:
        predict: Returns predictions ``[N, K]`` from any subset of modalities.
        data: Samples.
        orders: Number of random orders in which modalities are added, each with its
            reverse; default: all orders for up to ``MAX_EXACT`` modalities, ``ORDERS``
            random ones for more.
        seed: Seed of the orders, which are the same for all samples.

    Raises:
        DataError: If ``orders`` is below one.

    References:
        A Value for n-Person Games, Shapley, 1953. Polynomial Calculation of the
        Shapley Value Based on Sampling, Castro, Gomez, Tejada, 2009.
    """
    if orders is not None and (type(orders) is not int or orders < 1):
        raise DataError(
            f"orders must be a whole number of at least 1, got {orders!r}.",
            "Leave it out for the default.",
        )
    count = len(data.modalities)
    if orders is None and count <= MAX_EXACT:
        keep = _all_coalitions(count)
        to_values: ToValues = _values_of_all
    else:
        rank = _draw_ranks(orders or ORDERS, count, seed)
        keep, to_values = _prefixes(rank), _values_of_orders(rank)
    base = predict(_empty_sample(data))
    values = np.zeros((len(data), count, base.shape[1]))
    step = max(1, MAX_EVALUATIONS // len(keep))
    for start in range(0, len(data), step):
        part = data[start : start + step]
        scores = _predict_coalitions(predict, part, keep)
        values[start : start + step] = to_values(scores)
    return Explanation(base[0], values, data.modalities)


def _empty_sample(data: MultimodalData) -> MultimodalData:
    """Return one sample with nothing observed."""
    return MultimodalData.from_columns({name: empty_column(1) for name in data.columns})


def _predict_coalitions(
    predict: Predict, data: MultimodalData, keep: BoolArray
) -> FloatArray:
    """Return predictions ``[N, C, K]`` of samples from coalitions ``keep [C, M]``.

    Coalitions with the same present modalities of a sample are predicted once.
    """
    num, (coalitions, count) = len(data), keep.shape
    pairs = np.empty((num, coalitions, 1 + count), dtype=np.int64)
    pairs[..., 0] = np.arange(num)[:, None]
    pairs[..., 1:] = keep & data.present[:, None]
    distinct, where = np.unique(
        pairs.reshape(-1, 1 + count), axis=0, return_inverse=True
    )
    kept = distinct[:, 1:].astype(bool)
    samples = data[distinct[:, 0]].mask(dict(zip(data.modalities, kept.T, strict=True)))
    return predict(samples)[where.reshape(num, coalitions)]


# All coalitions: coalition s contains modality m if bit m of s is set.


def _all_coalitions(count: int) -> BoolArray:
    """Return all coalitions, ``[2 ** M, M]`` Bool."""
    return (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1


def _values_of_all(scores: FloatArray) -> FloatArray:
    """Return Shapley values ``[N, M, K]``, given predictions ``[N, 2 ** M, K]``."""
    count = (scores.shape[1] - 1).bit_length()
    number = np.arange(scores.shape[1])
    values = []
    for m in range(count):
        without = number[(number >> m) & 1 == 0]
        gain = scores[:, without | 1 << m] - scores[:, without]
        weight = [
            1 / (count * math.comb(count - 1, s.bit_count())) for s in without.tolist()
        ]
        values.append(np.tensordot(gain, weight, axes=(1, 0)))
    return np.stack(values, axis=1)


# Random orders: rank[r, m] modalities precede modality m in order r.


def _draw_ranks(orders: int, count: int, seed: int) -> IntArray:
    """Return the ranks of random orders and their reverses, ``[2 R, M]``."""
    rng = np.random.default_rng(seed)
    rank = rng.permuted(np.tile(np.arange(count), (orders, 1)), axis=1)
    return np.concatenate([rank, count - 1 - rank])


def _prefixes(rank: IntArray) -> BoolArray:
    """Return the coalitions ``[R (M + 1), M]`` of the first 0 to M of each order."""
    count = rank.shape[1]
    keep: BoolArray = rank[:, None] < np.arange(count + 1)[:, None]
    return keep.reshape(-1, count)


def _values_of_orders(rank: IntArray) -> ToValues:
    """Return a function of predictions ``[N, R (M + 1), K]`` to ``[N, M, K]``."""
    orders, count = rank.shape

    def to_values(scores: FloatArray) -> FloatArray:
        steps = scores.reshape(len(scores), orders, count + 1, -1)
        gain = np.diff(steps, axis=2)  # of the next modality of an order
        by_modality = np.take_along_axis(gain, rank[None, :, :, None], axis=2)
        mean: FloatArray = by_modality.mean(axis=1)
        return mean

    return to_values
