"""Routes of the Open Inference Protocol v2, which clients of KServe and Triton speak."""

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
from solobox.predict.onnx_model import PIXELS, OnnxModel, levels_of
from solobox.predict.predictor import Pixels, PredictOptions, RawOutput
from solobox.serve import tensors
from solobox.serve.errors import (
    V2_FORBIDDEN,
    V2_INFER_ERRORS,
    V2_MODEL_ERRORS,
    V2_NOT_READY,
    V2_UNAUTHORIZED,
    HTTPError,
)
from solobox.serve.limits import with_deadline
from solobox.serve.state import ServerContext

_BODY = {
    "requestBody": {
        "required": True,
        "description": "JSON; with the header Inference-Header-Content-Length the tensor's bytes follow it",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string", "maxLength": tensors.MAX_ID},
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


class ServerMetadata(BaseModel):
    """About the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output; -1 for dimensions of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """About the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, list[float]]


class OutputTensor(TensorMetadata):
    """An output. data: flat."""

    data: list[float] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    """The requested outputs, or all."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class LiveBody(BaseModel):
    """Whether the process runs."""

    live: bool


class ReadyBody(BaseModel):
    """Whether the server accepts requests."""

    ready: bool


def open_inference_routes(context: ServerContext) -> APIRouter:
    """The routes for one model."""
    router = APIRouter(prefix="/v2")
    batcher, model, settings = context.batcher, context.model, context.settings

    def check_name(name: str) -> None:
        if name != context.name:
            raise HTTPError(
                404, "model-not-found", "there is no model of this name", f"The model here is {context.name}."
            )

    @router.get("", summary="About the server", responses=V2_UNAUTHORIZED)
    async def server() -> ServerMetadata:
        return ServerMetadata(name="solobox", version=version("solobox"), extensions=["binary_tensor_data"])

    @router.get("/health/live", summary="Whether the process runs", responses=V2_FORBIDDEN)
    async def live() -> LiveBody:
        return LiveBody(live=True)

    @router.get("/health/ready", summary="Whether the server accepts requests", responses=V2_NOT_READY)
    async def ready() -> ReadyBody:
        context.check_ready()
        return ReadyBody(ready=True)

    @router.get("/models/{name}", summary="The model: its inputs and outputs", responses=V2_MODEL_ERRORS)
    async def metadata(name: str) -> ModelMetadata:
        check_name(name)
        return ModelMetadata(
            name=context.name,
            versions=["1"],
            platform="onnxruntime_onnx",
            inputs=[TensorMetadata(name=PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3])],
            outputs=[
                TensorMetadata(name=output, datatype="FP32", shape=shape)
                for output, shape in _output_shapes(context).items()
            ],
            parameters={"levels": list(levels_of(model.calibration))},
        )

    @router.get(
        "/models/{name}/ready",
        summary="Whether the model accepts requests",
        responses=V2_MODEL_ERRORS | V2_NOT_READY,
    )
    async def model_ready(name: str) -> ReadyBody:
        check_name(name)
        context.check_ready()
        return ReadyBody(ready=True)

    @router.post(
        "/models/{name}/infer",
        summary="One box for each image of a tensor",
        response_model=InferenceResponse,
        responses=V2_INFER_ERRORS,
        openapi_extra=_BODY,
    )
    async def infer(
        name: str,
        request: Request,
        inference_header_content_length: Annotated[
            str | None, Header(description="Bytes of JSON, where the bytes of the tensor follow it")
        ] = None,
    ) -> Response:
        """`pixels` are (N, H, W, 3) UINT8, upright RGB; boxes are in these pixels.

        `lower`, `upper` and `outer` have one box for each level of the model's parameter `levels`.
        """
        check_name(name)
        batcher.refuse_if_full()
        with context.uploads.upload(request) as upload:
            body = await upload.read()
            work = infer_body(body, inference_header_content_length)
            return await with_deadline(work, request, settings.deadline)

    async def infer_body(body: bytes, header: str | None) -> Response:
        names = list(_output_shapes(context))
        inference = await batcher.in_thread(lambda: tensors.parse_request(body, header, names, settings))
        with batcher.slots(len(inference.pixels)):
            outputs = await asyncio.gather(*(infer_one(pixels) for pixels in inference.pixels))
        content, headers = await batcher.in_thread(lambda: render(inference, outputs))
        return Response(content, headers=headers)

    def render(
        inference: tensors.InferenceRequest, outputs: Sequence[RawOutput]
    ) -> tuple[bytes, dict[str, str]]:
        height, width = inference.pixels.shape[1:3]
        return tensors.build_response(
            inference, context.name, _output_arrays(model, outputs, (width, height))
        )

    async def infer_one(pixels: Pixels) -> RawOutput:
        return await batcher.infer(await batcher.in_thread(lambda: to_square(pixels, model.side)))

    return router


def _output_shapes(context: ServerContext) -> dict[str, list[int]]:
    """The outputs of this model, as in the exported graph, with their shapes."""
    model, levels = context.model, len(levels_of(context.model.calibration))
    shapes: dict[str, list[int]] = {"boxes": [-1, 4]}
    if context.batcher.has_std:
        shapes["std"] = [-1, 4]
    if levels:
        shapes |= {name: [-1, levels, 4] for name in ("lower", "upper", "outer")}
    if model.has_presence:
        shapes["presence"] = [-1]
    if model.has_familiarity:
        shapes["familiarity"] = [-1]
    return shapes


def _output_arrays(
    model: OnnxModel, outputs: Sequence[RawOutput], size: tuple[int, int]
) -> dict[str, Floats]:
    """All outputs, in pixels, for N images of one size."""
    fields = ("boxes", "std", "presence", "familiarity")
    output = RawOutput(*(np.concatenate([getattr(each, field) for each in outputs]) for field in fields))
    sizes, names = [size] * len(output), [""] * len(output)
    plain = model.postprocess(output, sizes, names)
    arrays = {
        "boxes": np.array([each.box for each in plain]),
        "std": np.array([each.std for each in plain]),
        "presence": output.presence,
        "familiarity": output.familiarity,
    }
    levels = levels_of(model.calibration)
    two_sided = [model.postprocess(output, sizes, names, PredictOptions(margins=level)) for level in levels]
    one_sided = [model.postprocess(output, sizes, names, PredictOptions(outer=level)) for level in levels]
    if levels:
        arrays["lower"] = np.stack([[each.lower for each in level] for level in two_sided], axis=1)
        arrays["upper"] = np.stack([[each.upper for each in level] for level in two_sided], axis=1)
        arrays["outer"] = np.stack([[each.outer for each in level] for level in one_sided], axis=1)
    return arrays
