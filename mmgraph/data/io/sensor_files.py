"""Files of sensors: CSV, Parquet, EDF, BDF and WFDB.

A file holds blocks of channels that share their times: a table is one block; the
signals of an EDF or WFDB file are one block per rate.

Letters: ``T`` rows of a block, ``C`` channels.
"""

import io
import os
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph import limits
from mmgraph.data.arrow_types import is_string, is_temporal, plain_array
from mmgraph.data.cells import read_cells
from mmgraph.data.column import AnyArray
from mmgraph.data.io.arrow import NamedTable
from mmgraph.data.io.frames import TIME_NAMES
from mmgraph.data.io.parquet import CSV, PARQUET, one_line, read_table
from mmgraph.data.io.times import Seconds, arrow_times, read_times
from mmgraph.data.label_cells import read_labels
from mmgraph.data.notices import warn
from mmgraph.data.string_cells import parse_dates
from mmgraph.errors import Argument, ConfigError, DataError
from mmgraph.files import check_regular, read_bytes

EDF = (".edf", ".bdf")
WFDB = ".hea"  # header of a WFDB record; its signals are in files that it names
SUFFIXES = (*CSV, PARQUET, *EDF, WFDB)
CLOCK_NAMES = TIME_NAMES | {"ts", "timestamps", "times", "unixtime", "epoch"}
ROW_NUMBERS = ("", "Unnamed: 0", "index", "__index_level_0__")
_UNIT = re.compile(r"^(.*?)[ _]*[\[(]?(ms|us|\u00b5s|ns|s)[\])]?$")
_FACTORS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}
_DECODER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError),
)


class Block(ABC):
    """Channels of a file that share their times.

    Attributes:
        names: Names of the channels.
        units: Unit of each channel whose file states it.
        rate: Rows per second; None if the file does not state it.
        start: Seconds since 1970 of the first row of a file without times of rows;
            None if they are unknown.
    """

    names: tuple[str, ...]
    units: Mapping[str, str]
    rate: float | None = None
    start: float | None = None

    @abstractmethod
    def read(self, modality: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the values ``[T, C]`` of some channels.

        Raises:
            DataError: If one does not hold numbers.
        """

    @abstractmethod
    def read_labels(self, name: str) -> AnyArray:
        """Return the cells ``[T]`` of a channel of labels: numbers or strings."""

    @property
    def seconds(self) -> Seconds | None:
        """Times ``[T]`` of the rows as the file states them, or None."""
        return None


def open_sensor_file(path: Path, time: str | None = None) -> list[Block]:
    """Read the blocks of a file.

    Args:
        path: File with one of the `SUFFIXES`.
        time: Column of times in tables; None finds it by its name or its dates.

    Raises:
        ConfigError: If a library that the format needs is not installed.
        DataError: If the file is damaged, too large, or its times are ambiguous.
    """
    suffix = path.suffix.lower()
    if suffix in EDF:
        return _read_edf(path)
    if suffix == WFDB:
        return _read_wfdb(path)
    return [TableBlock(path, time)]


class TableBlock(Block):
    """Rows of a CSV or Parquet file.

    Args:
        path: File.
        time: Column of times; None finds it.
    """

    def __init__(self, path: Path, time: str | None) -> None:
        self.path, self.units = path, {}
        self.table = NamedTable(read_table(path))
        if self.table.names.repeated is not None:
            raise DataError(
                f"{path} must have columns of different names, got "
                f"{self.table.names.repeated!r} twice. Rename one."
            )
        self.time = self._find_time(time)
        numbers = {n for n in ROW_NUMBERS if n in self.table.names and self._counts(n)}
        hidden = numbers | {self.time}
        self.names = tuple(name for name in self.table.names if name not in hidden)

    def read(self, modality: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the values ``[T, C]`` of some columns."""
        known = self.table.certain_numbers(names)
        rows = np.empty((len(self.table), len(names)), dtype=np.float32)
        for c, name in enumerate(names):
            cells = known.get(name)
            if cells is None:
                cells = self._numbers(modality, name)
            if not isinstance(cells, np.ndarray):
                raise DataError(
                    f"{self.path}: column {name!r} of modality {modality!r} must hold "
                    "numbers, got strings.",
                    (
                        "Name the columns to read by ",
                        Argument("modalities", {modality: ["x", "y"]}),
                        "; a column of labels is y.",
                    ),
                )
            rows[:, c] = cells
        return rows

    def read_labels(self, name: str) -> AnyArray:
        """Return the cells ``[T]`` of a column of labels."""
        typed = not self.table.untyped
        return read_labels("y", name, self.table.array(name), typed=typed)

    @cached_property
    def seconds(self) -> Seconds | None:
        """Times ``[T]`` of the rows, or None."""
        if self.time is None:
            return None
        array, subject = self.table.array(self.time), f"{self.path}, column {self.time}"
        factor = _time_factor(self.time)
        if factor is None or factor == 1:
            return arrow_times(subject, array, np.zeros(len(array), dtype=np.int64))
        cells = self._numbers(subject, self.time)
        if not isinstance(cells, np.ndarray):
            return arrow_times(subject, array)
        return read_times(subject, cells * factor)

    def _numbers(self, modality: str, name: str) -> Any:  # noqa: ANN401
        array = self.table.array(name)
        return read_cells(modality, name, array, typed=not self.table.untyped)

    def _find_time(self, time: str | None) -> str | None:
        """Return the column of times; None if there is none.

        Raises:
            DataError: If the given column does not exist, or several may be meant.
        """
        names = self.table.names
        if time is not None:
            names.position(time, "Name the column of times by time=.")
            return time
        found = [n for n in names if _time_factor(n) is not None or self._is_dated(n)]
        if len(found) > 1:
            raise DataError(
                f"{self.path} must have one column of times, got {', '.join(found)}.",
                ("Name it by ", Argument("time", found[0]), "; drop the others."),
            )
        return found[0] if found else None

    def _is_dated(self, name: str) -> bool:
        """Return True if a column has the type of dates, or starts with a date."""
        import pyarrow as pa

        array = plain_array(self.table.array(name))[0]
        if is_temporal(array.type):
            return True
        first = array.drop_null()[:1] if is_string(array.type) else array[:0]
        if not len(first) or "-" not in first[0].as_py():
            return False
        dates = parse_dates(first.cast(pa.large_string()), np.ones(1, dtype=bool))
        return dates is not None and bool(np.isfinite(dates[0]))

    def _counts(self, name: str) -> bool:
        """Return True if a column numbers the rows, as a written index does."""
        cells = self._numbers("index", name)
        return isinstance(cells, np.ndarray) and np.array_equal(
            cells, np.arange(len(cells))
        )


def _time_factor(name: str) -> float | None:
    """Return the seconds of the unit of a column of times; None for other columns.

    Example:
        >>> from mmgraph.data.io.sensor_files import _time_factor
        >>> [_time_factor(n) for n in ("Time (ms)", "timestamp", "t", "x", "T")]
        [0.001, 1.0, 1.0, None, None]
    """
    lower = name.strip().lower()
    if name.strip() == "T":  # a temperature
        return None
    match = _UNIT.match(lower)
    if match and (match[1] in CLOCK_NAMES or lower in ("ms", "us", "ns")):
        return _FACTORS[match[2]]
    return 1.0 if lower in CLOCK_NAMES else None


class SignalBlock(Block):
    """Signals of one rate of an EDF or WFDB file.

    Args:
        signals: Values ``[T]`` by name, in the units of the file.
        units: Unit by name.
        rate: Rows per second.
        start: Seconds since 1970 of the first row, or None.
    """

    def __init__(
        self,
        signals: Mapping[str, AnyArray],
        units: Mapping[str, str],
        rate: float,
        start: float | None,
    ) -> None:
        self.signals, self.units = signals, units
        self.names, self.rate, self.start = tuple(signals), rate, start

    def read(self, modality: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the values ``[T, C]`` of some signals."""
        return np.stack([self.signals[name] for name in names], axis=1)

    def read_labels(self, name: str) -> AnyArray:
        """Return the values ``[T]`` of a signal that holds labels."""
        return self.signals[name].astype(np.float64)


def _blocks(
    signals: Sequence[tuple[str, str, float, AnyArray]], start: float | None
) -> list[Block]:
    """Return signals (name, unit, rate, values) as blocks of one rate each."""
    by_rate: dict[float, dict[str, tuple[str, AnyArray]]] = {}
    counts: dict[str, int] = {}
    for name, unit, rate, values in signals:
        name = name.strip() or "signal"
        counts[name] = counts.get(name, 0) + 1
        own = name if counts[name] == 1 else f"{name} {counts[name]}"
        entry = unit.strip().replace("\u00b5", "u"), values.astype(np.float32)
        by_rate.setdefault(rate, {})[own] = entry
    return [
        SignalBlock(
            {name: values for name, (_, values) in each.items()},
            {name: unit for name, (unit, _) in each.items() if unit},
            rate,
            start,
        )
        for rate, each in by_rate.items()
    ]


def _read_edf(path: Path) -> list[Block]:
    """Read an EDF or BDF file by edfio, in physical units.

    Raises:
        DataError: If it is damaged, or its data records are not continuous.
    """
    try:
        import edfio
    except ImportError:
        raise _not_installed(path, "edfio") from None
    content = read_bytes(path, "table_bytes", DataError)
    read = edfio.read_bdf if path.suffix.lower() == ".bdf" else edfio.read_edf
    with _decoding(path):
        file = read(io.BytesIO(content), header_encoding="latin-1")
        if not file.is_continuous:
            raise ValueError("a discontinuous recording (EDF+D); export it as EDF+C")
        try:
            start = _since_1970(file.startdatetime)
        except ValueError:  # an anonymized date; files of a recording share it
            start = _since_1970(datetime.combine(date(1970, 1, 1), file.starttime))
        return _blocks(
            [
                (s.label, s.physical_dimension, float(s.sampling_frequency), s.data)
                for s in file.signals
            ],
            start,
        )


def _read_wfdb(path: Path) -> list[Block]:
    """Read a WFDB record of one segment by wfdb, in physical units.

    wfdb refuses headers that name files of other folders.

    Raises:
        DataError: If it is damaged, has several segments, or names such files.
    """
    try:
        import wfdb
    except ImportError:
        raise _not_installed(path, "wfdb") from None
    read_bytes(path, "run_file_bytes", DataError)
    record = os.path.abspath(path.with_suffix(""))  # never an address of a cloud
    with _decoding(path):
        header = wfdb.rdheader(record)
        if not isinstance(header, wfdb.Record):
            raise ValueError("a record of several segments; convert it to one")
        _check_signal_files(path, header)
        signals = wfdb.rdrecord(record, smooth_frames=False)
        start = signals.base_datetime
        rates = [float(signals.fs) * n for n in signals.samps_per_frame]
        names = zip(signals.sig_name, signals.units, strict=True)
        return _blocks(
            [
                (str(name), str(unit), rate, np.asarray(values))
                for (name, unit), rate, values in zip(
                    names, rates, signals.e_p_signal, strict=True
                )
            ],
            None if start is None else _since_1970(start),
        )


def _check_signal_files(path: Path, header: Any) -> None:  # noqa: ANN401
    """Check the files that the header of a WFDB record names, and their size.

    Raises:
        ValueError: If there is none.
        DataError: If the signals are larger than the limits allow.
    """
    if not header.file_name:
        raise ValueError("a header without signals")
    packed = 0
    for name in sorted(set(header.file_name)):
        check_regular(path.parent / name, DataError)
        packed += (path.parent / name).stat().st_size
    frames = header.sig_len or 0
    size = 8 * frames * sum(header.samps_per_frame)
    limits.check_expansion(size, packed, "table_expansion", DataError)


def _since_1970(when: datetime) -> float:
    """Return the seconds of a date without a zone, as if it were UTC."""
    return float(np.datetime64(when, "us").astype(np.int64) / 1e6)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Convert exceptions of a decoder to a DataError, and its warnings to ours."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except DataError as error:
        raise DataError.inside(path, error) from None
    except _DECODER_ERRORS as error:
        raise DataError(
            f"{path} must be a readable {path.suffix.lower()} file, got "
            f"{one_line(error)}. Export it again."
        ) from None
    found = [one_line(w.message) for w in caught if w.category is UserWarning]  # type: ignore[arg-type]
    if found:
        warn(f"{path}: {' '.join(found)}")


def _not_installed(path: Path, library: str) -> ConfigError:
    return ConfigError(
        f"{path} needs {library}, got an environment without it. Run pip install "
        "'mmgraph[recordings]'."
    )
