"""`mmgraph export`: a saved model as one file for ONNX Runtime."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app
from mmgraph.cli.options import ModelFolder, MovedEncoderOption
from mmgraph.workflows.outputs import check_file


@app.command(epilog="Example: mmgraph export icu_model --output icu.onnx")
def export(
    model: ModelFolder,
    output: Annotated[
        Path, typer.Option(help="Where to write; .onnx (ONNX Runtime) or .pt2.")
    ],
    encoder: MovedEncoderOption = None,
) -> None:
    """Write a model as one file that takes any subset of the modalities.

    Rows of NaN and sequences of length 0 are missing modalities. ONNX needs the extra
    named export, and runs without torch; .pt2 is an archive of torch.export.
    """
    from mmgraph import serving
    from mmgraph.cli.options import parse_encoders
    from mmgraph.workflows.saved_model import load_any

    check_file(output, ".onnx", ".pt2")
    estimator = load_any(model, device="cpu", encoders=parse_encoders(encoder))
    serving.export(estimator, output)
    inputs = serving.inputs_of(estimator.schema_).items()
    shown = ", ".join(f"{name} [{', '.join(map(str, s))}]" for name, s in inputs)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, takes {shown}")
