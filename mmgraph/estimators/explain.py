"""What each modality adds to an answer: Shapley values of modalities.

A model that answers from any subset of the modalities says by itself what is expected
without one of them, so that nothing has to be put in its place.

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
Ask: TypeAlias = Callable[[MultimodalData], FloatArray]
Share: TypeAlias = Callable[[FloatArray], FloatArray]

MAX_EXACT = 8  # modalities whose every coalition is asked about
ORDERS = 32  # where there are more
ASKED_AT_ONCE = 16384  # samples times coalitions


class Explanation(NamedTuple):
    """What each modality adds to the answers: ``base + values.sum(1)`` are these.

    Attributes:
        base: ``[K]`` the answer where nothing is observed.
        values: ``[N, M, K]``; exactly 0 where a modality is missing.
        modalities: The ``M`` names.
    """

    base: FloatArray
    values: FloatArray
    modalities: tuple[str, ...]


def explain(
    ask: Ask, data: MultimodalData, *, orders: int | None = None, seed: int = 0
) -> Explanation:
    """Share the difference between answer and base out among the modalities.

    The Shapley value is the only share that sums up to the difference, gives modalities
    that always add the same the same, and nothing to one that never adds anything.

    Args:
        ask: Returns answers ``[N, K]`` from whatever modalities samples have.
        data: The samples.
        orders: Modalities are added one by one in so many random orders and in the
            reverse of each; None: in all orders, and ``ORDERS`` random ones where
            there are more than ``MAX_EXACT`` modalities.
        seed: Of the orders, which are the same for all samples.

    Raises:
        DataError: Fewer than one order.

    References:
        A Value for n-Person Games, Shapley, 1953. Polynomial Calculation of the
        Shapley Value Based on Sampling, Castro, Gomez, Tejada, 2009.
    """
    if orders is not None and (type(orders) is not int or orders < 1):
        raise DataError(
            f"orders must be a whole number of at least 1, got {orders!r}.",
            "Leave it out.",
        )
    count = len(data.modalities)
    if orders is None and count <= MAX_EXACT:
        keep = _all_coalitions(count)
        share: Share = _of_all
    else:
        rank = _draw_ranks(orders or ORDERS, count, seed)
        keep, share = _first_ones(rank), _of_ranks(rank)
    base = ask(_nothing(data))
    values = np.zeros((len(data), count, base.shape[1]))
    step = max(1, ASKED_AT_ONCE // len(keep))
    for start in range(0, len(data), step):
        part = data[start : start + step]
        values[start : start + step] = share(_ask_about(ask, part, keep))
    return Explanation(base[0], values, data.modalities)


def _nothing(data: MultimodalData) -> MultimodalData:
    """Return one sample with nothing observed."""
    return MultimodalData.from_columns({name: empty_column(1) for name in data.columns})


def _ask_about(ask: Ask, data: MultimodalData, keep: BoolArray) -> FloatArray:
    """Return answers ``[N, C, K]`` of samples by coalitions ``keep [C, M]``.

    Coalitions that a sample cannot tell apart are asked about once.
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
    return ask(samples)[where.reshape(num, coalitions)]


# Every coalition: number s holds modality m where its bit m is set.


def _all_coalitions(count: int) -> BoolArray:
    """Return ``[2 ** M, M]``."""
    return (np.arange(2**count)[:, None] >> np.arange(count)) & 1 == 1


def _of_all(answers: FloatArray) -> FloatArray:
    """Return shares ``[N, M, K]`` from answers ``[N, 2 ** M, K]``."""
    count = (answers.shape[1] - 1).bit_length()
    number = np.arange(answers.shape[1])
    shares = []
    for m in range(count):
        without = number[(number >> m) & 1 == 0]
        added = answers[:, without | 1 << m] - answers[:, without]
        weight = [
            1 / (count * math.comb(count - 1, s.bit_count())) for s in without.tolist()
        ]
        shares.append(np.tensordot(added, weight, axes=(1, 0)))
    return np.stack(shares, axis=1)


# Random orders: rank[r, m] modalities stand before modality m in order r.


def _draw_ranks(orders: int, count: int, seed: int) -> IntArray:
    """Return ``[2 R, M]``: random orders and their reverses."""
    rng = np.random.default_rng(seed)
    rank = rng.permuted(np.tile(np.arange(count), (orders, 1)), axis=1)
    return np.concatenate([rank, count - 1 - rank])


def _first_ones(rank: IntArray) -> BoolArray:
    """Return the coalitions ``[R (M + 1), M]`` of the first 0 to M of each order."""
    count = rank.shape[1]
    keep: BoolArray = rank[:, None] < np.arange(count + 1)[:, None]
    return keep.reshape(-1, count)


def _of_ranks(rank: IntArray) -> Share:
    """Return what gives shares ``[N, M, K]`` from answers ``[N, R (M + 1), K]``."""
    orders, count = rank.shape

    def share(answers: FloatArray) -> FloatArray:
        steps = answers.reshape(len(answers), orders, count + 1, -1)
        added = np.diff(steps, axis=2)  # of the modality that comes next
        by_modality = np.take_along_axis(added, rank[None, :, :, None], axis=2)
        mean: FloatArray = by_modality.mean(axis=1)
        return mean

    return share
