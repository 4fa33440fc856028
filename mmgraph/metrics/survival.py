"""Metrics of times to an event under right censoring.

Letters: `N` samples, `T` times, `D` distinct times.
"""

from typing import NamedTuple

import numpy as np

from mmgraph.errors import DataError
from mmgraph.metrics.validation import Array, check_arrays

CELLS = 1 << 24  # pairs that are compared at once
TIED = 1e-8  # differences of risks up to this are ties


class SurvivalCurve(NamedTuple):
    """A survival function as a step function.

    Attributes:
        times: Ascending distinct times, [D].
        survival: Probability of no event up to and including each time, [D].
    """

    times: Array
    survival: Array

    def __call__(self, times: Array) -> Array:
        """Return the probability at each time: 1 before the first step.

        The last probability is continued after the last step.
        """
        place = np.searchsorted(self.times, np.asarray(times), side="right")
        steps: Array = np.concatenate([[1.0], self.survival])[place]
        return steps


def kaplan_meier(
    event: Array, time: Array, weight: Array | None = None
) -> SurvivalCurve:
    """Return the Kaplan-Meier estimate of the survival function.

    Args:
        event: Whether the event was observed, [N]; otherwise, the sample is censored.
        time: Time of the event or of censoring, above 0, [N].
        weight: Sample weights, [N]; None weights all equally.

    Returns:
        The curve with a step at each distinct time of an event or of censoring.

    Raises:
        DataError: If events are not 0 or 1, or a time is not a number above 0.

    References:
        Nonparametric Estimation from Incomplete Observations, Kaplan, Meier, 1958.

    Example:
        >>> import numpy as np
        >>> event, time = np.array([1, 0, 1, 0]), np.array([1.0, 2.0, 3.0, 4.0])
        >>> metrics.kaplan_meier(event, time).survival
        array([0.75 , 0.75 , 0.375, 0.375])
    """
    times, events, at_risk = event_table(event, time, weight)
    return SurvivalCurve(times, np.cumprod(1 - events / at_risk))


def event_table(
    event: Array, time: Array, weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return distinct times, and the number of events and of samples at risk at each.

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        weight: Sample weights, [N]; None weights all equally.

    Returns:
        Three arrays [D].

    Raises:
        DataError: If events are not 0 or 1, or a time is not a number above 0.
    """
    event, time = check_survival(event, time)
    each = np.ones(len(time)) if weight is None else np.asarray(weight, np.float64)
    times, place = np.unique(time, return_inverse=True)
    total = np.bincount(place, each, minlength=len(times))
    events = np.bincount(place, each * event, minlength=len(times))
    return times, events, total[::-1].cumsum()[::-1]


def concordance_index(
    event: Array, time: Array, risk: Array, weight: Array | None = None
) -> float:
    """Return Harrell's concordance index.

    The share of comparable pairs in which the sample with the earlier event has the
    higher risk; equal risks count one half. A pair is comparable if the earlier of its
    times is that of an event; at equal times, if one sample is censored.

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        risk: Predicted risks, [N]: higher for earlier events.
        weight: Sample weights, [N]: a pair has the product of its weights.

    Returns:
        A value in [0, 1], 0.5 for random predictions; nan without a comparable pair.

    Raises:
        DataError: If shapes differ, events are not 0 or 1, a time is not above 0, or
            a risk is not finite.

    References:
        Evaluating the Yield of Medical Tests, Harrell, Califf, Pryor, Lee, Rosati,
        1982.

    Example:
        >>> import numpy as np
        >>> event, time = np.array([1, 1, 0]), np.array([1.0, 2.0, 3.0])
        >>> round(metrics.concordance_index(event, time, np.array([2.0, 3.0, 1.0])), 3)
        0.667
    """
    event, time = check_survival(event, time)
    risk = _check_finite("risk", risk, (len(time),))
    return concordance(event, time, risk, weight)


def concordance(
    event: Array, time: Array, risk: Array, weight: Array | None = None
) -> float:
    """Return the concordance index; times are any numbers, see `concordance_index`."""
    each = np.ones(len(time)) if weight is None else np.asarray(weight, np.float64)
    first = np.flatnonzero(event)
    step = max(1, CELLS // max(len(time), 1))
    right = tied = total = 0.0
    for start in range(0, len(first), step):
        rows = first[start : start + step]
        later = (time > time[rows, None]) | ((time == time[rows, None]) & ~event)
        product = later * each * each[rows, None]
        difference = risk[rows, None] - risk
        ties = np.abs(difference) <= TIED
        right += float(product[(difference > 0) & ~ties].sum())
        tied += float(product[ties].sum())
        total += float(product.sum())
    return (right + tied / 2) / total if total else float("nan")


def brier_scores(
    event: Array,
    time: Array,
    survival: Array,
    times: Array,
    *,
    censoring: tuple[Array, Array] | None = None,
) -> Array:
    """Return the Brier score of predicted survival at each time.

    The squared error of the probability of survival. Samples that are censored before
    a time are left out, and the others weighted by the inverse probability of being
    uncensored (IPCW), so that the score is that without censoring if censoring does not
    depend on the features.

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        survival: Predicted probability of survival at each time, [N, T].
        times: Times, ascending, within the follow-up, [T].
        censoring: Events and times of the samples from which the probability of being
            uncensored is estimated, such as those of the training; default: the samples
            that are scored.

    Returns:
        Scores, [T], lower is better.

    Raises:
        DataError: If shapes differ, events or times are invalid, or no sample remains
            uncensored at one of the times.

    References:
        Assessment and Comparison of Prognostic Classification Schemes for Survival
        Data, Graf, Schmoor, Sauerbrei, Schumacher, 1999.

    Example:
        >>> import numpy as np
        >>> event, time = np.array([1, 1, 0]), np.array([1.0, 2.0, 3.0])
        >>> survival = np.array([[0.0], [0.8], [1.0]])
        >>> metrics.brier_scores(event, time, survival, np.array([1.5])).round(4)
        array([0.0133])
    """
    event, time = check_survival(event, time)
    times = _check_times(times)
    survival = _check_finite("survival", survival, (len(time), len(times)))
    known = (event, time) if censoring is None else check_survival(*censoring)
    uncensored = _censoring_curve(*known)
    after, before = uncensored(times), uncensored(time)
    died = (time[:, None] <= times) & event[:, None]
    alive = time[:, None] > times
    used = died.any(1)
    if (alive.any(0) & (after <= 0)).any() or (before[used] <= 0).any():
        raise DataError(
            "times must be within the follow-up, got a time at which no sample is "
            "uncensored. Leave out the latest times.",
            parameter="times",
        )
    own = np.divide(1, before, where=used, out=np.zeros_like(before))
    late = np.divide(1, after, where=after > 0, out=np.zeros_like(after))
    error = survival**2 * died * own[:, None] + (1 - survival) ** 2 * alive * late
    scores: Array = error.mean(0)
    return scores


def integrated_brier_score(
    event: Array,
    time: Array,
    survival: Array,
    times: Array,
    *,
    censoring: tuple[Array, Array] | None = None,
) -> float:
    """Return the mean of the Brier score over an interval of times.

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        survival: Predicted probability of survival at each time, [N, T].
        times: At least two times, ascending, within the follow-up, [T].
        censoring: See `brier_scores`.

    Returns:
        The integral by the trapezoidal rule, divided by the length of the interval.

    Raises:
        DataError: If there are fewer than two times; see `brier_scores`.

    Example:
        >>> import numpy as np
        >>> event, time = np.array([1, 1, 0]), np.array([1.0, 2.0, 3.0])
        >>> half = np.full((3, 2), 0.5)
        >>> metrics.integrated_brier_score(event, time, half, np.array([1.0, 2.0]))
        0.25
    """
    scores = brier_scores(event, time, survival, times, censoring=censoring)
    if len(scores) < 2:
        raise DataError(
            f"times must hold at least 2 times, got {len(scores)}. Use brier_scores "
            "for a single time.",
            parameter="times",
        )
    times = np.asarray(times, np.float64)
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


def survival_grid(event: Array, time: Array, most: int = 100) -> Array:
    """Return times between the 10% and the 90% quantile of the event times, [T].

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        most: Largest number of times.

    Returns:
        Ascending times before the latest one; empty with fewer than two.
    """
    event, time = check_survival(event, time)
    observed = time[event]
    if not len(observed):
        return np.zeros(0)
    grid = np.unique(np.quantile(observed, np.linspace(0.1, 0.9, most)))
    inside: Array = grid[grid < time.max()]
    return inside if len(inside) > 1 else inside[:0]


def survival_scores(
    event: Array, time: Array, risk: Array, survival: Array, times: Array
) -> dict[str, float]:
    """Return all metrics of a survival model by name.

    Args:
        event: Whether the event was observed, [N].
        time: Time of the event or of censoring, [N].
        risk: Predicted risks, [N].
        survival: Predicted probability of survival at each time, [N, T].
        times: Times, such as those of `survival_grid`, [T].

    Returns:
        concordance and integrated_brier_score; nan where undefined.

    Raises:
        DataError: If shapes differ, or events, times or risks are invalid.
    """
    scores = {"concordance": concordance_index(event, time, risk)}
    enough = len(times) > 1
    scores["integrated_brier_score"] = (
        integrated_brier_score(event, time, survival, times) if enough else np.nan
    )
    return scores


def check_survival(event: Array, time: Array) -> tuple[Array, Array]:
    """Return events as booleans and times as floats, both [N].

    Raises:
        DataError: If shapes differ, events are not 0 or 1, or a time is not a number
            above 0.
    """
    check_arrays(event=event, time=time)
    event, time = np.asarray(event), np.asarray(time)
    if event.ndim != 1 or event.shape != time.shape:
        raise DataError(
            "event and time must have one entry per sample, got shapes "
            f"{list(event.shape)} and {list(time.shape)}. Take them from one table."
        )
    known = event.dtype.kind in "biuf"
    wrong = np.flatnonzero(~np.isin(event, (0, 1))) if known else np.arange(1)
    if len(wrong):
        got = event[wrong[0]].item() if len(event) else event.dtype
        raise DataError(
            f"event must be 0 (censored) or 1 (observed), got {got!r} at sample "
            f"{wrong[0]}. Convert it, for example by status == 'dead'.",
            parameter="event",
        )
    valid = time.dtype.kind in "iuf"
    wrong = np.flatnonzero(~(np.isfinite(time) & (time > 0))) if valid else np.arange(1)
    if len(wrong):
        got = time[wrong[0]].item() if len(time) else time.dtype
        raise DataError(
            f"time must be a number above 0, got {got!r} at sample {wrong[0]}. Leave "
            "the sample out, or give the time since the start of its follow-up.",
            parameter="time",
        )
    return event.astype(bool), time.astype(np.float64)


def _censoring_curve(event: Array, time: Array) -> SurvivalCurve:
    """Return the probability of being uncensored; events precede censoring at ties."""
    times, events, at_risk = event_table(event, time)
    total = at_risk - np.append(at_risk[1:], 0)
    remaining = at_risk - events
    share = np.divide(
        total - events, remaining, where=remaining > 0, out=np.zeros_like(remaining)
    )
    return SurvivalCurve(times, np.cumprod(1 - share))


def _check_times(times: Array) -> Array:
    values = np.asarray(times, dtype=np.float64)
    if values.ndim != 1 or (np.diff(values) <= 0).any() or not (values > 0).all():
        raise DataError(
            f"times must be ascending numbers above 0, [T], got shape "
            f"{list(values.shape)}. Sort them by numpy.unique.",
            parameter="times",
        )
    return values


def _check_finite(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    array = np.asarray(values)
    if array.shape != shape or not np.isfinite(array.astype(np.float64)).all():
        raise DataError(
            f"{name} must be finite numbers of shape {list(shape)}, got shape "
            f"{list(array.shape)}. Predict the samples that are scored."
        )
    return array.astype(np.float64)
