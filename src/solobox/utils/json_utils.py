"""Numbers and types of JSON, and how JSON that somebody else wrote is read."""

import json
import math
from typing import Any, TypeAlias

Json: TypeAlias = "str | int | float | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
"""How deep lists and objects may be nested; no file of ours, and no COCO JSON, comes near it."""

MAX_BYTES = 16 << 20
"""Of a small file such as a model's ``config.json``, and of an ONNX file's metadata."""


def number(value: float) -> float | None:
    """A number for JSON: None, which becomes null, for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def parse_json(text: str | bytes, *, allow_nan: bool = False, max_bytes: int | None = None) -> Any:
    """Parse JSON that may be hostile.

    allow_nan: whether ``NaN`` and ``Infinity``, which JSON does not have, are numbers; a number too large for a float
    is then infinite. max_bytes: bytes, or characters, at most; None for any number.

    Raises ValueError with a short reason, and nothing else: also for text nested deeper than `MAX_DEPTH`, which would
    exhaust the stack here or where the values are used, and for whole numbers of thousands of digits.
    """
    if max_bytes is not None and len(text) > max_bytes:
        raise ValueError(f"it has more than {max_bytes >> 20} MB")
    try:
        values = (
            json.loads(text) if allow_nan else json.loads(text, parse_constant=_refuse, parse_float=_finite)
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            value
            for container in level
            if type(container) in (dict, list)
            for value in (container.values() if type(container) is dict else container)
            if type(value) in (dict, list)
        ]
        if not level:
            return values
    raise ValueError("it is nested too deeply")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value
