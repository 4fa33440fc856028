"""HTTP server of a saved or exported model."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgraph.errors import ConfigError
from mmgraph.workflows.saved_model import load_any

if TYPE_CHECKING:
    import uvicorn

KEEP_ALIVE = 60  # seconds that a connection without requests stays open
CONNECTIONS = 2000  # open connections, above which requests are refused by 503
SHUTDOWN = 10  # seconds for requests in progress after a signal to stop


@dataclass(frozen=True)
class ServeRequest:
    """Model and settings of a server.

    Attributes:
        model: Folder of a saved classifier or regressor, or a file of `mmgraph export`
            that ends in .onnx.
        host: Address to listen on.
        port: Port; 0 chooses a free one.
        max_body: Largest size of a request in megabytes (1e6 bytes).
        threads: Threads of one prediction.
        encoders: Paths of pretrained encoders that have moved, by modality.
        device: Device of the model; None is a GPU if there is one.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8000
    max_body: float = 10.0
    threads: int = 1
    encoders: Mapping[str, str] | None = None
    device: str | None = None


def serve_model(request: ServeRequest, started: Callable[[str], None]) -> None:
    """Serve a model until the process is interrupted or terminated.

    Args:
        request: Model and settings.
        started: Function that receives the address once connections are accepted.

    Raises:
        CheckpointError: If there is no model.
        ConfigError: If the model is neither a classifier nor a regressor, the address
            is not free, or ``mmgraph[serve]`` is not installed.
    """
    from mmgraph.serving.app import create_app, require_server
    from mmgraph.serving.served import PredictionService

    require_server()
    listener = _listen(request.host, request.port)
    with listener:
        service = PredictionService(_load(request))
        max_body = int(request.max_body * 1e6)
        app = create_app(service, name=request.model.name, max_body=max_body)
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            _server(app, lambda: started(address)).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has finished the requests in progress
            return


def _load(request: ServeRequest) -> Any:  # noqa: ANN401
    if request.model.suffix == ".onnx":
        from mmgraph.serving import load

        if request.device not in (None, "cpu"):
            raise ConfigError(
                f"device must be cpu for an exported model, got {request.device!r}. "
                "Serve the model folder, or leave --device out.",
                parameter="device",
            )
        if request.encoders:
            raise ConfigError(
                "encoders must go with a model folder, got an exported model, which "
                "takes the vectors of encoders. Leave --encoder out."
            )
        return load(request.model, threads=request.threads)
    import torch

    model = load_any(request.model, encoders=request.encoders, device=request.device)
    torch.set_num_threads(request.threads)
    return model


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"port must be free on the host, got {port} on {host}: {text}. Choose "
            "another one by --port, or 0 for any.",
            parameter="port",
        ) from None


def _server(app: Any, started: Callable[[], None]) -> "uvicorn.Server":  # noqa: ANN401
    """Return a server that calls a function when it accepts connections."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=SHUTDOWN,
        limit_concurrency=CONNECTIONS,
    )
    return Server(config)
