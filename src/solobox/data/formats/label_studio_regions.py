"""The regions of Label Studio's results, as its JSON, JSON-MIN and CSV have them, in percent of the image."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from solobox.data.formats.json_reading import mapping, size_of, text_of
from solobox.data.formats.parsing import NOT_A_BOX, box_of, number, says_no_object

_LABELS = ("rectanglelabels", "labels", "polygonlabels", "ellipselabels", "brushlabels", "choices")
_WHOLE_IMAGE = frozenset({
    "", "choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "labels", "relation",
})  # fmt: skip
"""Types of results that are about the whole image, about another result, or about nothing that is drawn."""

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A region with a box: x, y, width and height in percent; `text` as in the file."""

    box: _Box
    text: str
    label: str
    turned: bool
    size: tuple[float, float] | None


def regions(results: Iterable[Mapping[str, Any]]) -> tuple[list[Region], Counter[str]]:
    """The regions that have a box, and how many there are of each kind that has none: brushes, key points, ...

    A region comes once, also where several results are about it (its rectangle, its label, its text).
    """
    entries = [(result, mapping(result.get("value", result))) for result in results]
    labels: dict[str, str] = {}
    for key in _LABELS:  # the choices of a region are its label only where it has no other
        for result, value in entries:
            if (identity := text_of(result.get("id"))) and (label := _label(value, key)):
                labels.setdefault(identity, label)
    found: dict[_Box | int, Region] = {}
    others = Counter[str]()
    for at, (result, value) in enumerate(entries):
        kind = text_of(result.get("type")) or _kind(value)
        shape = _shape(kind, value)
        if not shape:
            if kind not in _WHOLE_IMAGE:
                others[kind.removesuffix("labels")] += 1
            continue
        size = recorded_size(result)
        box, turned = _box(shape, value, size)
        label = next((text for key in _LABELS if (text := _label(value, key))), "")
        label = labels.get(text_of(result.get("id")), label)
        text = json.dumps({key: value[key] for key in _NUMBERS if key in value}, default=str)[:200]
        region = Region(box, text, label, turned, size)
        same = at if math.isnan(sum(box)) else box
        first = found.get(same)
        found[same] = region if first is None else replace(first, label=first.label or label)
    return list(found.values()), others


def recorded_size(result: Mapping[str, Any]) -> tuple[float, float] | None:
    """Width and height in pixels of the image that a result is of, where it says them."""
    return size_of(result.get("original_width"), result.get("original_height"))


def image_classes(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The classes that results give to the whole image, those left out by which it says that the object is absent."""
    found = [
        text_of(choice)
        for result in results
        if not _shape("", value := mapping(result.get("value", result)))
        for choice in _choices(value)
    ]
    return [choice for choice in found if choice and not says_no_object(choice)]


def choices_of_row(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The classes of a row of JSON-MIN or of a CSV, as results: one is a text, several are an object with a list."""
    found: list[Mapping[str, Any]] = []
    for key, cell in row.items():
        choices = _choices(cell)
        if not choices and key.lower() in {"choice", "choices"} and cell:
            choices = cell if isinstance(cell, list) else [cell]
        if choices:
            found.append({"type": "choices", "value": {"choices": choices}})
    return found


def _choices(value: object) -> list[Any]:
    """The choices in the value of a result, or in a cell that has it as JSON; of a taxonomy its leaves."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    found = mapping(value)
    choices, paths = found.get("choices"), found.get("taxonomy", value)
    if isinstance(choices, list):
        return choices
    # Each goes from the root to a leaf, whose name says most. Lists of numbers are something else.
    listed = [path for path in paths if isinstance(path, list) and path] if isinstance(paths, list) else []
    return [path[-1] for path in listed if isinstance(path[-1], str)]


_NUMBERS = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points")


def _label(value: Mapping[str, Any], key: str) -> str:
    labels = value.get(key)
    return text_of(labels[0]) if isinstance(labels, list) and labels else ""


def _kind(value: Mapping[str, Any]) -> str:
    """The type of a result that does not tell it, as in JSON-MIN."""
    named = next((key for key in value if key.endswith("labels") and key != "labels"), "")
    return named or ("brush" if "rle" in value else "vector" if "vertices" in value else "")


def _shape(kind: str, value: Mapping[str, Any]) -> str:
    """How the box is made, or the empty text where there is none to make."""
    if "points" in value or kind.startswith("polygon"):
        return "polygon"
    if "radiusX" in value or kind.startswith("ellipse"):
        return "ellipse"
    if kind.startswith("rectangle") or {"x", "y", "height"} <= set(value):
        return "rectangle"
    return ""


def _box(shape: str, value: Mapping[str, Any], size: tuple[float, float] | None) -> tuple[_Box, bool]:
    """x, y, width and height of the bounds, and whether the shape is turned; NaN where that cannot be told."""
    if shape == "polygon":
        points = value.get("points")
        return _bounds(points if isinstance(points, list) else []), False
    angle = number(value.get("rotation") or 0) % 360
    if math.isnan(angle) or (angle and size is None):
        return NOT_A_BOX, False
    # It turns in pixels: percent of two sides are not of one length.
    scale = size[0] / size[1] if size else 1.0
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if shape == "ellipse":
        x, y, rx, ry = box_of(value.get(key) for key in ("x", "y", "radiusX", "radiusY"))
        if angle:
            rx, ry = math.hypot(rx * cos, ry / scale * sin), math.hypot(rx * scale * sin, ry * cos)
        return (x - rx, y - ry, 2 * rx, 2 * ry), angle != 0
    x, y, width, height = box_of(value.get(key) for key in ("x", "y", "width", "height"))
    if not angle:
        return (x, y, width, height), False
    # A rectangle turns about its upper left corner.
    corners = [(a, b) for a in (0.0, width) for b in (0.0, height)]
    return _bounds([[x + a * cos - b / scale * sin, y + a * scale * sin + b * cos] for a, b in corners]), True


def _bounds(points: Sequence[object]) -> _Box:
    pairs = [point for point in points if isinstance(point, list) and len(point) == 2]
    xs, ys = [number(point[0]) for point in pairs], [number(point[1]) for point in pairs]
    if not pairs or len(pairs) != len(points) or any(map(math.isnan, (*xs, *ys))):
        return NOT_A_BOX
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
