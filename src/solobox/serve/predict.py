"""``POST /v1/predict``: images as programs have them."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from solobox.serve.documented_errors import FAULTS
from solobox.serve.errors import Problem
from solobox.serve.multipart import Part, split
from solobox.serve.schemas import Found, Several, Wish, as_json, finished, unread, wish
from solobox.serve.service import Service
from solobox.serve.timeouts import in_time

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
        "description": "The bytes of an image, or a form with several",
        "required": True,
        "content": {
            **dict.fromkeys([*_IMAGES, "application/octet-stream"], _FILE),
            "multipart/form-data": _FORM,
        },
    }
}
_FORM_TYPE = "multipart/form-data"


class Query_(BaseModel):  # noqa: N801 (Query is FastAPI's)
    """What a client may ask for. Anything else in the query is an error."""

    model_config = ConfigDict(extra="forbid")

    margins: float | None = Field(
        None, description="Between what each edge of the true box lies, all four at once, with this probability: "
        "0.5 to 0.999. Without this and outer: 0.9, where the model was calibrated for that",
    )  # fmt: skip
    outer: float | None = Field(
        None, description="The box that holds the whole object, with this probability"
    )
    min_presence: float | None = Field(
        None,
        ge=0,
        le=1,
        description="No box where the object is in the image with less than this probability",
    )


def predict_routes(service: Service) -> APIRouter:
    """The route, for one model."""
    router = APIRouter()
    model, images = service.model, _Images(service)

    @router.post(
        "/v1/predict",
        summary="One box for each image",
        response_model=Found | Several,
        responses=FAULTS,
        openapi_extra=_BODY,
    )
    async def predict(request: Request, query: Annotated[Query_, Query()]) -> Response:
        """Send an image as the body and get its answer, or a form with several and get a list, in their order.

        An image of a form that cannot be read has its `error` in the list; the others are answered all the same.
        """
        wanted = wish(model.calibration, has_presence=model.has_presence, **query.model_dump())
        content_type = _content_type(request)
        service.engine.refuse_if_full()
        with service.uploads.holding(request) as upload:
            body = await upload.read()
            started = time.perf_counter()
            work = (
                images.of_form(body, content_type, wanted)
                if content_type.lower().startswith(_FORM_TYPE)
                else images.single(body, wanted)
            )
            content = await in_time(work, request, service.settings.deadline)
        spent = f"total;dur={1000 * (time.perf_counter() - started):.1f}"
        return JSONResponse(content, headers={"Server-Timing": spent})

    return router


def _content_type(request: Request) -> str:
    """The header, of a kind that can be images; Problem (415) for others, before their bodies are read."""
    content_type = request.headers.get("content-type", "application/octet-stream").strip()
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (_FORM_TYPE, "application/octet-stream") and not kind.startswith("image/"):
        raise Problem(
            415,
            "unsupported_type",
            f"a body of type {kind[:80]!r} is not read here",
            "Send the image with Content-Type: application/octet-stream, or a form: curl -F file=@photo.jpg URL",
        )
    return content_type


class _Images:
    """From bytes to answers, within an admitted request."""

    def __init__(self, service: Service) -> None:
        self._engine, self._metrics = service.engine, service.metrics
        self._calibration, self._most = service.model.calibration, service.settings.max_images

    async def of_form(self, body: bytes, content_type: str, wanted: Wish) -> dict[str, Any]:
        parts = await self._engine.in_thread(lambda: split(body, content_type, self._most))
        with self._engine.admitted(len(parts)):
            return {"images": list(await asyncio.gather(*(self._listed(part, wanted) for part in parts)))}

    async def _listed(self, part: Part, wanted: Wish) -> dict[str, Any]:
        try:
            return await self._answered(part.name, part.content, wanted)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return unread(part.name, problem)

    async def single(self, body: bytes, wanted: Wish) -> dict[str, Any]:
        with self._engine.admitted(1):
            return await self._answered("", body, wanted)

    async def _answered(self, name: str, content: bytes, wanted: Wish) -> dict[str, Any]:
        try:
            square = await self._engine.decoded(content)
            found = await self._engine.predicted(square, name)
        except Problem as problem:
            self._metrics.images.labels(problem.code).inc()
            raise
        self._metrics.images.labels("ok").inc()
        return as_json(finished(found, self._calibration, wanted), wanted)
