"""The Open Inference Protocol v2, as clients of KServe and Triton speak it."""

import asyncio
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

from solobox.boxes import Floats
from solobox.margins import DEFAULT_LEVEL
from solobox.pictures import to_square
from solobox.prediction import Prediction
from solobox.serving import tensors
from solobox.serving.answers import V2Fault, Wish, prediction
from solobox.serving.engine import Pixels, Square
from solobox.serving.problems import Problem
from solobox.serving.routes import FAULTS
from solobox.serving.service import Service
from solobox.serving.tensors import Asked
from solobox.serving.waiting import in_time

_FAULTS = {number: {**fault, "model": V2Fault} for number, fault in FAULTS.items() if number != 422}
_FAULTS[400] = {"model": V2Fault, "description": "A tensor that is not what the model takes"}
_FAULTS[404] = {"model": V2Fault, "description": "No model of this name"}
_FAULTS[415] = {"model": V2Fault, "description": "The body is compressed"}
_READ = {number: _FAULTS[number] for number in (401, 404)}
_NOT_READY = {503: {"model": V2Fault, "description": "It is stopping, or the model cannot be run"}}

_BODY = {
    "requestBody": {
        "required": True,
        "description": "With the header Inference-Header-Content-Length, that many bytes of JSON and the tensor's bytes",
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
                                    "name": {"const": tensors.INPUT},
                                    "datatype": {"const": "UINT8"},
                                    "shape": {
                                        "type": "array",
                                        "minItems": 4,
                                        "maxItems": 4,
                                        "items": {"type": "integer", "minimum": 1},
                                        "description": "pictures, height, width, 3",
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


def output_names(service: Service) -> list[str]:
    """The outputs that this model has figures for: names of the exported graph's."""
    model, calibration = service.model, service.model.calibration
    two_sided = calibration is not None and DEFAULT_LEVEL in calibration.two_sided
    has = {
        "boxes": True,
        "spread": service.engine.has_spread,
        "low": two_sided,
        "high": two_sided,
        "outer": calibration is not None and DEFAULT_LEVEL in calibration.outer,
        "presence": model.has_presence,
        "familiarity": model.has_familiarity,
    }
    return [name for name, known in has.items() if known]


def v2_routes(service: Service) -> APIRouter:
    """All of them, for one model."""
    router = APIRouter(prefix="/v2")
    engine, model, settings = service.engine, service.model, service.settings

    def check(name: str) -> None:
        if name != service.name:
            raise Problem(
                404, "no_such_model", "there is no model of this name", f"The model here is {service.name}."
            )

    @router.get("", summary="The server", responses={401: _FAULTS[401]})
    async def server() -> ServerFacts:
        return ServerFacts(name="solobox", version=version("solobox"), extensions=["binary_tensor_data"])

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/health/ready", summary="Whether requests should come here", responses=_NOT_READY)
    async def ready() -> Ready:
        service.check_ready()
        return Ready(ready=True)

    @router.get("/models/{name}", summary="The model: its inputs and outputs", responses=_READ)
    async def about(name: str) -> ModelFacts:
        check(name)
        flat = ("presence", "familiarity")
        return ModelFacts(
            name=service.name,
            versions=["1"],
            platform="onnxruntime_onnx",
            inputs=[TensorFacts(name=tensors.INPUT, datatype="UINT8", shape=[-1, -1, -1, 3])],
            outputs=[
                TensorFacts(name=each, datatype="FP32", shape=[-1] if each in flat else [-1, 4])
                for each in output_names(service)
            ],
        )

    @router.get(
        "/models/{name}/ready", summary="Whether the model can be used", responses={**_READ, **_NOT_READY}
    )
    async def model_ready(name: str) -> Ready:
        check(name)
        service.check_ready()
        return Ready(ready=True)

    @router.post(
        "/models/{name}/infer",
        summary="One box for each picture of a tensor",
        response_model=Response_,
        responses=_FAULTS,
        openapi_extra=_BODY,
    )
    async def infer(
        name: str,
        request: Request,
        inference_header_content_length: Annotated[
            str | None, Header(description="Bytes of JSON, where bytes of the tensor follow it")
        ] = None,
    ) -> Response:
        """`pixels` are (N, H, W, 3) UINT8, RGB, upright; boxes come in these pixels, margins and outer box at 0.9."""
        check(name)
        engine.refuse_if_full()
        with service.uploads.holding(request) as upload:
            body = await upload.read()
            return await in_time(inferred(body, inference_header_content_length), request, settings.deadline)

    async def inferred(body: bytes, header: str | None) -> Response:
        names = output_names(service)
        asked = await engine.in_thread(lambda: tensors.parse(body, header, names, settings))
        with engine.admitted(len(asked.pixels)):
            found = await asyncio.gather(*(answered(pixels) for pixels in asked.pixels))
        content, headers = tensors.render(asked, service.name, _tensors(asked, found))
        return Response(content, headers=headers)

    async def answered(pixels: Pixels) -> tuple[Prediction, Prediction]:
        """Once with margins to both sides, once outwards."""
        height, width = pixels.shape[:2]
        square = Square(await engine.in_thread(lambda: to_square(pixels, model.side)), (width, height))
        row = await engine.row(square)
        level = DEFAULT_LEVEL if model.calibration is not None else None
        names = output_names(service)
        both, outer = (
            prediction(
                "", row, square.size, model.calibration, Wish(level if name in names else None, outer=is_outer)
            )
            for name, is_outer in (("low", False), ("outer", True))
        )
        return both, outer

    return router


def _tensors(asked: Asked, found: list[tuple[Prediction, Prediction]]) -> dict[str, Floats]:
    values: dict[str, Floats] = {
        "boxes": np.array([both.box for both, _ in found]),
        "outer": np.array([outer.outer for _, outer in found]),
    }
    for name in ("spread", "low", "high", "presence", "familiarity"):
        values[name] = np.array([getattr(both, name) for both, _ in found])
    return {name: values[name] for name, _ in asked.outputs}
