"""`mmgraph serve`: predictions of a model over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from mmgraph.cli.app import app
from mmgraph.cli.options import DeviceOption, MovedEncoderOption


@app.command(
    epilog="Example: mmgraph serve heart_model, or mmgraph export heart_model --output "
    "heart.onnx, then mmgraph serve heart.onnx --port 8080"
)
def serve(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Model folder of a classifier or regressor, or a file that ends in "
            ".onnx, written by mmgraph export, which is faster.",
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 accepts connections of other machines."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")
    ] = 8000,
    max_body: Annotated[
        float,
        typer.Option(
            min=0.001, help="Largest size of a request in megabytes; larger: 413."
        ),
    ] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one prediction.")] = 1,
    encoder: MovedEncoderOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve predictions of a model over HTTP until Ctrl+C.

    A request is a JSON object of modalities, any of which may be left out. The page
    /docs shows the modalities and sends a sample; it works without a network. There is
    no encryption and no authentication: use a reverse proxy for both.

    Needs the extra serve, which adds FastAPI and uvicorn.
    """
    from mmgraph.cli.options import parse_encoders
    from mmgraph.workflows.serve import ServeRequest, serve_model

    request = ServeRequest(
        model,
        host=host,
        port=port,
        max_body=max_body,
        threads=threads,
        encoders=parse_encoders(encoder),
        device=device,
    )

    def started(address: str) -> None:
        typer.echo(f"Serving {model} at {address}, documentation: {address}/docs")

    serve_model(request, started)
