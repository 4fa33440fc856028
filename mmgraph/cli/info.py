"""`mmgraph info`: inputs, training, scores and weights of a saved model."""

import typer

from mmgraph.cli.app import app
from mmgraph.cli.options import ModelFolder, MovedEncoderOption


@app.command(epilog="Example: mmgraph info heart_model")
def info(model: ModelFolder, encoder: MovedEncoderOption = None) -> None:
    """Print inputs, training, scores and weights of a saved model.

    The text is that of README.md in the model folder. It contains no value of a sample.
    """
    from mmgraph.cli.options import parse_encoders
    from mmgraph.workflows.saved_model import load_any

    estimator = load_any(model, encoders=parse_encoders(encoder), device="cpu")
    typer.echo(estimator.summary_, nl=False)
