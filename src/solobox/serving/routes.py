"""The routes for people and for plain programs: the page, pictures in, health, metrics."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from solobox.serving.answers import Fault, Found, Several, Wish, as_json, prediction, unread, wish
from solobox.serving.page import PAGE, POLICY
from solobox.serving.parts import Part, split
from solobox.serving.problems import Problem
from solobox.serving.service import Service
from solobox.serving.waiting import in_time

_IMAGES = [f"image/{name}" for name in ("jpeg", "png", "webp", "bmp", "gif", "tiff")]
_FILE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {
            "file": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
        },
        "required": ["file"],
    }
}
_BODY = {
    "requestBody": {
        "description": "The bytes of a picture, or a form with several",
        "required": True,
        "content": {
            **dict.fromkeys([*_IMAGES, "application/octet-stream"], _FILE),
            "multipart/form-data": _FORM,
        },
    }
}
FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "No valid HTTP"},
    401: {"model": Fault, "description": "The API key is missing or wrong"},
    403: {"model": Fault, "description": "Sent by another site's page"},
    408: {"model": Fault, "description": "The body came too slowly"},
    413: {"model": Fault, "description": "Too many bytes, pixels or pictures"},
    415: {"model": Fault, "description": "No picture of a format that is read"},
    422: {"model": Fault, "description": "A wrong parameter, or a picture that is empty or damaged"},
    429: {"model": Fault, "description": "Too many pictures are waiting; Retry-After says when to come back"},
    503: {"model": Fault, "description": "The model could not be run, or the server is stopping"},
    504: {"model": Fault, "description": "No answer before the deadline"},
}
KEYED = {number: FAULTS[number] for number in (401,)}


class Query_(BaseModel):  # noqa: N801 (Query is FastAPI's)
    """What a client may ask for. Anything else in the query is an error."""

    model_config = ConfigDict(extra="forbid")

    margins: float | None = Field(
        None, description="Between what each edge of the true box lies, all four at once, with this probability: "
        "0.5 to 0.999. Without this and outer: 0.9, where the model was calibrated for that",
    )  # fmt: skip
    outer: float | None = Field(None, description="The box that holds the whole object, with this probability")
    min_presence: float | None = Field(
        None, ge=0, le=1, description="No box where the object is in the picture with less than this probability"
    )


def routes(service: Service) -> APIRouter:
    """All of them, for one model."""
    router = APIRouter()
    engine, model, settings = service.engine, service.model, service.settings

    @router.post(
        "/v1/predict",
        summary="One box for each picture",
        response_model=Found | Several,
        responses=FAULTS,
        openapi_extra=_BODY,
    )
    async def predict(request: Request, query: Annotated[Query_, Query()]) -> Response:
        """Send a picture as the body and get its answer, or a form with several and get a list, in their order.

        A picture of a form that cannot be read has its `error` in the list; the others are answered all the same.
        """
        wanted = wish(model.calibration, has_presence=model.has_presence, **query.model_dump())
        content_type = request.headers.get("content-type", "application/octet-stream")
        kind = content_type.partition(";")[0].strip().lower()
        form = kind == "multipart/form-data"
        if not form and kind != "application/octet-stream" and not kind.startswith("image/"):
            raise Problem(
                415,
                "unsupported_type",
                f"a body of type {kind[:80]!r} is not read here",
                "Send the picture with Content-Type: application/octet-stream, or a form: curl -F file=@photo.jpg URL",
            )
        engine.refuse_if_full()
        with service.uploads.holding(request) as upload:
            body = await upload.read()
            started = time.perf_counter()
            work = several(body, content_type, wanted) if form else single(body, wanted)
            content = await in_time(work, request, settings.deadline)
        spent = f"total;dur={1000 * (time.perf_counter() - started):.1f}"
        return JSONResponse(content, headers={"Server-Timing": spent})

    async def several(body: bytes, content_type: str, wanted: Wish) -> dict[str, Any]:
        parts = await engine.in_thread(lambda: split(body, content_type, settings.max_pictures))
        with engine.admitted(len(parts)):
            return {"pictures": list(await asyncio.gather(*(listed(part, wanted) for part in parts)))}

    async def listed(part: Part, wanted: Wish) -> dict[str, Any]:
        try:
            return await answered(part.name, part.content, wanted)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return unread(part.name, problem)

    async def single(body: bytes, wanted: Wish) -> dict[str, Any]:
        with engine.admitted(1):
            return await answered("", body, wanted)

    async def answered(name: str, content: bytes, wanted: Wish) -> dict[str, Any]:
        try:
            square = await engine.decoded(content)
            row = await engine.row(square)
        except Problem as problem:
            service.metrics.pictures.labels(problem.code).inc()
            raise
        service.metrics.pictures.labels("ok").inc()
        return as_json(prediction(name, row, square.size, model.calibration, wanted), wanted)

    @router.get("/v1/model", summary="What the model can tell, and what the server accepts", responses=KEYED)
    async def about() -> Model:
        return Model(
            name=service.name,
            side=model.side,
            presence=model.has_presence,
            familiarity=model.has_familiarity,
            margins=sorted(model.calibration.two_sided) if model.calibration else [],
            outer=sorted(model.calibration.outer) if model.calibration else [],
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_pictures=settings.max_pictures,
        )

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(PAGE, media_type="text/html; charset=utf-8", headers=POLICY)

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Health:
        return Health(status="live")

    @router.get(
        "/health/ready",
        summary="Whether new requests should come here",
        responses={503: {"model": Fault, "description": "It is stopping, or the model cannot be run"}},
    )
    async def ready() -> Health:
        service.check_ready()
        return Health(status="ready")

    @router.get(
        "/metrics",
        summary="For Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **KEYED},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class Health(BaseModel):
    """How the server is."""

    status: str


class Model(BaseModel):
    """What the model can tell, and what the server accepts."""

    name: str
    side: int = Field(description="Pixels of the square that pictures are squashed to for the model")
    presence: bool
    familiarity: bool
    margins: list[float] = Field(description="Levels that it has margins for")
    outer: list[float] = Field(description="Levels that it has outer boxes for")
    max_bytes: int
    max_pixels: int
    max_pictures: int
