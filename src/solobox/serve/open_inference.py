"""The Open Inference Protocol v2, as clients of KServe and Triton speak it."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from solobox.boxes import Floats
from solobox.images.reading import to_square
from solobox.predict.onnx_runtimes import PIXELS, levels_of
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import with_margins
from solobox.serve import tensors
from solobox.serve.batching import Pixels, Square
from solobox.serve.documented_errors import V2_FAULTS, V2_NOT_READY, V2_READ
from solobox.serve.errors import Problem
from solobox.serve.service import Service
from solobox.serve.timeouts import in_time
from solobox.uncertainty.conformal import Calibration

_BODY = {
    "requestBody": {
        "required": True,
        "description": "With the header Inference-Header-Content-Length: so many bytes of JSON, then the tensor's",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {
                                "type": "object",
                                "required": ["name", "shape", "datatype"],
                                "properties": {
                                    "name": {"const": PIXELS},
                                    "datatype": {"const": "UINT8"},
                                    "shape": {
                                        "type": "array",
                                        "minItems": 4,
                                        "maxItems": 4,
                                        "items": {"type": "integer", "minimum": 1},
                                        "description": "images, height, width, 3",
                                    },
                                    "data": {
                                        "type": "array",
                                        "description": "0 to 255, flat or nested as the shape",
                                    },
                                },
                            },
                        },
                        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class ServerFacts(BaseModel):
    """Of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorFacts(BaseModel):
    """Of an input or output; -1 for sides of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelFacts(BaseModel):
    """Of the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    parameters: dict[str, list[float]]


class Tensor(TensorFacts):
    """An output. data: flat."""

    data: list[float] | None = None
    parameters: dict[str, Any] | None = None


class Response_(BaseModel):  # noqa: N801 (Response is FastAPI's)
    """The outputs that were asked for, or all."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class Live(BaseModel):
    """Whether the process answers."""

    live: bool


class Ready(BaseModel):
    """Whether requests should come here."""

    ready: bool


def shapes(service: Service) -> dict[str, list[int]]:
    """The outputs that this model has figures for, as the exported graph has them, with their shapes."""
    model, levels = service.model, len(levels_of(service.model.calibration))
    found: dict[str, list[int]] = {"boxes": [-1, 4]}
    if service.engine.has_spread:
        found["std"] = [-1, 4]
    if levels:
        found |= {name: [-1, levels, 4] for name in ("lower", "upper", "outer")}
    if model.has_presence:
        found["presence"] = [-1]
    if model.has_familiarity:
        found["familiarity"] = [-1]
    return found


def v2_routes(service: Service) -> APIRouter:
    """All of them, for one model."""
    router = APIRouter(prefix="/v2")
    engine, model, settings = service.engine, service.model, service.settings

    def check(name: str) -> None:
        if name != service.name:
            raise Problem(
                404, "no_such_model", "there is no model of this name", f"The model here is {service.name}."
            )

    @router.get("", summary="The server", responses={401: V2_FAULTS[401]})
    async def server() -> ServerFacts:
        return ServerFacts(name="solobox", version=version("solobox"), extensions=["binary_tensor_data"])

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", summary="Whether requests should come here", responses=V2_NOT_READY)
    async def ready() -> Ready:
        service.check_ready()
        return Ready(ready=True)

    @router.get("/models/{name}", summary="The model: its inputs and outputs", responses=V2_READ)
    async def about(name: str) -> ModelFacts:
        check(name)
        return ModelFacts(
            name=service.name,
            versions=["1"],
            platform="onnxruntime_onnx",
            inputs=[TensorFacts(name=PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3])],
            outputs=[
                TensorFacts(name=each, datatype="FP32", shape=shape)
                for each, shape in shapes(service).items()
            ],
            parameters={"levels": list(levels_of(model.calibration))},
        )

    @router.get(
        "/models/{name}/ready", summary="Whether the model can be used", responses=V2_READ | V2_NOT_READY
    )
    async def model_ready(name: str) -> Ready:
        check(name)
        service.check_ready()
        return Ready(ready=True)

    @router.post(
        "/models/{name}/infer",
        summary="One box for each image of a tensor",
        response_model=Response_,
        responses=V2_FAULTS,
        openapi_extra=_BODY,
    )
    async def infer(
        name: str,
        request: Request,
        inference_header_content_length: Annotated[
            str | None, Header(description="Bytes of JSON, where bytes of the tensor follow it")
        ] = None,
    ) -> Response:
        """`pixels` are (N, H, W, 3) UINT8, RGB, upright; boxes come in these pixels.

        Of `lower`, `upper` and `outer` there is one for each level of the model's parameter `levels`.
        """
        check(name)
        engine.refuse_if_full()
        with service.uploads.holding(request) as upload:
            body = await upload.read()
            return await in_time(inferred(body, inference_header_content_length), request, settings.deadline)

    async def inferred(body: bytes, header: str | None) -> Response:
        names = list(shapes(service))
        asked = await engine.in_thread(lambda: tensors.parse(body, header, names, settings))
        with engine.admitted(len(asked.pixels)):
            found = await asyncio.gather(*(answered(pixels) for pixels in asked.pixels))
        content, headers = tensors.render(asked, service.name, _tensors(found, model.calibration))
        return Response(content, headers=headers)

    async def answered(pixels: Pixels) -> Prediction:
        height, width = pixels.shape[:2]
        square = await engine.in_thread(lambda: to_square(pixels, model.side))
        return await engine.predicted(Square(square, (width, height)))

    return router


def _tensors(found: Sequence[Prediction], calibration: Calibration | None) -> dict[str, Floats]:
    def banded(*, outer: bool) -> list[list[Prediction]]:
        levels = levels_of(calibration)
        return [[with_margins(one, calibration, level, outer=outer) for level in levels] for one in found]

    both = banded(outer=False)
    return {
        "boxes": np.array([one.box for one in found]),
        "std": np.array([one.std for one in found]),
        "lower": np.array([[one.lower for one in levels] for levels in both]),
        "upper": np.array([[one.upper for one in levels] for levels in both]),
        "outer": np.array([[one.outer for one in levels] for levels in banded(outer=True)]),
        "presence": np.array([one.presence for one in found]),
        "familiarity": np.array([one.familiarity for one in found]),
    }
