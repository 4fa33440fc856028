"""`mmgraph align`: alignment of two modalities of a file."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import File, ModalityOption
from mmgraph.workflows.outputs import check_file


@app.command(
    epilog="Example: mmgraph align watch camera recordings.parquet --reference "
    "training.parquet --page align.html"
)
def align(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="First modality, whose clock would be corrected."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Second modality.")],
    file: File,
    modality: ModalityOption = None,
    group: Annotated[
        str | None,
        typer.Option(help="Column of groups that stay on one side of the split."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Samples whose clocks are in step, such as training data (default: "
            "the offset is the lag of the strongest dependence).",
        ),
    ] = None,
    components: Annotated[
        int, typer.Option(min=1, help="Canonical components, at most.")
    ] = 5,
    permutations: Annotated[
        int, typer.Option(min=1, help="Permutations of the test.")
    ] = 200,
    max_seconds: Annotated[
        float, typer.Option(help="Largest offset that is searched for.")
    ] = 2.0,
    rate: Annotated[
        bool, typer.Option("--rate", help="Also estimate the ratio of the clocks.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="HTML page to write, with the table of similarity."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of split, permutations and bootstraps.")
    ] = 0,
) -> None:
    """Measure whether two modalities belong together, sample by sample and in time.

    Canonical correlations are fitted to 70% of the samples with both modalities and
    tested on the others, as is the similarity of their rows. Sequences with times also
    have an offset of their clocks, with a 90% interval.
    """
    from mmgraph.cli.options import parse_modalities
    from mmgraph.workflows.align import (
        AlignRequest,
        measure_alignment,
        write_align_page,
    )

    if page is not None:
        read = [file, *([] if reference is None else [reference])]
        check_file(page, ".html", ".htm", inputs=read)
    request = AlignRequest(
        a,
        b,
        file,
        modalities=parse_modalities(modality),
        group=group,
        reference=reference,
        components=components,
        permutations=permutations,
        max_seconds=max_seconds,
        rate=rate,
        seed=seed,
    )
    with print_warnings():
        report = measure_alignment(request)
        title = f"{a} and {b} in {file.name}"
        show(report.table(title))
        if page is not None:
            write_align_page(report, page, title)
            typer.echo(f"Page: {page}")
