"""Alignment of two modalities of a file: correlation, similarity, offset of clocks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph._html import render
from mmgraph.alignment import CCA, Offset, estimate_offset, similarity
from mmgraph.alignment.rows import FloatArray
from mmgraph.data import MultimodalData
from mmgraph.data.stream.stream import in_memory
from mmgraph.data.validation import check_names
from mmgraph.errors import DataError
from mmgraph.evaluation.table import Table, interval, number
from mmgraph.files import write_text
from mmgraph.workflows.samples import read_samples

LEAST = 20  # samples with both, for correlations
HELD_OUT = 0.3  # share of the samples
SHOWN = 40  # rows of the table of similarity


@dataclass(frozen=True)
class AlignRequest:
    """Modalities, samples and options.

    Attributes:
        a: Name of the first modality, whose clock is corrected.
        b: Name of the second modality.
        file: Parquet or CSV file, or folder of Parquet files.
        modalities: Columns of modalities; empty for files written by mmgraph.
        group: Column of groups that stay on one side of the split; None reads none.
        reference: File of samples whose clocks are in step, or None.
        components: Number of canonical components.
        permutations: Number of permutations of the test.
        max_seconds: Largest offset that is searched for.
        rate: Also estimate the ratio of the clocks.
        seed: Seed of the split, the permutations and the bootstraps.
    """

    a: str
    b: str
    file: Path
    modalities: Mapping[str, tuple[str, ...]] | None = None
    group: str | None = None
    reference: Path | None = None
    components: int = 5
    permutations: int = 200
    max_seconds: float = 2.0
    rate: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Correlations:
    """Canonical correlations, and the similarity of held-out samples.

    Attributes:
        fitted: ``[R]`` correlations on the samples of the fit.
        held_out: ``[R]`` correlations on the others.
        p_values: ``[R]`` of the permutation test.
        table: ``[n, n]`` similarity of held-out samples, a in rows.
        ids: ``[n]`` ids of these samples.
        recall: Share of the rows whose greatest similarity is that of the same sample.
    """

    fitted: FloatArray
    held_out: FloatArray
    p_values: FloatArray
    table: FloatArray
    ids: tuple[str, ...]
    recall: float


@dataclass(frozen=True, eq=False)
class AlignReport:
    """What is known of the alignment of two modalities.

    Attributes:
        a: Name of the first modality.
        b: Name of the second modality.
        num_samples: Number of samples.
        num_both: Number of samples with both.
        correlations: None with fewer than 20 samples with both.
        offset: None without times.
        notes: Reasons for what is missing.
    """

    a: str
    b: str
    num_samples: int
    num_both: int
    correlations: Correlations | None
    offset: Offset | None
    notes: tuple[str, ...] = ()

    def table(self, title: str) -> Table:
        """Return canonical correlations as a table, with the rest in notes."""
        found = self.correlations
        rows = []
        if found is not None:
            rows = [
                (str(i + 1), number(fit), number(out), number(p))
                for i, (fit, out, p) in enumerate(
                    zip(found.fitted, found.held_out, found.p_values, strict=True)
                )
            ]
        return Table(
            title,
            ("component", "correlation", "held out", "p"),
            tuple(rows),
            tuple(frozenset() for _ in range(4)),
            tuple(self.lines()),
        )

    def lines(self) -> list[str]:
        """Return the results in sentences."""
        lines = [
            f"{self.num_both} of {self.num_samples} samples have both {self.a} and"
            f" {self.b}."
        ]
        if self.correlations is not None:
            count = len(self.correlations.ids)
            lines.append(
                f"Similarity: {self.correlations.recall:.0%} of {count} held-out"
                f" samples have their own {self.b} as the most similar one (by chance"
                f" {1 / count:.0%})."
            )
        if self.offset is not None:
            seconds = float(self.offset.seconds)
            ends = interval(float(self.offset.low), float(self.offset.high))
            lines.append(
                f"Offset: {seconds:.3f} s, 90% CI {ends}, score"
                f" {float(self.offset.score):.1f}: subtract it from the times of"
                f" {self.a}."
            )
            if self.offset.rate != 1:
                lines.append(
                    f"Rate: multiply the times of {self.a} by {self.offset.rate:.3f}"
                    " first."
                )
        return [*lines, *self.notes]


def measure_alignment(request: AlignRequest) -> AlignReport:
    """Measure how two modalities of the samples of a file are aligned.

    Args:
        request: Modalities, samples and options.

    Raises:
        DataError: If the file or a modality does not exist, or no sample has both.
    """
    data = _read(request.file, request)
    pair = [request.a, request.b]
    both = data.present[:, [data.modalities.index(name) for name in pair]].all(axis=1)
    if not both.any():
        raise DataError(
            f"{request.file} must have samples with {request.a!r} and {request.b!r},"
            " got none. Check the columns of both."
        )
    chosen = data.select(pair)[np.flatnonzero(both)]
    notes = []
    correlations = None
    if len(chosen) >= LEAST:
        correlations = _correlations(chosen, request)
    else:
        notes.append(
            f"Canonical correlations need {LEAST} samples with both, got {len(chosen)}."
        )
    untimed = [name for name in pair if not _has_times(data, name)]
    offset = None
    if untimed:
        notes.append(f"No offset: {' and '.join(untimed)} without times of rows.")
    else:
        known = request.reference
        offset = estimate_offset(
            data,
            request.a,
            request.b,
            reference=None if known is None else _read(known, request),
            max_seconds=request.max_seconds,
            rate=request.rate,
            seed=request.seed,
        )
    return AlignReport(
        request.a,
        request.b,
        len(data),
        int(both.sum()),
        correlations,
        offset,
        tuple(notes),
    )


def write_align_page(report: AlignReport, path: Path, title: str) -> None:
    """Write the alignment of two modalities as a self-contained HTML page.

    Args:
        report: Alignment.
        path: File to write.
        title: Heading of the page.
    """
    found, cells = report.correlations, []
    if found is not None:
        cells = [
            [
                {
                    "shade": round(float(max(value, 0)), 3),
                    "best": j == int(np.argmax(row)),
                    "title": f"{report.a} of {found.ids[i]}, {report.b} of"
                    f" {found.ids[j]}: {value:.2f}",
                }
                for j, value in enumerate(row[:SHOWN])
            ]
            for i, row in enumerate(found.table[:SHOWN])
        ]
    page = render(
        "align.html",
        title=title,
        report=report,
        table=report.table(title),
        cells=cells,
        offset=None if report.offset is None else _scale(report.offset),
    )
    write_text(path, page)


def _read(file: Path, request: AlignRequest) -> MultimodalData:
    samples = read_samples(
        file, modalities=request.modalities or {}, label=None, group=request.group
    )
    data = in_memory(samples)
    check_names("align", [request.a, request.b], data.modalities)
    if request.a == request.b:
        raise DataError(
            f"align must get two modalities, got {request.a} twice. Name another one."
        )
    return data


def _has_times(data: MultimodalData, name: str) -> bool:
    column = data.columns[name]
    return column.time is not None and column.ragged


def _correlations(data: MultimodalData, request: AlignRequest) -> Correlations:
    train, test = data.split(HELD_OUT, seed=request.seed, stratify=False)
    cca = CCA(request.components, seed=request.seed).fit(train)
    variates = cca.transform(test)
    x, y = variates[request.a], variates[request.b]
    table = similarity(x, y)
    centered = [v - v.mean(axis=0) for v in (x, y)]
    scale = np.sqrt(np.prod([(v**2).sum(axis=0) for v in centered], axis=0))
    product = (centered[0] * centered[1]).sum(axis=0)
    held_out = product / np.where(scale > 0, scale, 1)
    recall = float((table.argmax(axis=1) == np.arange(len(test))).mean())
    return Correlations(
        cca.correlations_,
        held_out,
        cca.test(train, request.permutations)[: len(held_out)],
        table,
        tuple(map(str, test.ids)),
        recall,
    )


def _scale(offset: Offset) -> dict[str, Any]:
    """Return the places of an offset and its interval on a line, in percent."""
    ends = float(offset.low), float(offset.high)
    reach = 1.25 * max(abs(ends[0]), abs(ends[1]), 1e-3)

    def place(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    return {
        "seconds": place(float(offset.seconds)),
        "low": place(ends[0]),
        "width": round(place(ends[1]) - place(ends[0]), 2),
        "reach": f"{reach:.3g}",
    }
