"""Folders of recordings of sensors, with a table of labels.

A recording is one file, or one file per sensor: ``p1.edf``; ``p1/acc.csv``,
``acc/p1.csv``, ``p1_acc.csv``, ``p1-acc.csv`` and ``p1.acc.csv`` are the sensor ``acc``
of the recording ``p1``.

Letters: ``N`` recordings, ``L`` rows of all recordings, ``C`` channels.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.column import AnyArray, Column, empty_column
from mmgraph.data.io.arrays import from_rows
from mmgraph.data.io.arrow import NamedTable, as_table
from mmgraph.data.io.folder import is_hidden
from mmgraph.data.io.parquet import read_table
from mmgraph.data.io.sensor_files import SUFFIXES, Block, open_sensor_file
from mmgraph.data.io.times import Seconds, arrow_times
from mmgraph.data.notices import MAX_LISTED, warn
from mmgraph.data.targets import METADATA_NAMES, DefaultColumn
from mmgraph.data.windows import label_column
from mmgraph.errors import Argument, DataError

RECORDING_NAMES = ("recording", "id", "file", "filename", "record")
STOP_NAMES = ("stop", "end")
_SEPARATORS = "/_-."
_FIRST_WORD = re.compile(r"^[^ _.\-]+(?=[ _.\-])")


@dataclass(frozen=True)
class Labels:
    """Rows of a table of labels: one per recording, or one per interval.

    Attributes:
        recordings: Names of the recordings, in the order of the table.
        metadata: Labels, groups and split names by field, one entry per recording.
        intervals: Start, stop and label of the intervals of each recording; None if the
            table has one row per recording.
    """

    recordings: list[str]
    metadata: dict[str, AnyArray | None]
    intervals: list[tuple[AnyArray, AnyArray, AnyArray]] | None = None

    @property
    def has_labels(self) -> bool:
        """True if the table holds labels of recordings or of intervals."""
        return self.intervals is not None or self.metadata.get("y") is not None


@dataclass
class Recording:
    """Blocks of the files of one recording, by sensor.

    Attributes:
        blocks: Blocks of each sensor; "" if one file holds several sensors.
    """

    blocks: dict[str, list[Block]] = field(default_factory=dict)

    @property
    def origin(self) -> float:
        """Earliest start among files without times of rows; 0 if none is known."""
        starts = [b.start for each in self.blocks.values() for b in each]
        return min((s for s in starts if s is not None), default=0.0)


def read_label_table(
    labels: Any,  # noqa: ANN401
    *,
    y: str | None,
    ids: str | None,
    groups: str | None,
) -> Labels:
    """Read a table of labels.

    Args:
        labels: Path of a CSV or Parquet file, or a data frame.
        y: Column of labels; None reads none.
        ids: Column of recordings; None finds it by its name.
        groups: Column of groups; None reads none.

    Raises:
        DataError: If a column does not exist, a recording repeats without intervals, or
            groups differ within a recording.
    """
    is_path = isinstance(labels, str | Path)
    table = NamedTable(read_table(labels) if is_path else as_table(labels))
    column = ids or next((n for n in RECORDING_NAMES if n in table.names), None)
    if column is None:
        raise DataError(
            "labels must have a column of recordings, got "
            f"{', '.join([*table.names][:20])}.",
            ("Name it by ", Argument("ids", "recording"), "."),
        )
    split = METADATA_NAMES["split_name"]
    roles = {"y": y, "groups": groups, "split_name": split}
    fields = {
        role: table.read_metadata(role, name)
        for role, name in roles.items()
        if role != "y" or isinstance(name, DefaultColumn | None) or name in table.names
    }
    cells = table.read_metadata("ids", column)
    assert cells is not None
    names = np.array([_without_suffix(str(cell)) for cell in cells])
    recordings = list(dict.fromkeys(names.tolist()))
    rows = [np.flatnonzero(names == name) for name in recordings]
    stop = next((n for n in STOP_NAMES if n in table.names), None)
    has_intervals = stop is not None and "start" in table.names
    if y is not None and stop is not None and has_intervals:
        return _read_intervals(table, y, stop, recordings, rows, fields)
    return _read_first(recordings, rows, fields, repeats=has_intervals)


def _read_first(
    recordings: list[str],
    rows: list[npt.NDArray[np.int64]],
    fields: Mapping[str, AnyArray | None],
    *,
    repeats: bool,
) -> Labels:
    """Read the first row of each recording, the only one unless ``repeats``."""
    for name, own in zip(recordings, rows, strict=True):
        if len(own) > 1 and not repeats:
            raise DataError(
                "labels must have one row per recording, or the columns start and "
                f"stop, got {len(own)} rows of {name!r}. Remove rows, or add the "
                "seconds of each."
            )
    first = np.array([own[0] for own in rows], dtype=np.int64)
    return Labels(
        recordings, {k: None if v is None else v[first] for k, v in fields.items()}
    )


def _read_intervals(
    table: NamedTable,
    y: str,
    stop: str,
    recordings: list[str],
    rows: list[npt.NDArray[np.int64]],
    fields: Mapping[str, AnyArray | None],
) -> Labels:
    """Read a table with one row per interval of a recording."""
    bounds = {
        name: arrow_times(f"labels, column {name}", table.array(name))
        for name in ("start", stop)
    }
    labels = fields.get("y")
    if labels is None:
        raise DataError(
            "y must be a column of the labels of intervals, got "
            f"{str(y)!r}. Columns: {', '.join([*table.names][:20])}.",
            parameter="y",
        )
    intervals = []
    for name, own in zip(recordings, rows, strict=True):
        own = own[np.argsort(bounds["start"][own], kind="stable")]
        begin, end = bounds["start"][own], bounds[stop][own]
        wrong = ~(end > begin)
        wrong[:-1] |= ~(end[:-1] <= begin[1:] + 1e-9)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"Intervals of {name!r} must end after their start and before the next "
                f"one, got {begin[i]:g} to {end[i]:g} s. Correct the table of labels."
            )
        intervals.append((begin, end, labels[own]))
    metadata: dict[str, AnyArray | None] = {}
    for role in ("groups", "split_name"):
        values = fields.get(role)
        metadata[role] = None
        if values is None:
            continue
        for name, own in zip(recordings, rows, strict=True):
            if len({str(v) for v in values[own]}) > 1:
                raise DataError(
                    f"labels must have one entry of {role} per recording, got several "
                    f"for {name!r}. Correct the table."
                )
        metadata[role] = values[np.array([own[0] for own in rows])]
    return Labels(recordings, metadata, intervals)


def find_recordings(
    folder: Path, known: Sequence[str] | None, *, labels: object = None
) -> dict[str, dict[str, Path]]:
    """Return the files of each recording, by sensor.

    Args:
        folder: Folder, searched recursively; hidden files are ignored.
        known: Names of the recordings; None reads ``recording/sensor`` in subfolders,
            and one recording per file in the folder itself.
        labels: Table of labels, which is no recording if it is in the folder.

    Returns:
        Files by recording and sensor, "" where a file is a whole recording; sorted, or
        in the order of the names.

    Raises:
        DataError: If there is no folder or no file, or two files are the same sensor of
            one recording.
    """
    if not folder.is_dir():
        raise DataError(f"Folder must exist, got '{folder}'. Check the path.")
    names = None if known is None else set(known)
    found: dict[str, dict[str, Path]] = {name: {} for name in known or ()}
    unknown: list[str] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None or not path.is_file() or any(map(is_hidden, relative.parts)):
            continue
        if isinstance(labels, str | Path) and path.samefile(labels):
            continue
        stem = unicodedata.normalize("NFC", relative.as_posix()[: -len(suffix)])
        split = _split_by_folder(stem) if names is None else _split_name(stem, names)
        if split is None:
            unknown.append(stem)
            continue
        recording, sensor = split
        files = found.setdefault(recording, {})
        if sensor in files:
            raise DataError(
                f"{folder} must hold one file of {sensor or 'signals'!r} per recording,"
                f" got {path.name} and {files[sensor].name} of {recording!r}. Remove "
                "one."
            )
        files[sensor] = path
    if not any(found.values()):
        got = f"files such as {unknown[0]!r}, not in labels" if unknown else "none"
        raise DataError(
            f"{folder} must hold recordings ({', '.join(SUFFIXES)}), got {got}. Check "
            "the folder and the names of the recordings."
        )
    _warn_unmatched(found, unknown)
    return {name: files for name, files in found.items() if files}


def _warn_unmatched(
    found: Mapping[str, Mapping[str, Path]], unknown: Sequence[str]
) -> None:
    """Warn about recordings without files, and about files without labels."""
    empty = [name for name, files in found.items() if not files]
    for what, names in (
        ("recordings of the table of labels have no files", empty),
        ("files belong to no recording of the table of labels", unknown),
    ):
        if names:
            listed = ", ".join(names[:MAX_LISTED])
            more = ", ..." * (len(names) > MAX_LISTED)
            warn(f"{len(names)} {what} and are left out: {listed}{more}.")


def _without_suffix(name: str) -> str:
    """Return the name of a recording in normal form C, without suffix of a file."""
    name = unicodedata.normalize("NFC", name)
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _split_by_folder(stem: str) -> tuple[str, str]:
    folder, _, name = stem.rpartition("/")
    return (folder, name) if folder else (name, "")


def _split_name(stem: str, names: set[str]) -> tuple[str, str] | None:
    """Return recording and sensor of a file; None if it belongs to no recording.

    Example:
        >>> from mmgraph.data.io.recordings import _split_name
        >>> [_split_name(s, {"p1"}) for s in ("p1", "p1/acc", "acc/p1", "p1_acc", "p2")]
        [('p1', ''), ('p1', 'acc'), ('p1', 'acc'), ('p1', 'acc'), None]
    """
    if stem in names:
        return stem, ""
    places = [i for i, sign in enumerate(stem) if sign in _SEPARATORS]
    for i in reversed(places):  # the longest recording first
        if stem[:i] in names:
            return stem[:i], stem[i + 1 :].replace("/", ".")
    for i in places:
        if stem[i] == "/" and stem[i + 1 :] in names:
            return stem[i + 1 :], stem[:i].replace("/", ".")
    return None


def read_recordings(
    files: Mapping[str, Mapping[str, Path]], time: str | None
) -> list[Recording]:
    """Read the files of each recording."""
    return [
        Recording({s: open_sensor_file(path, time) for s, path in each.items()})
        for each in files.values()
    ]


@dataclass(frozen=True)
class _Part:
    """Channels of one modality in one recording.

    Attributes:
        recording: Index of the recording.
        block: Block that holds them.
        names: Names of the channels.
        origin: Start of the recording, see :attr:`Recording.origin`.
    """

    recording: int
    block: Block
    names: tuple[str, ...]
    origin: float


def build_columns(
    ids: Sequence[str],
    recordings: Sequence[Recording],
    *,
    modalities: Mapping[str, Sequence[str]] | None,
    rates: float | Mapping[str, float] | None,
    hidden: str | None,
) -> dict[str, Column]:
    """Return one column of sequences with times per modality.

    Args:
        ids: Names of the recordings.
        recordings: Blocks of each recording.
        modalities: Channels of each modality; None makes a modality of each sensor and,
            in files of several sensors, of the channels with the same first word.
        rates: Hz of the rows of files without times, by modality or for all.
        hidden: Channel of labels, which is no modality; or None.

    Raises:
        DataError: If a channel does not exist, has no clock, or its units differ.
    """
    parts: dict[str, list[_Part]] = {}
    groups = _channel_groups(recordings, hidden)
    for i, recording in enumerate(recordings):
        assigned = (
            _assign_sensors(ids[i], recording, groups, hidden)
            if modalities is None
            else _assign_channels(ids[i], recording, modalities)
        )
        for name, (block, names) in assigned.items():
            part = _Part(i, block, names, recording.origin)
            parts.setdefault(name, []).append(part)
    missing = sorted(set(modalities or ()) - set(parts))
    if missing:
        raise DataError(
            f"Modality {missing[0]!r} must have channels in a recording, got none. "
            f"Channels of {ids[0]!r}: {', '.join(_all_names(recordings[:1])[:20])}."
        )
    return {
        name: _build_column(name, parts[name], ids, rates)
        for name in (modalities or parts)
    }


def _all_names(recordings: Iterable[Recording]) -> list[str]:
    blocks = (b for r in recordings for each in r.blocks.values() for b in each)
    return list(dict.fromkeys(name for block in blocks for name in block.names))


def _channel_groups(
    recordings: Sequence[Recording], hidden: str | None
) -> dict[str, str]:
    """Return the modality of each channel of files that hold several sensors."""
    names = [n for n in _all_names(recordings) if n != hidden]
    words = {n: m[0] for n in names if (m := _FIRST_WORD.match(n)) is not None}
    counts = {w: [*words.values()].count(w) for w in set(words.values())}
    return {n: words[n] if counts.get(words.get(n, ""), 0) > 1 else n for n in names}


def _assign_sensors(
    recording: str, content: Recording, groups: Mapping[str, str], hidden: str | None
) -> dict[str, tuple[Block, tuple[str, ...]]]:
    """Return block and channels of each modality, by sensor or by first word."""
    assigned: dict[str, tuple[Block, tuple[str, ...]]] = {}
    for sensor, blocks in content.blocks.items():
        whole = sensor != "" and len(blocks) == 1
        for block in blocks:
            members: dict[str, list[str]] = {}
            for name in block.names:
                if name != hidden:
                    members.setdefault(sensor if whole else groups[name], []).append(
                        name
                    )
            for name, own in members.items():
                if name in assigned:
                    raise DataError(
                        f"Modality {name!r} of recording {recording!r} must have one "
                        "clock, got channels of several rates or files.",
                        (
                            "Divide them by ",
                            Argument("modalities", {name: own, "other": ["x"]}),
                            ".",
                        ),
                    )
                assigned[name] = block, tuple(own)
    return assigned


def _assign_channels(
    recording: str, content: Recording, modalities: Mapping[str, Sequence[str]]
) -> dict[str, tuple[Block, tuple[str, ...]]]:
    """Return block and channels of each modality that was given."""
    assigned = {}
    for modality, fields in modalities.items():
        names = [fields] if isinstance(fields, str) else list(fields)
        own = {s: b for s, b in content.blocks.items() if s == modality}
        blocks = [b for each in (own or content.blocks).values() for b in each]
        best = max(blocks, key=lambda b: len(set(names) & set(b.names)))
        found = [name for name in names if name in best.names]
        if found and len(found) < len(names):
            lost = next(name for name in names if name not in found)
            raise DataError(
                f"Modality {modality!r} must have channels of one clock, got recording "
                f"{recording!r}, where {found[0]!r} is and {lost!r} is not. Channels: "
                f"{', '.join(best.names[:20])}."
            )
        if found:
            assigned[modality] = best, tuple(found)
    return assigned


def _build_column(
    modality: str,
    parts: Sequence[_Part],
    ids: Sequence[str],
    rates: float | Mapping[str, float] | None,
) -> Column:
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    _check_units(modality, parts, ids)
    partial = [n for n in names if any(n not in part.names for part in parts)]
    if partial:
        warn(
            f"Modality {modality!r} has channels that some recordings lack: "
            f"{', '.join(partial[:MAX_LISTED])}. They are missing values there."
        )
    lengths = np.zeros(len(ids), dtype=np.int64)
    values, times = [], []
    for part in parts:
        own = part.block.read(modality, part.names)
        rows = np.full((len(own), len(names)), np.nan, dtype=np.float32)
        rows[:, [names.index(name) for name in part.names]] = own
        seconds = _clock(modality, part, ids, rates, len(rows))
        known = ~np.isnan(rows).all(axis=1)
        values.append(rows[known])
        times.append(seconds[known])
        lengths[part.recording] = known.sum()
    if not lengths.any():
        return empty_column(len(ids))
    return from_rows(
        modality,
        np.concatenate(values),
        lengths,
        ragged=True,
        time=np.concatenate(times),
        names=names,
    )


def _check_units(modality: str, parts: Sequence[_Part], ids: Sequence[str]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for part in parts:
        for name in part.names:
            unit = part.block.units.get(name)
            if unit is None:
                continue
            other = seen.setdefault(name, (unit, ids[part.recording]))
            if other[0] != unit:
                raise DataError(
                    f"Channel {name!r} of modality {modality!r} must have one unit, got"
                    f" {other[0]} in {other[1]!r} and {unit} in {ids[part.recording]!r}"
                    ". Convert the files."
                )


def _clock(
    modality: str,
    part: _Part,
    ids: Sequence[str],
    rates: float | Mapping[str, float] | None,
    num_rows: int,
) -> Seconds:
    """Return the times ``[T]`` of the rows of a block."""
    if part.block.seconds is not None:
        return part.block.seconds
    given = rates.get(modality) if isinstance(rates, Mapping) else rates
    rate = part.block.rate or given
    if rate is None:
        raise DataError(
            f"Modality {modality!r} must have a column of times or a rate, got neither "
            f"in recording {ids[part.recording]!r} with the columns "
            f"{', '.join(part.block.names[:10])}.",
            (
                "Give ",
                Argument("rates", {modality: 50.0}),
                " in Hz, or the column by ",
                Argument("time", "clock"),
                ".",
            ),
        )
    begin = part.origin if part.block.start is None else part.block.start
    return begin - part.origin + np.arange(num_rows) / rate


def build_parts(
    ids: Sequence[str],
    recordings: Sequence[Recording],
    labels: Labels | None,
    *,
    modalities: Mapping[str, Sequence[str]] | None,
    rates: float | Mapping[str, float] | None,
    y: str | None,
) -> dict[str, Any]:
    """Return columns and metadata, the arguments of `MultimodalData.from_columns`.

    Args:
        ids: Names of the recordings that have files, in order.
        recordings: Their content.
        labels: Table of labels, or None.
        modalities: Channels of each modality, or None.
        rates: Hz of files without times.
        y: Column of labels, or channel of the files with labels over time; or None.

    Raises:
        DataError: See :func:`build_columns`; or if the labels do not exist.
    """
    in_table = labels is not None and labels.has_labels
    over_time = y is not None and not in_table and not isinstance(y, DefaultColumn)
    if over_time and y not in _all_names(recordings):
        raise DataError(
            f"y must be a column of the labels or of the recordings, got {str(y)!r}. "
            f"Channels of {ids[0]!r}: {', '.join(_all_names(recordings[:1])[:20])}.",
            parameter="y",
        )
    hidden = y if over_time else None
    columns = build_columns(
        ids, recordings, modalities=modalities, rates=rates, hidden=hidden
    )
    parts: dict[str, Any] = {"columns": columns, "ids": list(ids)}
    if labels is not None:
        rows = [labels.recordings.index(name) for name in ids]
        for role, values in labels.metadata.items():
            parts[role] = None if values is None else values[rows]
    track = None
    if labels is not None and labels.intervals is not None and y is not None:
        track = interval_track(y, [labels.intervals[row] for row in rows])
    elif over_time and y is not None:
        track = label_track(ids, recordings, y, columns)
    if track is not None and y in columns:
        raise DataError(
            f"y must have another name than the modalities, got {y!r}. Rename one."
        )
    if track is not None:
        columns[str(y)] = track
    return parts


def check_rates(rates: Any) -> None:  # noqa: ANN401
    """Check that rates are numbers above 0.

    Raises:
        DataError: If one is not.
    """
    for rate in rates.values() if isinstance(rates, Mapping) else (rates,):
        if rate is None:
            continue
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not number or not 0 < rate < np.inf:
            raise DataError(f"rates must be above 0 Hz, got {rate!r}. Correct them.")


def label_track(
    ids: Sequence[str],
    recordings: Sequence[Recording],
    y: str,
    columns: Mapping[str, Column],
) -> Column | None:
    """Return labels over time, read from a channel of the files; None without it.

    Args:
        ids: Names of the recordings.
        recordings: Blocks of each recording.
        y: Channel of labels.
        columns: Columns of the modalities, whose rates the files have.
    """
    times, labels = [], []
    for recording in recordings:
        blocks = [b for each in recording.blocks.values() for b in each]
        block = next((b for b in blocks if y in b.names), None)
        if block is None:
            times.append(np.empty(0))
            labels.append(np.empty(0))
            continue
        own = block.read_labels(y)
        clock = _clock_of_labels(y, block, recording, columns, len(times), len(own))
        times.append(clock)
        labels.append(own)
    return label_column(y, times, labels) if any(map(len, times)) else None


def _clock_of_labels(
    y: str,
    block: Block,
    recording: Recording,
    columns: Mapping[str, Column],
    index: int,
    num_rows: int,
) -> Seconds:
    """Return the times of labels: those of the rows they stand in."""
    if block.seconds is not None:
        return block.seconds
    if block.rate:
        begin = recording.origin if block.start is None else block.start
        return begin - recording.origin + np.arange(num_rows) / block.rate
    for column in columns.values():
        own = slice(column.offsets[index], column.offsets[index + 1])
        if column.time is not None and column.lengths[index] == num_rows:
            return column.time[own]
    raise DataError(
        f"Labels {y!r} must be in a file with times, got neither a column of times nor "
        "a modality of as many rows. Add the times."
    )


def interval_track(
    y: str, intervals: Sequence[tuple[AnyArray, AnyArray, AnyArray]]
) -> Column:
    """Return labels over time from the intervals of each recording."""
    times, labels = [], []
    for start, stop, own in intervals:
        closing = np.append(start[1:] > stop[:-1], True)
        names = np.array([*own, *([None] * int(closing.sum()))], dtype=object)
        clock = np.concatenate([start, stop[closing]])
        order = np.argsort(clock, kind="stable")
        times.append(clock[order])
        labels.append(names[order])
    return label_column(y, times, labels)
