"""HTTP interface of a model: an ASGI application of FastAPI."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mmgraph._html import render
from mmgraph.errors import ConfigError, DataError
from mmgraph.serving.batching import MicroBatcher, OverloadError
from mmgraph.serving.served import PredictionService

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

MAX_BODY = 10_000_000  # bytes of a request
BODIES = 8  # requests of that size that are read at a time
RETRY = {"Retry-After": "1"}
# Documentation pages use no other host, and pages of other hosts cannot embed them.
CONTENT_POLICY = "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
REFUSALS = {
    400: "The body is not JSON.",
    413: "The body is too large. It is not read.",
    422: "A modality, column or value does not fit the model.",
    503: "Too many requests wait.",
}


class RefusedError(Exception):
    """Request that is refused before its content is parsed.

    Args:
        status: Status code of the response.
        text: One sentence.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class BodyReader:
    """Reader of the bodies of requests within limits on their size.

    Args:
        max_body: Largest number of bytes of a body.

    Attributes:
        num_bytes: Bytes of all bodies that are being read, declared or received.
    """

    def __init__(self, max_body: int) -> None:
        self.max_body = max_body
        self.num_bytes = 0

    async def read(self, request: "Request") -> bytes:
        """Return the body of a request.

        Raises:
            RefusedError: If its declared or actual size is above the limit, or the
                bodies of all requests are too large together.
        """
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() else 0
        self._check(size)
        reserved, received = size, 0
        self.num_bytes += reserved
        parts = []
        try:
            async for part in request.stream():
                received += len(part)
                if received > reserved:  # of a body without a declared size
                    self._check(received)
                    self.num_bytes += received - reserved
                    reserved = received
                parts.append(part)
        finally:
            self.num_bytes -= reserved
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check(self, size: int) -> None:
        if size > self.max_body:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"body must have at most {self.max_body} bytes, got {size} or more.",
            )
        if self.num_bytes and self.num_bytes + size > BODIES * self.max_body:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "Too many large requests, try again."
            )


def create_app(
    service: PredictionService, *, name: str, max_body: int = MAX_BODY
) -> "FastAPI":
    """Return the ASGI application of a model.

    Args:
        service: The model.
        name: Name of the model on the documentation page.
        max_body: Largest number of bytes of a request.

    Raises:
        ConfigError: If ``mmgraph[serve]`` is not installed.
    """
    require_server()
    from fastapi import FastAPI

    from mmgraph import __version__

    app = FastAPI(
        title=name,
        version=__version__,
        description=f"Predictions of an mmgraph model ({service.task}).",
        docs_url=None,  # the page of FastAPI loads scripts from another host
        redoc_url=None,
    )
    _add_predictions(app, service, BodyReader(max_body))
    _add_pages(app, service, name, max_body)
    _add_errors(app)
    return app


def _add_predictions(
    app: "FastAPI", service: PredictionService, bodies: BodyReader
) -> None:
    """Add the operations that predict."""
    from fastapi import Request, Response

    reader, batcher = service.reader, MicroBatcher(service.predict)
    one, result = reader.schema(), service.response_schema()
    example = reader.example()

    # annotations of operations must be objects, because FastAPI reads them
    @app.post(
        "/predict",
        summary="Predict one sample",
        response_class=Response,
        responses=_responses(result),
        openapi_extra=_body(one, example),
    )
    async def predict(request: Request) -> Response:
        sample = reader.read_sample(await bodies.read(request))
        return _json((await batcher.submit([sample]))[0])

    @app.post(
        "/predict_batch",
        summary="Predict several samples",
        response_class=Response,
        responses=_responses({"type": "array", "items": result}),
        openapi_extra=_body(
            {"type": "array", "items": one, "maxItems": reader.max_samples},
            [example, {}],
        ),
    )
    async def predict_batch(request: Request) -> Response:
        samples = reader.read_batch(await bodies.read(request))
        return _json(list(await batcher.submit(samples)))


def _add_pages(
    app: "FastAPI", service: PredictionService, name: str, max_body: int
) -> None:
    """Add the state of the server, and the documentation."""
    from fastapi import Response
    from fastapi.responses import HTMLResponse, RedirectResponse

    page = _page(service, name, max_body)

    @app.get("/health", summary="State of the server", response_class=Response)
    async def health() -> Response:
        return _json({"status": "ok", "model": name, "version": app.version})

    @app.get("/schema", summary="Task, classes and modalities", response_class=Response)
    async def schema() -> Response:
        return _json(service.describe() | {"max_body": max_body})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_POLICY})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")


def require_server() -> None:
    """Check that the packages of the server are installed.

    Raises:
        ConfigError: If one is not installed.
    """
    try:
        import fastapi
        import uvicorn
    except ImportError:
        raise ConfigError(
            "The server requires fastapi and uvicorn, which are not installed. Install "
            "mmgraph[serve]."
        ) from None
    assert fastapi, uvicorn


def _add_errors(app: "FastAPI") -> None:
    """Respond to invalid requests by their status and one sentence."""
    from fastapi import Request, Response

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        busy = error.status == HTTPStatus.SERVICE_UNAVAILABLE
        return _json({"detail": str(error)}, error.status, RETRY if busy else None)

    async def invalid(_: Request, error: Exception) -> Response:
        malformed = str(error).startswith("body must be JSON")
        status = (
            HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
        )
        return _json({"detail": str(error)}, status)

    async def busy(_: Request, __: Exception) -> Response:
        text = "Too many samples wait for a prediction, try again."
        return _json({"detail": text}, HTTPStatus.SERVICE_UNAVAILABLE, RETRY)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(DataError, invalid)
    app.add_exception_handler(OverloadError, busy)


def _json(
    content: object,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> "Response":
    from fastapi import Response

    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, int(status), headers, "application/json")


def _body(content: Mapping[str, Any], example: object) -> dict[str, Any]:
    """Return the documentation of the body of a request."""
    described = {"application/json": {"schema": content, "example": example}}
    return {"requestBody": {"required": True, "content": described}}


def _responses(result: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of the responses of an operation."""
    detail = {"type": "object", "properties": {"detail": {"type": "string"}}}
    refusals: dict[int | str, dict[str, Any]] = {
        status: {
            "description": text,
            "content": {"application/json": {"schema": detail}},
        }
        for status, text in REFUSALS.items()
    }
    content = {"application/json": {"schema": result}}
    return {200: {"description": "Prediction", "content": content}, **refusals}


def _page(service: PredictionService, name: str, max_body: int) -> str:
    """Return the documentation page."""
    example = json.dumps(service.reader.example(), indent=2, ensure_ascii=False)
    modalities = [
        (each, json.dumps(form.example(), ensure_ascii=False), form.schema())
        for each, form in service.reader.forms.items()
    ]
    return render(
        "serve.html",
        title=name,
        task=service.task,
        classes=service.classes,
        modalities=modalities,
        example=example,
        max_samples=service.reader.max_samples,
        megabytes=f"{max_body / 1e6:g}",
        refusals=REFUSALS,
    )
