"""A self-contained page on the data of a file: patterns, distributions, alarms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph._html import render
from mmgraph.data import Column, MultimodalData
from mmgraph.data.column import AnyArray
from mmgraph.data.stream.stream import in_memory
from mmgraph.data.summary import (
    ChannelSummary,
    DataSummary,
    format_number,
    format_share,
    string_lengths,
)
from mmgraph.data.targets import METADATA_NAMES, labels_as_floats
from mmgraph.evaluation.alarms import Alarm
from mmgraph.evaluation.data_alarms import fill_values_of, find_data_alarms
from mmgraph.files import write_text
from mmgraph.workflows.inputs import check_samples
from mmgraph.workflows.samples import is_folder_of_files, read_samples
from mmgraph.workflows.saved_model import common_columns

BINS = 24
SHOWN_PATTERNS = 15
SHOWN_COUNTS = 10  # classes and groups
SHOWN_CATEGORIES = 5


@dataclass(frozen=True)
class ReportRequest:
    """Samples and options.

    Attributes:
        file: Parquet or CSV file, folder of Parquet files, or folder of images, texts
            and audio.
        label: Column of labels; None reads the column "y" if the file has it.
        modalities: Columns of modalities; empty for files written by mmgraph.
        group: Column of groups; None reads the column "group" if the file has it.
        id: Column of ids; None reads the column "id" if its values are unique.
    """

    file: Path
    label: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    group: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class DataReport:
    """What a page on data shows.

    Attributes:
        data: Samples of the file.
        summary: Types, ranges and missing patterns.
        alarms: Properties that make scores of models misleading.
    """

    data: MultimodalData
    summary: DataSummary
    alarms: Sequence[Alarm]


def read_report(request: ReportRequest) -> DataReport:
    """Read a file, summarize it and search it for alarms.

    Args:
        request: Samples and options.

    Raises:
        DataError: If the file or a column does not exist or cannot be read.
    """
    check_samples(request.file)
    default = METADATA_NAMES["y"]
    label = request.label
    if label is None and not is_folder_of_files(request.file):
        label = str(default) if default in common_columns(request.file) else None
    samples = read_samples(
        request.file,
        modalities=request.modalities or {},
        label=label,
        group=request.group,
        id=request.id,
    )
    data = in_memory(samples)
    return DataReport(data, data.describe(), find_data_alarms(data))


def write_report_page(
    report: DataReport, path: Path, title: str, *, limit: int = 12
) -> None:
    """Write a report as a self-contained HTML page.

    Args:
        report: Samples, summary and alarms.
        path: File to write.
        title: Heading of the page.
        limit: Channels of each modality whose distribution is shown, at most.
    """
    summary, data = report.summary, report.data
    modalities = [
        {
            "each": each,
            "observed": format_share(1 - each.missing),
            "width": round(100 * (1 - each.missing), 1),
            "cards": [*_channel_cards(data.columns[each.name], each.channels[:limit])],
        }
        for each in summary.modalities
    ]
    page = render(
        "data.html",
        title=title,
        summary=summary,
        alarms=report.alarms,
        modalities=modalities,
        patterns=_pattern_rows(summary),
        targets=[*_target_cards(data, summary.targets)],
        classes=_bars(summary.classes, SHOWN_COUNTS),
        groups=_bars(summary.groups, SHOWN_COUNTS),
    )
    write_text(path, page)


def _channel_cards(
    column: Column, channels: Sequence[ChannelSummary]
) -> Iterator[dict[str, Any]]:
    """Yield name, values and distribution of channels, without fill values."""
    fills = fill_values_of(column)
    for each in channels:
        card: dict[str, Any] = {"each": each, "bars": [], "histogram": None}
        card["about"] = each.outline
        if each.type == "category":
            card["bars"] = _bars(each.categories, SHOWN_CATEGORIES)
        elif column.is_text:
            card["histogram"] = _histogram(string_lengths(column).ravel())
        else:
            cells = column.cells(each.name)[0]
            marks = np.array(fills.get(each.name, ()), dtype=np.float32)
            card["histogram"] = _histogram(cells[~np.isin(cells, marks)])
        yield card


def _target_cards(
    data: MultimodalData, targets: Sequence[ChannelSummary]
) -> Iterator[dict[str, Any]]:
    """Yield name, values and distribution of numeric targets."""
    if data.y is None or not targets:
        return
    table = labels_as_floats(data.y).reshape(len(data), -1)
    for k, each in enumerate(targets):
        histogram = _histogram(table[:, k])
        yield {"each": each, "about": each.outline, "bars": [], "histogram": histogram}


def _histogram(values: AnyArray) -> dict[str, Any] | None:
    """Return heights in percent of the highest bar, and both ends; None if empty.

    Whole numbers of few values have one bar per value.
    """
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return None
    low, high = float(known.min()), float(known.max())
    few = high - low < BINS and bool((known == np.round(known)).all())
    if few or low == high:
        edges = np.arange(low - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    counts = np.histogram(known, edges)[0]
    heights = np.where(counts > 0, np.maximum(100 * counts / counts.max(), 2), 0)
    return {
        "heights": heights.round(1).tolist(),
        "low": format_number(low),
        "high": format_number(high),
    }


def _pattern_rows(summary: DataSummary) -> list[dict[str, Any]]:
    """Return the most frequent patterns with the presence of each modality."""
    names = [each.name for each in summary.modalities]
    most = max(summary.patterns.values(), default=1)
    return [
        {
            "present": [name in pattern for name in names],
            "count": count,
            "share": format_share(count / summary.num_samples),
            "width": round(100 * count / most, 1),
        }
        for pattern, count in [*summary.patterns.items()][:SHOWN_PATTERNS]
    ]


def _bars(counts: Mapping[str, int], shown: int) -> list[dict[str, Any]]:
    """Return the most frequent entries with shares, and widths in percent."""
    total, most = sum(counts.values()), max(counts.values(), default=1)
    return [
        {
            "name": name,
            "count": count,
            "share": format_share(count / total),
            "width": round(100 * count / most, 1),
        }
        for name, count in [*counts.items()][:shown]
    ]
