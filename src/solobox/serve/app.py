"""The application: routes, errors in one shape, and the front."""

import difflib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from solobox.serve.errors import Problem, internal
from solobox.serve.health import house_routes
from solobox.serve.middleware import OPEN, Front, response
from solobox.serve.open_inference import v2_routes
from solobox.serve.predict import Query_, predict_routes
from solobox.serve.service import Service
from solobox.serve.uploads import ClientLeft


def build(service: Service) -> FastAPI:
    """The whole application for one model."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.engine.start()
        yield
        await service.engine.close()

    # The pages of documentation that FastAPI has would load scripts from elsewhere.
    app = FastAPI(
        title="Solobox", version=version("solobox"), docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=lifespan,
        description="Finds the one object of interest in each image.",
    )  # fmt: skip
    for made in (predict_routes, v2_routes, house_routes):
        app.include_router(made(service))
    _explain(app)
    if service.settings.api_key is not None:
        _describe_key(app)
    app.add_middleware(_front, service=service)
    return app


def _front(app: ASGIApp, service: Service) -> Front:
    return Front(app, service.settings, service.metrics, service.state)


def _describe_key(app: FastAPI) -> None:
    """Tell of the key in the OpenAPI description."""
    described = app.openapi()  # which is kept
    described["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in described["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in OPEN else [{"bearer": []}, {"header": []}]


def _explain(app: FastAPI) -> None:
    """Give every error the one shape."""

    def told(request: Request, problem: Problem) -> Response:
        body, headers = response(problem, request.url.path)
        return Response(body, problem.status, headers)

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return told(request, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        code, message, what_to_do = {
            404: ("not_found", "there is nothing at this address", "GET /openapi.json lists what there is."),
            405: ("wrong_method", "this address has another method", "See the header Allow."),
        }.get(error.status_code, ("bad_request", str(error.detail), "See GET /openapi.json."))
        return told(request, Problem(error.status_code, code, message, what_to_do, error.headers))

    @app.exception_handler(RequestValidationError)
    async def parameters(request: Request, error: RequestValidationError) -> Response:
        return told(request, _of_parameters(error))

    @app.exception_handler(ClientLeft)
    async def gone(_: Request, __: ClientLeft) -> Response:
        return Response(status_code=499)  # which nobody reads, but the metrics count

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _: Exception) -> Response:
        return told(request, internal())  # the traceback goes to the log


def _of_parameters(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    known = list(Query_.model_fields)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, n=1)
        advice = f"Is it {near[0]}?" if near else f"There are {', '.join(known)}."
        return Problem(422, "wrong_parameter", f"there is no parameter {name[:80]!r}", advice)
    given = str(first.get("input"))[:80]
    return Problem(
        422, "wrong_parameter", f"{name}={given!r} is none: {first['msg']}", "Give a number, such as 0.9."
    )
