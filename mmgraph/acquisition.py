r"""Expected information of missing modalities.

What a missing modality would change is estimated with *donors*: samples that have it,
and whose predictions from the modalities of the sample are nearest to those of the
sample. The sample is predicted with the content of each donor in turn, which needs no
generative model.

The expectation of later predictions must be today's prediction :math:`p`. Donors are
therefore weighted by exponential tilting, :math:`w_j \propto e^{\lambda^\top p_j}` with
:math:`\sum_j w_j p_j = p`. The value of the modality is the expected information
about the label in nats, :math:`\sum_j w_j\, \mathrm{KL}(p_j \,\|\, p)`: the mutual
information of label and modality under the model.

References:
    On a Measure of the Information Provided by an Experiment, Lindley, 1956. EDDI:
    Efficient Dynamic Discovery of High-Value Information with Partial VAE, Ma et al.,
    2019, arXiv 1809.11142. Acquisition Conditioned Oracle for Nongreedy Active Feature
    Acquisition, Valancius, Lennon, Oliva, 2024, arXiv 2302.13960 (donors in place of a
    generative model).

Letters: ``N`` samples, ``M`` modalities, ``K`` classes or targets, ``J`` donors of one
sample, ``D`` donors, ``Q`` pairs of a sample and a candidate.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph._frame import to_frame
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.notices import warn
from mmgraph.data.validation import check_names
from mmgraph.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

FloatArray: TypeAlias = npt.NDArray[np.float64]
Predict: TypeAlias = Callable[[MultimodalData], npt.NDArray[np.floating[Any]]]
Belief: TypeAlias = Callable[[FloatArray, FloatArray], "Outcomes"]

MAX_EVALUATIONS = 16384  # samples times donors that are predicted at once
MIN_DONORS = 5  # fewer give no value
STEPS = 60  # of Newton's method and of Sinkhorn's iteration
CONVERGED = 1e-9  # largest difference of the mean prediction from today's
NEGLIGIBLE = 1e-10  # nats that rounding errors of a model amount to
SMALLEST = 1e-12  # lower bound of probabilities
LOW, HIGH = 0.05, 0.95  # quantiles of predictions after the acquisition


class Outcomes(NamedTuple):
    """Predictions after an acquisition, whose mean is today's prediction.

    Attributes:
        weights: ``[Q, J]`` probabilities of the donors.
        predictions: ``[Q, J, K]`` predictions with their content.
        value: ``[Q]`` expected information.
    """

    weights: FloatArray
    predictions: FloatArray
    value: FloatArray


@dataclass(frozen=True)
class Acquisition:
    """Values of the missing modalities of each sample.

    Attributes:
        value: ``[N, M]`` expected information about the label in nats; NaN where the
            modality is observed, is not a candidate, or has too few donors.
        low: ``[N, M, K]`` 5% quantile of the predictions after the acquisition.
        high: ``[N, M, K]`` 95% quantile.
        cost: ``[M]`` costs.
        modalities: Names of the ``M`` modalities.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    cost: FloatArray
    modalities: tuple[str, ...]

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per sample as a data frame.

        The columns are ``sample`` (row number), the value of each modality, and
        ``best``.

        Raises:
            ConfigError: If pandas is not installed.
        """
        rows = [
            {"sample": i}
            | dict(zip(self.modalities, values, strict=True))
            | {"best": best}
            for i, (values, best) in enumerate(
                zip(self.value.tolist(), self.best, strict=True)
            )
        ]
        return to_frame(rows)

    @property
    def best(self) -> list[str | None]:
        """Missing modality with the largest value per cost; None if there is none."""
        return [names[0] if names else None for names in self._orders()]

    def plan(self, budget: float | int) -> list[list[str]]:
        """Return the modalities of each sample to acquire within a budget, best first.

        Modalities are taken in the order of value per cost while they fit. Their values
        are those of today: acquire one, then call ``acquire`` again with its content,
        where that is possible.

        Args:
            budget: Maximum total cost per sample.

        Raises:
            ConfigError: If the budget is negative.
        """
        if not budget >= 0:
            raise ConfigError(f"budget must be at least 0, got {budget!r}.")
        costs = dict(zip(self.modalities, self.cost.tolist(), strict=True))
        plans = []
        for names in self._orders():
            chosen: list[str] = []
            for name in names:
                if sum(costs[each] for each in [*chosen, name]) <= budget:
                    chosen.append(name)
            plans.append(chosen)
        return plans

    def _orders(self) -> list[list[str]]:
        """Return the candidates of each sample, largest value per cost first."""
        per_cost = self.value / self.cost
        orders = np.argsort(-per_cost, axis=1, kind="stable")  # NaN comes last
        known = ~np.isnan(self.value)
        return [
            [self.modalities[m] for m in order if usable[m]]
            for order, usable in zip(orders.tolist(), known, strict=True)
        ]


def acquire(
    predict: Predict,
    data: MultimodalData,
    donors: MultimodalData,
    belief: Belief,
    *,
    candidates: Sequence[str] | None = None,
    num_donors: int = 20,
    cost: Mapping[str, float] | None = None,
) -> Acquisition:
    """Estimate the expected information of the missing modalities of each sample.

    Args:
        predict: Returns predictions ``[N, K]`` from any subset of modalities.
        data: Samples with all modalities of the model, in its order.
        donors: Training samples of the same form. A sample is never its own donor, nor
            is a sample of its group.
        belief: Function of predictions ``[Q, J, K]`` with donor content and today's
            predictions ``[Q, K]`` to outcomes.
        candidates: Modalities that can be acquired; default: all.
        num_donors: Donors per sample and candidate.
        cost: Cost of each modality, above 0; default: 1.

    Raises:
        ConfigError: If a cost or ``num_donors`` has an invalid value.
        DataError: If a candidate is unknown, or no donor has it.
    """
    names = data.modalities
    chosen = _candidates(candidates, data, donors)
    costs = _costs(cost, names)
    if type(num_donors) is not int or num_donors < MIN_DONORS:
        raise ConfigError(
            f"num_donors must be a whole number of at least {MIN_DONORS}, got "
            f"{num_donors!r}.",
            parameter="num_donors",
        )
    today = _as_float(predict(data))
    value = np.full((len(data), len(names)), np.nan)
    low = np.full((*value.shape, today.shape[1]), np.nan)
    high = low.copy()
    for m, rows, matched in _matches(predict, data, donors, today, chosen, num_donors):
        step = max(1, MAX_EVALUATIONS // matched.shape[1])
        for start in range(0, len(rows), step):
            part, used = rows[start : start + step], matched[start : start + step]
            later = _with_content(predict, data, donors, names[m], part, used)
            outcomes = belief(later, today[part])
            small = np.abs(outcomes.value) < NEGLIGIBLE
            value[part, m] = np.where(small, 0.0, outcomes.value)
            low[part, m] = _weighted_quantile(outcomes, LOW)
            high[part, m] = _weighted_quantile(outcomes, HIGH)
    return Acquisition(value, low, high, costs, names)


def _candidates(
    names: Sequence[str] | None, data: MultimodalData, donors: MultimodalData
) -> list[int]:
    """Return the numbers of the candidates, which some donor must have."""
    given = [names] if isinstance(names, str) else list(names or donors.modalities)
    check_names("candidates", given, donors.modalities)
    numbers = [donors.modalities.index(name) for name in given]
    held: BoolArray = np.asarray(donors.present.any(axis=0))
    lacking = [name for name, m in zip(given, numbers, strict=True) if not held[m]]
    if names is not None and lacking:
        raise DataError(
            f"donors must have the candidate {lacking[0]!r}, got none with it. Leave "
            "the candidate out, or use other donors."
        )
    needed = ~data.present.all(axis=0) & ~held
    if names is None and needed.any():
        listed = ", ".join(name for name, m in zip(given, needed, strict=True) if m)
        warn(f"No donor has {listed}: its missing values have no expected information.")
    return [m for m in numbers if held[m]]


def _costs(cost: Mapping[str, float] | None, names: tuple[str, ...]) -> FloatArray:
    given = dict(cost or {})
    check_names("cost", list(given), names)
    for name, each in given.items():
        if not each > 0 or not np.isfinite(each):
            raise ConfigError(
                f"cost must be above 0, got {each!r} for {name!r}.", parameter="cost"
            )
    return np.array([float(given.get(name, 1.0)) for name in names])


def _matches(
    predict: Predict,
    data: MultimodalData,
    donors: MultimodalData,
    today: FloatArray,
    candidates: list[int],
    num_donors: int,
) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Yield a candidate, samples ``[n]`` that lack it, and their donors ``[n, J]``.

    Donors have the modalities of the sample and the candidate. They are matched by
    their predictions from the modalities of the sample alone, never by the content of
    the candidate.
    """
    present, has = data.present, donors.present
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        able = np.flatnonzero((has | ~pattern).all(axis=1))
        wanted = [m for m in candidates if not pattern[m]]
        if len(able) < MIN_DONORS or not wanted:
            continue
        masked = donors[able].mask(np.tile(pattern, (len(able), 1)))
        distance = _distances(today[rows], _as_float(predict(masked)))
        distance[_related(data[rows], donors[able])] = np.inf
        for m in wanted:
            holders = np.flatnonzero(has[able, m])
            count = min(num_donors, len(holders))
            if count < MIN_DONORS:
                continue
            near = distance[:, holders]
            order = np.argsort(near, axis=1, kind="stable")[:, :count]
            usable = np.isfinite(np.take_along_axis(near, order, axis=1)).all(axis=1)
            yield m, rows[usable], able[holders[order[usable]]]


def _distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return Euclidean distances ``[n, D]`` between predictions."""
    from scipy.spatial.distance import cdist

    distances: FloatArray = cdist(a, b)
    return distances


def _related(data: MultimodalData, donors: MultimodalData) -> BoolArray:
    """Return ``[n, D]``: True for the sample itself and samples of its group."""
    same: BoolArray = data.ids.astype(str)[:, None] == donors.ids.astype(str)
    if data.groups is not None and donors.groups is not None:
        same = same | (data.groups.astype(str)[:, None] == donors.groups.astype(str))
    return same


def _with_content(
    predict: Predict,
    data: MultimodalData,
    donors: MultimodalData,
    name: str,
    rows: IntArray,
    matched: IntArray,
) -> FloatArray:
    """Return the predictions ``[n, J, K]`` of samples with the content of donors."""
    number, each = matched.shape
    samples = data[np.repeat(rows, each)]
    content = donors.columns[name].take(matched.ravel())
    filled = replace(samples, columns={**samples.columns, name: content})
    return _as_float(predict(filled)).reshape(number, each, -1)


def _as_float(values: npt.NDArray[np.floating[Any]]) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def _weighted_quantile(outcomes: Outcomes, level: float) -> FloatArray:
    """Return a quantile ``[Q, K]`` of the weighted predictions."""
    order = np.argsort(outcomes.predictions, axis=1)
    sorted_values = np.take_along_axis(outcomes.predictions, order, axis=1)
    weights = np.take_along_axis(outcomes.weights[..., None], order, axis=1)
    reached = weights.cumsum(axis=1) >= level - 1e-9
    first = reached.argmax(axis=1)[:, None]
    return np.take_along_axis(sorted_values, first, axis=1)[:, 0]


# Beliefs whose expectation is today's prediction


def class_belief(later: FloatArray, today: FloatArray) -> Outcomes:
    r"""Weight predicted probabilities so that their mean is today's prediction.

    Where today's prediction is outside the convex hull of the donors, no weights exist.
    Donors then have equal weights, and their predictions are shifted by a constant in
    log space, :math:`q_j \propto p_j e^c`, as in Sinkhorn's algorithm.

    Args:
        later: ``[Q, J, K]`` predictions with the content of the donors.
        today: ``[Q, K]`` predictions without it.
    """
    p = today.clip(SMALLEST)
    p /= p.sum(axis=1, keepdims=True)
    q = later.clip(SMALLEST)
    q /= q.sum(axis=2, keepdims=True)
    weights, exact = tilt(q - p[:, None])
    weights[~exact] = 1 / q.shape[1]
    q[~exact] = _shifted(q[~exact], p[~exact])
    divergence = (q * np.log(q / p[:, None])).sum(axis=2)
    return Outcomes(weights, q, (weights * divergence).sum(axis=1))


def value_belief(scale: FloatArray) -> Belief:
    r"""Return the belief of a regressor whose targets have standard deviations ``[K]``.

    Predictions are shifted by a constant, and the value is that of normal distributions
    with the variance of the targets: :math:`\mathrm{E}\,(\hat y_j - \hat y)^2 / 2 s^2`.
    """

    def belief(later: FloatArray, today: FloatArray) -> Outcomes:
        shifted = later + (today - later.mean(axis=1))[:, None]
        squared = ((shifted - today[:, None]) / scale) ** 2 / 2
        weights = np.full(later.shape[:2], 1 / later.shape[1])
        return Outcomes(weights, shifted, squared.sum(axis=2).mean(axis=1))

    return belief


def tilt(differences: FloatArray) -> tuple[FloatArray, BoolArray]:
    r"""Return weights :math:`w_j \propto e^{\lambda^\top d_j}` with mean difference 0.

    The dual :math:`\min_\lambda \log \sum_j e^{\lambda^\top d_j}` is convex; it is
    solved by Newton's method with step halving, for all rows together.

    Args:
        differences: ``[Q, J, K]`` differences ``d`` whose coordinates sum up to 0.

    Returns:
        ``[Q, J]`` weights, and ``[Q]`` True where the mean difference is 0.
    """
    d = differences[..., :-1]  # the last coordinate follows from the others
    count = d.shape[2]
    scale = np.abs(d).max(axis=(1, 2), initial=0.0)
    d = d / np.where(scale > 0, scale, 1.0)[:, None, None]
    dual = np.zeros((len(d), count))

    def state(dual: FloatArray) -> tuple[FloatArray, FloatArray]:
        exponent = np.einsum("qjk,qk->qj", d, dual)
        top = exponent.max(axis=1, keepdims=True)
        weights = np.exp(exponent - top)
        total = weights.sum(axis=1, keepdims=True)
        return weights / total, (np.log(total) + top)[:, 0]

    weights, level = state(dual)
    for _ in range(STEPS):
        mean = np.einsum("qj,qjk->qk", weights, d)
        if np.abs(mean).max(initial=0.0) < CONVERGED:
            break
        spread = np.einsum("qj,qjk,qjl->qkl", weights, d, d)
        hessian = spread - mean[:, :, None] * mean[:, None, :] + 1e-10 * np.eye(count)
        direction = np.linalg.solve(hessian, mean[..., None])[..., 0]
        direction /= np.maximum(1, np.abs(direction).max(axis=1) / 10)[:, None]
        size = np.ones(len(d))
        for _ in range(12):  # halve the steps that do not decrease the dual
            _, reached = state(dual - size[:, None] * direction)
            worse = reached > level + 1e-12
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        dual = dual - size[:, None] * direction
        weights, level = state(dual)
    mean = np.einsum("qj,qjk->qk", weights, d) * scale[:, None]
    return weights, np.abs(mean).max(axis=1, initial=0.0) < 1e3 * CONVERGED


def _shifted(q: FloatArray, p: FloatArray) -> FloatArray:
    """Return distributions ``[Q, J, K]`` with mean ``p``, shifted in log space."""
    for _ in range(20 * STEPS):
        mean = q.mean(axis=1)
        if np.abs(mean - p).max(initial=0.0) < CONVERGED:
            break
        q = q * (p / mean)[:, None]
        q = q / q.sum(axis=2, keepdims=True)
    return q
