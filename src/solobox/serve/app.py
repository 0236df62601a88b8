"""The FastAPI application: routes, middleware, and one shape for all errors."""

import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from solobox.serve.errors import HTTPError, internal_error
from solobox.serve.health import health_routes
from solobox.serve.label_studio import label_studio_routes
from solobox.serve.label_studio_images import LabelStudioImages
from solobox.serve.middleware import KEYLESS_PATHS, GuardMiddleware
from solobox.serve.open_inference import open_inference_routes
from solobox.serve.predict import predict_routes
from solobox.serve.schemas import PredictQuery
from solobox.serve.state import ServerContext
from solobox.serve.tensors import HEADER


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The description; without the error bodies that FastAPI assumes and `add_error_handlers` replaces."""
        description = super().openapi()
        for operations in description["paths"].values():
            for operation in operations.values():
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            description["components"]["schemas"].pop(name, None)
        return description


def build_app(context: ServerContext, label_studio: LabelStudioImages | None = None) -> FastAPI:
    """The whole application for one model. label_studio: also be its ML backend."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await context.batcher.start()
        yield
        await context.batcher.close()

    # The documentation pages of FastAPI would load scripts from other hosts.
    app = _App(
        title="Solobox", version=version("solobox"), docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=lifespan,
        description="Finds the one object of interest in each image.",
    )  # fmt: skip
    for routes in (predict_routes, open_inference_routes, health_routes):
        app.include_router(routes(context))
    if label_studio is not None:
        app.include_router(label_studio_routes(context, label_studio))
    add_error_handlers(app)
    if context.settings.api_key is not None:
        _describe_key(app)
    if context.settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(context.settings.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", HEADER],
            expose_headers=["Retry-After", "Server-Timing", HEADER],
        )
    app.add_middleware(
        GuardMiddleware, settings=context.settings, metrics=context.metrics, state=context.state
    )
    return app


def _describe_key(app: FastAPI) -> None:
    """Add the API key to the OpenAPI description."""
    description = app.openapi()  # FastAPI keeps and serves this object
    description["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in description["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in KEYLESS_PATHS else [{"bearer": []}, {"header": []}]


def add_error_handlers(app: FastAPI, *, lost: str = "GET /openapi.json lists all addresses.") -> None:
    """Give all errors of an application one shape. lost: the hint for who asks for an address that there is not."""

    def respond(request: Request, error: HTTPError) -> Response:
        body, headers = error.response(request.url.path)
        return Response(body, error.status, headers)

    @app.exception_handler(HTTPError)
    async def solobox_error(request: Request, error: HTTPError) -> Response:
        return respond(request, error)

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        code, message, hint = {
            404: ("not-found", "there is nothing at this address", lost),
            405: ("method-not-allowed", "this address has another method", "See the header Allow."),
        }.get(error.status_code, ("bad-request", str(error.detail), lost))
        return respond(request, HTTPError(error.status_code, code, message, hint, error.headers))

    @app.exception_handler(RequestValidationError)
    async def parameters(request: Request, error: RequestValidationError) -> Response:
        return respond(request, _invalid_parameter(error))

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it, but the metrics count it

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _: Exception) -> Response:
        return respond(request, internal_error())  # the traceback goes to the log


def _invalid_parameter(error: RequestValidationError) -> HTTPError:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    names = list(PredictQuery.model_fields)
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"Is it {close[0]}?" if close else f"There are {', '.join(names)}."
        return HTTPError(422, "invalid-parameter", f"there is no parameter {name[:80]!r}", hint)
    value = str(first.get("input"))[:80]
    return HTTPError(
        422,
        "invalid-parameter",
        f"{name}={value!r} is invalid: {first['msg']}",
        "Send a number, such as 0.9.",
    )
