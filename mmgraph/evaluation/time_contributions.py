"""Contributions of segments of time to predictions.

Letters: ``N`` samples, ``S`` segments, ``M`` modalities with times, ``K`` classes.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, Column, lengths_to_offsets
from mmgraph.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FloatArray: TypeAlias = npt.NDArray[np.float64]

MAX_SEGMENTS = 1000
SMALLEST = 1e-12  # probability whose logarithm is taken at least


@dataclass(frozen=True)
class TimeContributions:
    """Change of a prediction by the rows of one sensor in one segment of time.

    Attributes:
        values: ``[N, S, M]`` prediction from everything minus that without the rows of
            the segment: log-probabilities of ``targets``, or values of a regressor. NaN
            where a sensor has no row in the segment.
        modalities: Names of the modalities that have times.
        seconds: Duration of a segment; the first starts with the sample.
        ids: ``[N]`` ids of the samples.
        targets: ``[N]`` classes whose probability is explained; None for a regressor.
    """

    values: FloatArray
    modalities: tuple[str, ...]
    seconds: float
    ids: npt.NDArray[Any]
    targets: npt.NDArray[Any] | None

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per sample, modality and segment in which it has rows.

        Raises:
            ConfigError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError(
                "to_frame requires pandas, which is not installed. Install "
                "mmgraph[pandas]."
            ) from None
        sample, modality, segment = np.nonzero(~np.isnan(self.values.swapaxes(1, 2)))
        return pd.DataFrame(
            {
                "id": self.ids[sample],
                "modality": np.array(self.modalities)[modality],
                "start": segment * self.seconds,
                "stop": (segment + 1) * self.seconds,
                "contribution": self.values[sample, segment, modality],
            }
        )

    def plot(self, sample: int = 0, ax: "Axes | None" = None) -> "Axes":
        """Draw the contributions of one sample: modalities over time.

        Args:
            sample: Number of the sample.
            ax: Axes to draw in; None creates them.

        Returns:
            The axes. Blue segments raise the prediction, red ones lower it.
        """
        from matplotlib import pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 0.8 + 0.5 * len(self.modalities)))
        values = self.values[sample].T
        largest = float(np.nanmax(np.abs(values), initial=0)) or 1.0
        count = values.shape[1]
        image = ax.pcolormesh(
            np.arange(count + 1) * self.seconds,
            np.arange(len(self.modalities) + 1),
            np.ma.masked_invalid(values),
            cmap="RdBu",
            vmin=-largest,
            vmax=largest,
        )
        ax.set_yticks(np.arange(len(self.modalities)) + 0.5, list(self.modalities))
        ax.invert_yaxis()
        ax.set_xlabel("time in s")
        ax.figure.colorbar(image, ax=ax, label="contribution")
        return ax


def time_contributions(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    seconds: float,
    *,
    target: Any = None,  # noqa: ANN401
) -> TimeContributions:
    """Compute how much each sensor contributes to a prediction in each segment of time.

    The rows of one sensor in one segment are hidden, and the model predicts from the
    others. Contributions of segments do not add up to the prediction: two segments with
    the same information contribute little each.

    Args:
        model: Fitted classifier of one label, or a regressor of one value.
        data: Samples with times.
        seconds: Duration of a segment.
        target: Class whose log-probability is explained. Default: the predicted class
            of each sample.

    Raises:
        DataError: If no modality has times, a duration is not above 0 or gives more
            than 1000 segments, or the target is no class of the model.

    Example:
        >>> import numpy as np
        >>> heart = {"hr": [[[60.0], [60.0]], [[60.0], [90.0]]] * 8}
        >>> times = {"hr": [[0.0, 1.0]] * 16}
        >>> data = MultimodalData.from_arrays(heart, times=times, y=[0, 1] * 8)
        >>> clf = mmgraph.FusionClassifier(level="model", experts=("linear",)).fit(data)
        >>> found = mmgraph.time_contributions(clf, data[1], seconds=1)
        >>> bool(found.values[0, 1, 0] > found.values[0, 0, 0])  # second row
        True
    """
    timed = tuple(name for name, c in data.columns.items() if c.time is not None)
    if not timed:
        raise DataError(
            "time_contributions must have a modality with times, got none. Pass times "
            "when the data are built."
        )
    segment = {name: _segments(data, name, timed, seconds) for name in timed}
    count = 1 + max(int(each.max(initial=0)) for each in segment.values())
    score, targets = _scorer(model, data, target)
    base = score(data, np.arange(len(data)))
    values = np.full((len(data), count, len(timed)), np.nan)
    for m, name in enumerate(timed):
        column = data.columns[name]
        for s in range(count):
            inside = segment[name] == s
            samples = np.unique(column.sample[inside])
            if len(samples):
                columns = data.columns | {name: _without(column, inside)}
                hidden = replace(data, columns=columns)[samples]
                values[samples, s, m] = base[samples] - score(hidden, samples)
    return TimeContributions(values, timed, float(seconds), data.ids, targets)


def _segments(
    data: MultimodalData, name: str, timed: tuple[str, ...], seconds: float
) -> npt.NDArray[np.int64]:
    """Return the segment ``[L]`` of each row, counted from the start of its sample."""
    is_number = isinstance(seconds, int | float | np.number)
    if not is_number or not 0 < float(seconds) < np.inf:
        raise DataError(f"seconds must be above 0, got {seconds!r}. Pass a duration.")
    start = np.full(len(data), np.inf)
    for other in timed:
        column = data.columns[other]
        assert column.time is not None
        np.minimum.at(start, column.sample, column.time)
    column = data.columns[name]
    assert column.time is not None
    number = np.floor((column.time - start[column.sample]) / seconds + 1e-9)
    if number.max(initial=0) >= MAX_SEGMENTS:
        raise DataError(
            f"seconds must give at most {MAX_SEGMENTS} segments, got "
            f"{number.max() + 1:.0f}. Choose longer segments, or cut windows first."
        )
    return number.astype(np.int64)


def _without(column: Column, hidden: BoolArray) -> Column:
    """Return the column without some rows ``[L]``."""
    assert column.time is not None
    lengths = np.bincount(column.sample[~hidden], minlength=len(column))
    return replace(
        column,
        values=column.values[~hidden],
        time=column.time[~hidden],
        offsets=lengths_to_offsets(lengths),
    )


def _scorer(model: Any, data: MultimodalData, target: Any) -> Any:  # noqa: ANN401
    """Return a function that scores samples, and the targets ``[N]`` or None."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        if np.ndim(model.predict(data)) > 1:
            raise DataError(
                "time_contributions must have a regressor of one value, got one of "
                "several. Fit one regressor per target."
            )
        return (lambda samples, _: model.predict(samples)), None
    if target is not None and target not in list(classes):
        known = ", ".join(map(str, classes[:20]))
        raise DataError(
            f"target must be a class of the model ({known}), got {target!r}."
        )
    probabilities = model.predict_proba(data)
    chosen = (
        probabilities.argmax(axis=1)
        if target is None
        else np.full(len(data), list(classes).index(target))
    )

    def score(samples: MultimodalData, rows: npt.NDArray[np.int64]) -> FloatArray:
        p = model.predict_proba(samples)[np.arange(len(rows)), chosen[rows]]
        return np.log(np.maximum(p, SMALLEST))

    return score, np.asarray(classes)[chosen]
