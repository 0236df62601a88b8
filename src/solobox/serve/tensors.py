"""Requests and responses of the Open Inference Protocol v2: tensors in JSON, or as bytes after it.

Bytes are the protocol's extension for binary tensor data, which its clients use by default.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.predict.onnx_model import PIXELS
from solobox.serve.errors import HTTPError
from solobox.serve.settings import ServerSettings
from solobox.utils.json_utils import parse_json

HEADER = "Inference-Header-Content-Length"
"""The header that says how many bytes of JSON come before the bytes of tensors."""


MAX_ID = 1000
"""Characters of a request's id, which is repeated in the response."""


@dataclass(frozen=True, slots=True, eq=False)
class InferenceRequest:
    """A parsed request. pixels: (N, H, W, 3) uint8. outputs: requested names in order, and whether each as bytes."""

    id: str | None
    pixels: npt.NDArray[np.uint8]
    outputs: Sequence[tuple[str, bool]]


def parse_request(
    body: bytes, header: str | None, output_names: Sequence[str], settings: ServerSettings
) -> InferenceRequest:
    """Parse a request. header: the value of `HEADER`. Raises HTTPError (400, 413)."""
    length = len(body) if header is None else _length(header, len(body))
    if length > settings.max_json:
        raise HTTPError(
            413,
            "body-too-large",
            f"the JSON is larger than {settings.max_json:,} bytes",
            f"Send the tensor as bytes after it, with the header {HEADER}.",
        )
    try:
        content = parse_json(body[:length])
    except ValueError:
        raise _invalid("the body is not JSON", f"Without the header {HEADER} all of it must be.") from None
    if not isinstance(content, dict):
        raise _invalid("the body is not a JSON object")
    tensors = content.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise _invalid(f"inputs must be a list of one tensor, named {PIXELS}")
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _invalid("id must be a string")
    if identity is not None and len(identity) > MAX_ID:
        raise _invalid(f"id has more than {MAX_ID} characters")
    pixels = _pixels(tensors[0], body[length:], settings)
    return InferenceRequest(identity, pixels, _outputs(content, output_names))


def _length(header: str, maximum: int) -> int:
    if not header.isascii() or not header.isdigit() or len(header) > 12 or int(header) > maximum:
        raise _invalid(f"{HEADER} must be the number of bytes of the JSON, at most the body's")
    return int(header)


def _pixels(tensor: Mapping[str, Any], binary: bytes, settings: ServerSettings) -> npt.NDArray[np.uint8]:
    if tensor.get("name") != PIXELS:
        raise _invalid(f"the input must be named {PIXELS}")
    if tensor.get("datatype") != "UINT8":
        raise _invalid(f"{PIXELS} must have the datatype UINT8: upright RGB from 0 to 255")
    shape = _shape(tensor.get("shape"), settings)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if binary:
            raise _invalid(f"bytes follow the JSON, but {PIXELS} has no binary_data_size")
        return _from_json(tensor.get("data"), shape)
    if not isinstance(size, int) or size != len(binary) or size != math.prod(shape):
        raise _invalid(
            f"binary_data_size, the number of bytes after the JSON and the product of {list(shape)} must be equal"
        )
    return np.frombuffer(binary, np.uint8).reshape(shape)


def _shape(shape: object, settings: ServerSettings) -> tuple[int, ...]:
    if (
        not isinstance(shape, list)
        or len(shape) != 4
        or any(type(side) is not int or side < 1 for side in shape)
        or shape[3] != 3
    ):
        raise _invalid(f"the shape of {PIXELS} must be [images, height, width, 3], each at least 1")
    if shape[0] > settings.max_images or shape[1] * shape[2] > settings.max_pixels:
        raise HTTPError(
            413,
            "image-too-many-pixels",
            f"{PIXELS} has more than {settings.max_images} images, or images of more than "
            f"{settings.max_pixels} pixels",
            "Send fewer or smaller ones.",
        )
    return tuple(shape)


def _from_json(data: object, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if not isinstance(data, list):
        raise _invalid(f"data of {PIXELS} must be a list of numbers, flat or nested as its shape")
    try:
        values = np.array(data)
    except (ValueError, OverflowError):
        raise _invalid(f"data of {PIXELS} is ragged") from None
    if values.dtype.kind not in "iu" or not bool(((values >= 0) & (values <= 255)).all()):
        raise _invalid(f"data of {PIXELS} must be integers from 0 to 255")
    if values.shape not in (shape, (math.prod(shape),)):
        raise _invalid(
            f"data of {PIXELS} has {values.size} numbers, which do not fit the shape {list(shape)}"
        )
    return values.astype(np.uint8).reshape(shape)


def _outputs(content: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, bool]]:
    as_bytes = _flag(content, "binary_data_output", default=False)
    outputs = content.get("outputs")
    if outputs is None or outputs == []:
        return [(name, as_bytes) for name in names]
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise _invalid("outputs must be a list of objects with a name")
    requested = set()
    for each in outputs:
        name = each.get("name")
        if not isinstance(name, str) or name not in names:
            said = repr(name[:80]) if isinstance(name, str) else "without a name"
            raise _invalid(f"there is no output {said}", f"There are {', '.join(names)}.")
        if name in requested:
            raise _invalid(f"the output {name} is requested twice")
        requested.add(name)
    return [(each["name"], _flag(each, "binary_data", default=as_bytes)) for each in outputs]


def _flag(holder: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = _parameters(holder).get(name, default)
    if not isinstance(value, bool):
        raise _invalid(f"{name} must be true or false")
    return value


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _invalid("parameters must be an object")
    return parameters


def _invalid(message: str, hint: str = "See GET /v2/models/NAME for names, types and shapes.") -> HTTPError:
    return HTTPError(400, "invalid-tensor", message, hint)


def build_response(
    request: InferenceRequest, model: str, arrays: Mapping[str, Floats]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response. arrays: the outputs by name, (N, ...)."""
    outputs, binary = [], []
    for name, as_bytes in request.outputs:
        tensor = np.ascontiguousarray(arrays[name], dtype="<f4")
        output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(tensor.shape)}
        if as_bytes:
            binary.append(tensor.tobytes())
            output["parameters"] = {"binary_data_size": tensor.nbytes}
        else:
            output["data"] = [round(value, 6) for value in tensor.ravel().tolist()]
        outputs.append(output)
    content = {"model_name": model, "model_version": "1", "outputs": outputs}
    if request.id is not None:
        content["id"] = request.id
    text = json.dumps(content).encode()
    if not binary:
        return text, {"Content-Type": "application/json"}
    return b"".join([text, *binary]), {"Content-Type": "application/octet-stream", HEADER: str(len(text))}
