"""``POST /v1/predict``: the bytes of an image, or a form with several."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from solobox.errors import ConfigError
from solobox.predict.predictor import PredictOptions
from solobox.serve.errors import PREDICT_ERRORS, HTTPError
from solobox.serve.limits import FormFile, with_deadline
from solobox.serve.schemas import (
    PredictionBody,
    PredictionListBody,
    PredictQuery,
    failed_body,
    prediction_body,
)
from solobox.serve.state import ServerContext

T = TypeVar("T")

_FORM_TYPE = "multipart/form-data"
_CURL_TYPE = "application/x-www-form-urlencoded"
"""What curl says of any bytes unless it is told otherwise; the bytes themselves say whether they are an image."""
_IMAGE_TYPES = [f"image/{name}" for name in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "heic")]
_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
    "required": ["file"],
}
_BODY = {
    "requestBody": {
        "description": "The bytes of an image, or a form with several",
        "required": True,
        "content": {
            **{kind: {"schema": _FILE} for kind in (*_IMAGE_TYPES, "application/octet-stream")},
            _FORM_TYPE: {"schema": _FORM},
        },
    }
}


def predict_routes(context: ServerContext) -> APIRouter:
    """The route for one model."""
    router = APIRouter()
    model, batcher, settings = context.model, context.batcher, context.settings

    @router.post(
        "/v1/predict",
        summary="One box for each image",
        response_model=PredictionBody | PredictionListBody,
        responses=PREDICT_ERRORS,
        openapi_extra=_BODY,
    )
    async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        """Send an image as the body for one prediction, or a form with several for a list, in their order.

        An image of a form that cannot be read has its `error` in the list; the others are predicted all the same.
        """
        try:
            options = model.check(PredictOptions(**query.model_dump()))
        except ConfigError as error:
            raise HTTPError.from_option_error(error) from None
        media_type = _media_type(request)
        batcher.refuse_if_full()
        with context.uploads.upload(request) as upload:
            if media_type == _FORM_TYPE:
                files = await upload.read_form()
                work = predict_form(files, options)
            else:
                work = predict_file(FormFile("", await upload.read()), options)
            started = time.perf_counter()
            content = await _blame_type(media_type, with_deadline(work, request, settings.deadline))
        milliseconds = 1000 * (time.perf_counter() - started)
        return JSONResponse(content, headers={"Server-Timing": f"total;dur={milliseconds:.1f}"})

    async def predict_file(file: FormFile, options: PredictOptions) -> dict[str, Any]:
        with batcher.slots(1):
            return await predict_one(file, options)

    async def predict_form(files: list[FormFile], options: PredictOptions) -> dict[str, Any]:
        with batcher.slots(len(files)):
            return {"images": await asyncio.gather(*(list_one(file, options) for file in files))}

    async def list_one(file: FormFile, options: PredictOptions) -> dict[str, Any]:
        try:
            return await predict_one(file, options)
        except HTTPError as error:
            if error.status >= 500:
                raise
            return failed_body(file.name, error.to_dict())

    async def predict_one(file: FormFile, options: PredictOptions) -> dict[str, Any]:
        try:
            image = await batcher.preprocess(file.content)
            output = await batcher.infer(image.pixels)
        except HTTPError as error:
            context.metrics.images.labels(error.code).inc()
            raise
        context.metrics.images.labels("ok").inc()
        (prediction,) = model.postprocess(output, [image.size], [file.name], options)
        return prediction_body(prediction, options, level=model.level(options))

    return router


def _media_type(request: Request) -> str:
    """The type of the body. Raises HTTPError (415) for one that is neither a form nor an image."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in (_FORM_TYPE, _CURL_TYPE, "application/octet-stream") or media_type.startswith("image/"):
        return media_type
    raise _unsupported(media_type)


async def _blame_type(media_type: str, work: Awaitable[T]) -> T:
    """The result of the work. What is no image, and is not said to be one, has an unsupported type (415)."""
    try:
        return await work
    except HTTPError as error:
        if media_type == _CURL_TYPE and error.code == "image-unsupported-format":
            raise _unsupported(media_type) from None
        raise


def _unsupported(media_type: str) -> HTTPError:
    return HTTPError(
        415,
        "unsupported-media-type",
        f"a body of type {media_type[:80]!r} is not supported",
        "Send the image with Content-Type: application/octet-stream, or a form: curl -F file=@photo.jpg URL",
    )
