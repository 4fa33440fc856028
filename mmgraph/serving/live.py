"""Prediction on a recording that is still running.

Letters: ``T`` rows of a chunk, ``C`` channels, ``K`` classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.data.windows import SLACK, WindowGrid, cut_column, median_period
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike


class Predictor(Protocol):
    """Classifier or regressor: an estimator, or a model loaded from ONNX."""

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: ANN401, N803
        """Return one prediction per sample."""


@dataclass(frozen=True)
class WindowPrediction:
    """Prediction for one window of a running recording.

    Attributes:
        start: Time at which the window starts, on the clock of the recording.
        stop: Time at which it ends.
        value: Predicted class or number.
        probabilities: Probabilities ``[K]`` of the classes; None for a regressor.
    """

    start: float
    stop: float
    value: Any
    probabilities: npt.NDArray[np.floating[Any]] | None


class WindowPredictor:
    """Predicts windows of a recording while its rows arrive.

    Rows are kept until the last window that contains them is predicted, so memory does
    not grow with the recording. Predictions are those of
    :meth:`mmgraph.MultimodalData.windows` on the whole recording, if the rows of a
    window arrive before its end or at most ``delay`` seconds later.

    Args:
        model: Fitted classifier or regressor of windows, or an exported model.
        seconds: Duration of a window.
        step: Seconds from the start of a window to that of the next. Default: the
            duration.
        origin: Time at which the first window starts. Default: the first time of the
            first chunk.
        delay: Seconds that a window waits for late rows after its end.
        coverage: Share of expected rows below which a sensor is missing in a window.
        constant: Values of modalities without times, one sample.

    Raises:
        DataError: If a number is out of range.

    Example:
        >>> import numpy as np
        >>> heart = {"hr": [[[60.0], [61.0]], [[90.0], [91.0]]] * 8}
        >>> times = {"hr": [[0.0, 1.0]] * 16}
        >>> data = MultimodalData.from_arrays(heart, times=times, y=[0, 1] * 8)
        >>> clf = mmgraph.FusionClassifier(level="model", experts=("linear",)).fit(data)
        >>> live = mmgraph.serving.WindowPredictor(clf, seconds=2)
        >>> live.push({"hr": [60.0, 61.0]}, {"hr": [0.0, 1.0]})
        []
        >>> [each.value.item() for each in live.push({"hr": [90.0]}, {"hr": [2.0]})]
        [0]
    """

    def __init__(
        self,
        model: Predictor,
        *,
        seconds: float,
        step: float | None = None,
        origin: float | None = None,
        delay: float = 0.0,
        coverage: float = 0.0,
        constant: Mapping[str, Any] | None = None,
    ) -> None:
        step = seconds if step is None else step
        for name, value in (("seconds", seconds), ("step", step)):
            if not 0 < value < np.inf:
                raise DataError(f"{name} must be above 0, got {value!r}. Pass seconds.")
        if not 0 <= delay < np.inf or not 0 <= coverage <= 1:
            raise DataError(
                "delay must be at least 0 and coverage from 0 to 1, got "
                f"{delay!r} and {coverage!r}."
            )
        self.model, self.seconds, self.step = model, seconds, step
        self.delay, self.coverage = delay, coverage
        self._origin, self._next, self._latest = origin, 0, -np.inf
        self._buffer: dict[str, Column] = {}
        values = {name: [value] for name, value in (constant or {}).items()}
        self._constant = MultimodalData.from_arrays(values).columns if values else {}

    @property
    def num_rows(self) -> int:
        """Number of rows that are kept for the next windows."""
        return sum(len(column.values) for column in self._buffer.values())

    def push(
        self, rows: Mapping[str, Any], times: Mapping[str, ArrayLike]
    ) -> list[WindowPrediction]:
        """Add rows, and predict the windows that end with them.

        Args:
            rows: Rows ``[T, C]``, or ``[T]`` of one channel, of some sensors.
            times: Times ``[T]`` of the rows, seconds or dates.

        Returns:
            Predictions of the windows that are complete, in order. Windows without a
            row have none.

        Raises:
            DataError: If rows and times do not fit each other or the earlier ones.
        """
        given = {name: each for name, each in rows.items() if len(each)}
        lacking = given.keys() - times.keys()
        if lacking:
            raise DataError(
                f"push must get times of all sensors, got none of {min(lacking)!r}."
            )
        if given:
            chunk = MultimodalData.from_arrays(
                {name: [each] for name, each in given.items()},
                times={name: [times[name]] for name in given},
            )
            self._add(chunk.columns)
        return self._predict(self._latest - self.delay)

    def finish(self) -> list[WindowPrediction]:
        """Predict the windows that end with the recording, whose last row they hold.

        Returns:
            Predictions of windows that were waiting for later rows.
        """
        ends = [
            column.time[-1] + median_period(column.time)
            for column in self._buffer.values()
            if column.time is not None and len(column.time)
        ]
        return self._predict(max([self._latest, *ends]))

    def _add(self, columns: Mapping[str, Column]) -> None:
        """Merge the rows of a chunk into those that are kept."""
        first = min(c.time[0] for c in columns.values() if c.time is not None)
        if self._origin is None:
            self._origin = float(first)
        for name, column in columns.items():
            assert column.time is not None
            self._latest = max(self._latest, float(column.time[-1]))
            old = self._buffer.get(name)
            if old is not None:
                if old.channels != column.channels:
                    raise DataError(
                        f"Modality {name!r} must have {old.channels} channels as in "
                        f"earlier chunks, got {column.channels}."
                    )
                assert old.time is not None
                values = np.concatenate([old.values, column.values])
                time = np.concatenate([old.time, column.time])
                order = np.argsort(time, kind="stable")
                column = replace(column, values=values[order], time=time[order])
            self._buffer[name] = _from(column, self._start(self._next))

    def _start(self, number: int) -> float:
        assert self._origin is not None
        return self._origin + number * self.step

    def _complete(self, until: float) -> list[int]:
        """Return the numbers of complete windows with rows, and advance beyond them.

        Windows in a gap are skipped in one step.
        """
        numbers: list[int] = []
        times = [c.time for c in self._buffer.values() if c.time is not None]
        while self._start(self._next) + self.seconds <= until + SLACK:
            start = self._start(self._next) - SLACK
            later = [t[i] for t in times if (i := np.searchsorted(t, start)) < len(t)]
            if not later:
                break
            if min(later) < start + self.seconds:
                numbers.append(self._next)
                self._next += 1
            else:  # the first window that the next row is in
                first = (min(later) - self._start(0) - self.seconds) / self.step
                self._next = max(self._next + 1, int(np.floor(first)))
        return numbers

    def _predict(self, until: float) -> list[WindowPrediction]:
        if self._origin is None:
            return []
        numbers = self._complete(until)
        if not numbers:
            return []
        start = np.array([self._start(number) for number in numbers])
        sample = np.zeros(len(start), dtype=np.int64)
        bounds = np.array([self._origin]), np.array([until])
        grid = WindowGrid(sample, start, *bounds, self.seconds)
        columns = {
            name: cut_column(column, grid, self.coverage)
            for name, column in (self._buffer | self._constant).items()
        }
        for name, column in self._buffer.items():
            self._buffer[name] = _from(column, self._start(self._next))
        # coverage may leave no sensor
        kept = np.any([columns[name].present for name in self._buffer], axis=0)
        data, start = MultimodalData.from_columns(columns)[kept], start[kept]
        return self._as_predictions(data, start) if len(data) else []

    def _as_predictions(
        self, data: MultimodalData, start: npt.NDArray[np.float64]
    ) -> list[WindowPrediction]:
        is_classifier = getattr(self.model, "classes_", None) is not None
        every = self.model.predict_proba(data) if is_classifier else None  # type: ignore[attr-defined]
        values = self.model.predict(data)
        return [
            WindowPrediction(
                float(start[i]),
                float(start[i] + self.seconds),
                values[i],
                None if every is None else every[i],
            )
            for i in range(len(start))
        ]


def _from(column: Column, start: float) -> Column:
    """Return the rows of a single sample from a time on."""
    assert column.time is not None
    first = int(np.searchsorted(column.time, start - SLACK))
    values, time = column.values[first:], column.time[first:]
    return replace(column, values=values, time=time, offsets=np.array([0, len(time)]))
