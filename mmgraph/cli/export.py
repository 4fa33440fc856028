"""`mmgraph export`: a saved model as one file for ONNX Runtime or torch.export."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app
from mmgraph.cli.options import ModelFolder, MovedEncoderOption


@app.command(epilog="Example: mmgraph export heart_model --output heart.onnx")
def export(
    model: ModelFolder,
    output: Annotated[
        Path,
        typer.Option(
            help="File to write: .onnx (ONNX Runtime) or .pt2 (torch.export)."
        ),
    ],
    encoder: MovedEncoderOption = None,
) -> None:
    """Export a model to one file that accepts any subset of the modalities.

    Rows of NaN and sequences of length 0 are missing modalities. ONNX export needs the
    extra export; the file runs in ONNX Runtime without torch.
    """
    from mmgraph.cli.options import parse_encoders
    from mmgraph.workflows.export import export_model

    result = export_model(model, output, parse_encoders(encoder))
    inputs = result.inputs.items()
    shown = ", ".join(f"{name} [{', '.join(map(str, s))}]" for name, s in inputs)
    typer.echo(f"{result.file}: {result.megabytes:.1f} MB, inputs {shown}")
