"""Shapley values of modalities.

A model that predicts from any subset of modalities defines the value of each coalition
directly, without imputation.

Letters: ``N`` samples, ``M`` modalities, ``C`` coalitions, ``K`` outputs.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph._frame import to_frame
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, empty_column
from mmgraph.errors import DataError
from mmgraph.metrics.coalitions import Coalitions, draw_ranks

if TYPE_CHECKING:
    import pandas as pd

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Predict: TypeAlias = Callable[[MultimodalData], FloatArray]

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

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per sample and output as a data frame.

        The columns are ``sample`` (row number), ``output`` (class, label or target
        number), ``base``, and the Shapley value of each modality.

        Raises:
            ConfigError: If pandas is not installed.
        """
        rows = [
            {"sample": i, "output": k, "base": base}
            | dict(zip(self.modalities, values[:, k].tolist(), strict=True))
            for i, values in enumerate(self.values)
            for k, base in enumerate(self.base.tolist())
        ]
        return to_frame(rows)


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
    game = coalitions_of(len(data.modalities), orders, seed)
    shares, keep = game.shapley(), game.keep
    base = predict(empty_sample(data))
    values = np.zeros((*data.shape, base.shape[1]))
    for rows, scores in coalition_predictions(predict, data, keep):
        values[rows] = shares(scores)
    return Explanation(base[0], values, data.modalities)


def coalitions_of(count: int, orders: int | None, seed: int) -> Coalitions:
    """Return the coalitions of modalities, exact or of random orders.

    Args:
        count: Number of modalities.
        orders: Number of random orders, each with its reverse; default: all orders for
            up to ``MAX_EXACT`` modalities, ``ORDERS`` random ones for more.
        seed: Seed of the orders.

    Raises:
        DataError: If ``orders`` is below one.
    """
    if orders is not None and (type(orders) is not int or orders < 1):
        raise DataError(
            f"orders must be a whole number of at least 1, got {orders!r}.",
            "Leave it out for the default.",
        )
    if orders is None and count <= MAX_EXACT:
        return Coalitions(count)
    return Coalitions(count, draw_ranks(orders or ORDERS, count, seed))


def coalition_predictions(
    predict: Predict, data: MultimodalData, keep: BoolArray
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield predictions ``[n, C, K]`` of parts of the samples from all coalitions.

    Coalitions with the same present modalities of a sample are predicted once.

    Args:
        predict: Returns predictions ``[N, K]`` from any subset of modalities.
        data: Samples.
        keep: ``[C, M]`` members of the coalitions.
    """
    step = max(1, MAX_EVALUATIONS // len(keep))
    for start in range(0, len(data), step):
        rows = slice(start, start + step)
        yield rows, _predict_coalitions(predict, data[rows], keep)


def empty_sample(data: MultimodalData) -> MultimodalData:
    """Return one sample with nothing observed."""
    return MultimodalData.from_columns({name: empty_column(1) for name in data.columns})


def _predict_coalitions(
    predict: Predict, data: MultimodalData, keep: BoolArray
) -> FloatArray:
    """Return predictions ``[N, C, K]`` of samples from coalitions ``keep [C, M]``."""
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
