"""`mmgraph report`: a page on the data of a file."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app, print_warnings
from mmgraph.cli.options import File, IdOption, ModalityOption
from mmgraph.workflows.outputs import check_file


@app.command(epilog="Example: mmgraph report heart.parquet --output report.html")
def report(
    file: File,
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path(
        "report.html"
    ),
    label: Annotated[
        str | None,
        typer.Option(help='Column of labels (default: "y" if the file has it).'),
    ] = None,
    modality: ModalityOption = None,
    group: Annotated[
        str | None,
        typer.Option(
            help='Column of groups, such as hospitals (default: "group" if the file '
            "has it)."
        ),
    ] = None,
    id_: IdOption = None,
    limit: Annotated[
        int,
        typer.Option(min=1, help="Channels shown of each modality, at most."),
    ] = 12,
) -> None:
    """Write a page on the data of a file, before a model is trained.

    The page shows kinds and channels of modalities, which of them are missing together,
    the distribution of each channel, labels and groups, and alarms: constant channels,
    identifiers, fill values, and presence of modalities that predicts the label. It
    needs no server and no network.
    """
    from mmgraph.cli.options import parse_modalities
    from mmgraph.workflows.report import ReportRequest, read_report, write_report_page

    check_file(output, ".html", ".htm", inputs=[file])
    request = ReportRequest(file, label, parse_modalities(modality), group, id_)
    with print_warnings():
        found = read_report(request)
        write_report_page(found, output, file.name, limit=limit)
        typer.echo(f"{found.summary.caption}; alarms: {len(found.alarms)}")
        for alarm in found.alarms:
            typer.echo(f"Alarm: {alarm.text}")
        typer.echo(f"Page: {output}")
