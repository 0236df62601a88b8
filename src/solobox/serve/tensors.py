"""Requests and responses of the Open Inference Protocol v2: tensors in JSON, or behind it as bytes.

The form with bytes is that protocol's extension for binary tensor data, which its clients use by default.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.predict.onnx_runtimes import PIXELS
from solobox.serve.errors import Problem
from solobox.serve.settings import Settings

HEADER = "Inference-Header-Content-Length"
"""Bytes of JSON before the bytes of tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A request. pixels: (N, H, W, 3) uint8. outputs: names, and whether as bytes, in the order asked for."""

    id: str | None
    pixels: npt.NDArray[np.uint8]
    outputs: Sequence[tuple[str, bool]]


def parse(body: bytes, header: str | None, known: Sequence[str], settings: Settings) -> Asked:
    """A request from its body and the value of `HEADER`. Raises Problem (400, 413)."""
    length = len(body) if header is None else _length(header, len(body))
    try:
        given = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise _wrong("the body is not JSON", f"Without the header {HEADER} all of it is.") from None
    if not isinstance(given, dict):
        raise _wrong("the body is no JSON object")
    tensors = given.get("inputs")
    if not isinstance(tensors, list) or len(tensors) != 1 or not isinstance(tensors[0], dict):
        raise _wrong(f"inputs is a list of one tensor, named {PIXELS}")
    identity = given.get("id")
    if identity is not None and not isinstance(identity, str):
        raise _wrong("id is a text")
    pixels = _pixels(tensors[0], body[length:], settings)
    return Asked(identity, pixels, _outputs(given, known))


def _length(header: str, most: int) -> int:
    if not header.isascii() or not header.isdigit() or len(header) > 12 or int(header) > most:
        raise _wrong(f"{HEADER} is the number of bytes of the JSON, within the body")
    return int(header)


def _pixels(tensor: Mapping[str, Any], behind: bytes, settings: Settings) -> npt.NDArray[np.uint8]:
    if tensor.get("name") != PIXELS:
        raise _wrong(f"the input is named {PIXELS}")
    if tensor.get("datatype") != "UINT8":
        raise _wrong(f"{PIXELS} has the datatype UINT8: RGB from 0 to 255, upright")
    shape = _shape(tensor.get("shape"), settings)
    size = _parameters(tensor).get("binary_data_size")
    if size is None:
        if behind:
            raise _wrong(f"bytes follow the JSON, and {PIXELS} has no binary_data_size")
        return _from_json(tensor.get("data"), shape)
    if not isinstance(size, int) or size != len(behind) or size != math.prod(shape):
        raise _wrong(
            f"binary_data_size, the bytes behind the JSON and the product of {list(shape)} are one number"
        )
    return np.frombuffer(behind, np.uint8).reshape(shape)


def _shape(given: object, settings: Settings) -> tuple[int, ...]:
    if (
        not isinstance(given, list)
        or len(given) != 4
        or any(type(side) is not int or side < 1 for side in given)
        or given[3] != 3
    ):
        raise _wrong(f"the shape of {PIXELS} is [images, height, width, 3], each at least 1")
    if given[0] > settings.max_images or given[1] * given[2] > settings.max_pixels:
        raise Problem(
            413,
            "too_many_pixels",
            f"{PIXELS} has more than {settings.max_images} images, or images of more than "
            f"{settings.max_pixels} pixels",
            "Send fewer or smaller ones.",
        )
    return tuple(given)


def _from_json(data: object, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    if not isinstance(data, list):
        raise _wrong(f"{PIXELS} has no data: a list of numbers, flat or nested as its shape")
    try:
        values = np.array(data)
    except (ValueError, OverflowError):
        raise _wrong(f"data of {PIXELS} is ragged") from None
    if values.dtype.kind not in "iu" or not bool(((values >= 0) & (values <= 255)).all()):
        raise _wrong(f"data of {PIXELS} is integers from 0 to 255")
    if values.shape not in (shape, (math.prod(shape),)):
        raise _wrong(f"data of {PIXELS} is {values.size} numbers, which are not of the shape {list(shape)}")
    return values.astype(np.uint8).reshape(shape)


def _outputs(given: Mapping[str, Any], known: Sequence[str]) -> list[tuple[str, bool]]:
    as_bytes = _flag(given, "binary_data_output", default=False)
    wanted = given.get("outputs")
    if wanted is None or wanted == []:
        return [(name, as_bytes) for name in known]
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise _wrong("outputs is a list of objects with a name")
    for each in wanted:
        if each.get("name") not in known:
            raise _wrong(
                f"there is no output {str(each.get('name'))[:80]!r}", f"There are {', '.join(known)}."
            )
    return [(each["name"], _flag(each, "binary_data", default=as_bytes)) for each in wanted]


def _flag(holder: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = _parameters(holder).get(name, default)
    if not isinstance(value, bool):
        raise _wrong(f"{name} is true or false")
    return value


def _parameters(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    given = holder.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _wrong("parameters is an object")
    return given


def _wrong(message: str, what_to_do: str = "See GET /v2/models/NAME for names, types and shapes.") -> Problem:
    return Problem(400, "wrong_tensor", message, what_to_do)


def render(asked: Asked, model: str, values: Mapping[str, Floats]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the response. values: the outputs by name, (N, ...)."""
    outputs, behind = [], []
    for name, as_bytes in asked.outputs:
        tensor = np.ascontiguousarray(values[name], dtype="<f4")
        told: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(tensor.shape)}
        if as_bytes:
            behind.append(tensor.tobytes())
            told["parameters"] = {"binary_data_size": tensor.nbytes}
        else:
            told["data"] = [round(value, 6) for value in tensor.ravel().tolist()]
        outputs.append(told)
    content = {"model_name": model, "model_version": "1", "outputs": outputs}
    if asked.id is not None:
        content["id"] = asked.id
    text = json.dumps(content).encode()
    if not behind:
        return text, {"Content-Type": "application/json"}
    return b"".join([text, *behind]), {"Content-Type": "application/octet-stream", HEADER: str(len(text))}
