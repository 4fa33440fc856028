"""A run of the benchmark and its report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgraph.benchmark.overview import overview, summary_sentence
from mmgraph.benchmark.report import block_tables, write_report
from mmgraph.benchmark.results import Results
from mmgraph.benchmark.run import Outcome, Progress, run_bench
from mmgraph.config import BenchConfig
from mmgraph.evaluation.table import Table
from mmgraph.workflows.outputs import check_folder
from mmgraph.workflows.samples import check_columns

LABEL = "y"  # default column of labels


@dataclass(frozen=True)
class BenchReport:
    """The report of a results folder.

    Attributes:
        tables: All tables, in the order of the page.
        summary: The result in one to three sentences.
        num_commits: Number of commits of mmgraph that the results come from.
        page: The HTML page.
        markdown: The tables as Markdown.
    """

    tables: tuple[Table, ...]
    summary: str
    num_commits: int
    page: Path
    markdown: Path


def run_benchmark(
    config: BenchConfig,
    *,
    command: str = "",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Check the files of a benchmark, then run all units without results.

    Args:
        config: Data sets, models, rates and splits.
        command: The command line, for the record.
        on_progress: Function called after each unit.

    Raises:
        ConfigError: If a name is unknown or the output folder cannot be written.
        DataError: If a data set cannot be used or a column does not exist.
    """
    _check(config)
    return run_bench(config, command=command, on_progress=on_progress)


def _check(config: BenchConfig) -> None:
    """Check the output folder and the columns of all files."""
    check_folder(config.output)
    for file in map(Path, config.files):
        if file.is_file():
            check_columns(
                file,
                label=config.label or LABEL,
                group=config.group,
                modalities=config.modalities,
            )


def report_benchmark(folder: Path) -> BenchReport | None:
    """Write the page and the Markdown tables of a results folder.

    Returns:
        The report; None if the folder has failures but no results.

    Raises:
        ConfigError: If the folder has neither results nor failures.
    """
    results = Results(folder)
    lines = results.lines()
    if not lines and results.failures(lines):
        return None
    blocks = write_report(folder)
    tables = [table for block in blocks for table in block_tables(block)]
    return BenchReport(
        (*tables, *overview(blocks)),
        summary_sentence(blocks),
        len({line["commit"] for line in lines}),
        folder / "report.html",
        folder / "table.md",
    )
