"""VGG Image Annotator: JSON of annotations (1 and 2), projects of 2 and 3; the box of a region is its bounds."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import (
    bounds,
    load,
    mapping,
    name_of,
    nameless,
    objects,
    outline,
    text_of,
)
from solobox.data.formats.parsing import NOT_A_BOX, box_of, number, split_in_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record

NAME = "via"
LOOKS_LIKE = "JSON or a project of the VGG Image Annotator, or a folder of folders with via_region_data.json"
CONVENTION = "x, y, width, height in pixels: the bounds of each region; points and lines are left out"

_RECTANGLE, _CIRCLE, _ELLIPSE, _POLYGON = 2, 3, 4, 7  # shapes of VIA 3
_LABELS = ("name", "label", "class", "type", "category", "object")
_AREAS = frozenset({"rect", "circle", "ellipse", "polygon"})
_Region = tuple[tuple[float, float, float, float], str, str]


def fits(path: Path) -> bool:
    """Whether this is a file of VIA, or a folder with one in it or in a folder of it."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read VIA. An image without regions is an image without the object.

    A label is the region's attribute ``name``, ``label``, ``class``, ``type``, ``category`` or ``object``, or the only
    one. Raises DataError: ``bad-json``.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    for file in _files(path):
        split = split_in_name(file.parent.name) if path.is_dir() else ""
        finder = ImageFinder(file.parent, file.parent / "images", images=images)
        row = 0
        for index, (name, regions) in enumerate(_images(mapping(load(file))), start=1):
            where = f"{file.name}, image {index}"
            if not name:
                problems.append(nameless(where, index))
                continue
            located = finder.find(name)
            found = list(regions)
            if not found:
                row += 1
                records.append(Record(row, where, name, located, None, split=split))
            for at, (box, text, label) in enumerate(found, start=1):
                row += 1
                spot = f"{where}, region {at}" if len(found) > 1 else where
                records.append(Record(row, spot, name, located, box, text, label, split))
        problems += finder.problems(path, records)
    return Annotations(path, NAME, CONVENTION, tuple(records), Layout("xywh"), problems=tuple(problems))


def _images(content: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[_Region]]]:
    if "metadata" in content and "file" in content:
        yield from _project3(content)
        return
    for entry in objects(content.get("_via_img_metadata", content)):
        yield name_of(entry.get("filename")), _regions(entry)


def _regions(entry: Mapping[str, Any]) -> Iterator[_Region]:
    regions = objects(entry.get("regions"))  # a list, or in VIA 1 an object with the keys 0, 1, ...
    areas = 0
    for region in regions:
        shape = mapping(region.get("shape_attributes"))
        kind = text_of(shape.get("name"))
        if kind in _AREAS:
            areas += 1
            yield _box(kind, shape), json.dumps(shape)[:200], _label(region.get("region_attributes"))
    if regions and not areas:
        yield NOT_A_BOX, "points or lines, which have no box", ""


def _box(kind: str, shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    if kind == "rect":
        return box_of(shape.get(key) for key in ("x", "y", "width", "height"))
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        return _of_points(xs, ys) if isinstance(xs, list) and isinstance(ys, list) else NOT_A_BOX
    radius = shape.get("r")
    rx, ry = (number(shape.get(key, radius)) for key in ("rx", "ry"))
    return _around(number(shape.get("cx")), number(shape.get("cy")), rx, ry)


def _around(x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
    return x - rx, y - ry, 2 * rx, 2 * ry


def _of_points(xs: list[object], ys: list[object]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = bounds(xs, ys)
    return x1, y1, x2 - x1, y2 - y1


def _label(attributes: object) -> str:
    values = mapping(attributes)
    named = next((key for key in values if key.lower() in _LABELS), "")
    value = values.get(named) if named else next(iter(values.values()), "") if len(values) == 1 else ""
    if isinstance(value, dict):  # a checkbox: {"cat": true}
        return next((str(key) for key, chosen in value.items() if chosen), "")
    return text_of(value)


def _project3(content: Mapping[str, Any]) -> Iterator[tuple[str, Iterator[_Region]]]:
    attributes = mapping(content.get("attribute"))
    views = mapping(content.get("view"))
    of_view: dict[str, list[Mapping[str, Any]]] = {}
    for entry in objects(content["metadata"]):
        of_view.setdefault(text_of(entry.get("vid")), []).append(entry)
    for key, file in mapping(content["file"]).items():
        files = mapping(file)
        view = next((vid for vid, each in views.items() if key in _ids(each)), key)
        yield (
            name_of(files.get("src")) or name_of(files.get("fname")),
            _regions3(of_view.get(view, []), attributes),
        )


def _ids(view: object) -> list[str]:
    ids = mapping(view).get("fid_list")
    return [text_of(each) for each in ids] if isinstance(ids, list) else []


def _regions3(entries: list[Mapping[str, Any]], attributes: Mapping[str, Any]) -> Iterator[_Region]:
    areas, others = 0, 0
    for entry in entries:
        xy = entry.get("xy")
        if not isinstance(xy, list) or not xy:
            continue
        kind, numbers = number(xy[0]), [number(value) for value in xy[1:]]
        if kind == _RECTANGLE:
            box = box_of(numbers)
        elif kind in {_CIRCLE, _ELLIPSE} and len(numbers) in {3, 4}:
            box = _around(numbers[0], numbers[1], numbers[2], numbers[-1])
        elif kind == _POLYGON:
            box = _of_points(list(numbers[::2]), list(numbers[1::2]))
        else:
            others += 1
            continue
        areas += 1
        yield box, json.dumps(xy)[:200], _label3(mapping(entry.get("av")), attributes)
    if others and not areas:
        yield NOT_A_BOX, "points or lines, which have no box", ""


def _label3(values: Mapping[str, Any], attributes: Mapping[str, Any]) -> str:
    for key, value in values.items():
        options = mapping(mapping(attributes.get(key)).get("options"))
        return text_of(options.get(text_of(value), value))
    return ""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _looks_like(path) else []
    if not path.is_dir():
        return []
    for pattern in ("*.json", "*/*.json"):
        found = [file for file in sorted(path.glob(pattern)) if _looks_like(file)]
        if found:
            return found
    return []


def _looks_like(path: Path) -> bool:
    found = outline(path)
    if found.start != "{":
        return False
    return (
        found.has_any("_via_img_metadata", "_via_settings")
        or found.has("project", "file", "view")
        or found.has("filename", "regions", depth=2)
    )
