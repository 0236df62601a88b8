"""VGG Image Annotator: JSON of annotations (1 and 2), projects of 2 and 3; the box of a region is its bounds."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from solobox.data.formats.parsing import NOT_A_BOX, box_of, number, sorted_files, split_in_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record, without_box

NAME = "via"
LOOKS_LIKE = "JSON or a project of the VGG Image Annotator, or a folder of folders with via_region_data.json"
CONVENTION = "x, y, width, height in pixels: the bounds of each region; points and lines are left out"

_RECTANGLE, _CIRCLE, _ELLIPSE, _POLYGON = 2, 3, 4, 7  # shapes of VIA 3
_LABELS = ("name", "label", "class", "type", "category", "object")
_AREAS = frozenset({"rect", "circle", "ellipse", "polygon"})
_Box = tuple[float, float, float, float]


@dataclass(slots=True)
class _Image:
    """An image, its regions with a box (x, y, width, height; text; label), and the kinds of those without.

    broken: whether some of what belongs to it could not be read, so that it is not known to be without the object.
    in_doubt: whether a region that leads to no image may be of it.
    """

    name: str
    index: int
    regions: list[tuple[_Box, str, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    broken: bool = False
    in_doubt: bool = False


def fits(path: Path) -> bool:
    """Whether this is a file of VIA, or a folder with one in it or in a folder of it."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read VIA. An image without regions is without the object, unless the file has regions that lead to no image.

    A label is the region's attribute ``name``, ``label``, ``class``, ``type``, ``category`` or ``object``, or the only
    one. Raises DataError: ``bad-json``.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    unlabelled: list[str] = []
    beside = 0
    for file in _files(path):
        split = split_in_name(file.parent.name) if path.is_dir() else ""
        finder = ImageFinder(file.parent, file.parent / "images", images=images)
        row = 0
        for image in _images(mapping(load(file)), file.name, problems):
            where = f"{file.name}, image {image.index}"
            if not image.name:
                problems.append(nameless(where, image.index))
                continue
            name, found = image.name, image.regions
            if image.in_doubt and not found and not image.others:
                unlabelled.append(name)
                continue
            located = finder.find(name)
            if not found and (image.others or not image.broken):
                row += 1
                record = Record(row, where, name, located, NOT_A_BOX if image.others else None, split=split)
                if image.others:
                    problems.append(without_box(record, len(records), " and ".join(image.others)))
                records.append(record)
            beside += image.others.total() if found else 0
            for at, (box, text, label) in enumerate(found, start=1):
                row += 1
                spot = f"{where}, region {at}" if len(found) > 1 else where
                records.append(Record(row, spot, name, located, box, text, label, split))
        problems += finder.problems(path, records)
    convention = CONVENTION + (f"; {beside:,} of them beside a box" if beside else "")
    return Annotations(
        path,
        NAME,
        convention,
        tuple(records),
        Layout("xywh"),
        problems=tuple(problems),
        unlabelled=tuple(unlabelled),
    )


def _images(content: Mapping[str, Any], file: str, problems: list[Problem]) -> Iterator[_Image]:
    if "metadata" in content and "file" in content:
        yield from _project3(content, file, problems)
        return
    for index, entry in objects(content.get("_via_img_metadata", content), file, "image", problems):
        image = _Image(name_of(entry.get("filename")), index)
        before = len(problems)
        # a list, or in VIA 1 an object with the keys 0, 1, ...
        listed = objects(
            entry.get("regions"), f"{file}, image {index}", "region", problems, index, image.name
        )
        image.broken = len(problems) > before
        for _, region in listed:
            shape = mapping(region.get("shape_attributes"))
            box = shape_box(shape)
            if box is None:
                image.others[shape_kind(shape)] += 1
            else:
                image.regions.append((box, json.dumps(shape)[:200], _label(region.get("region_attributes"))))
        yield image


def shape_kind(shape: Mapping[str, Any]) -> str:
    """What VIA 1 or 2 calls a shape: ``rect``, ``point``, ..."""
    if name := text_of(shape.get("name")):
        return name
    keys = {"width": "rect", "all_points_x": "polygon", "rx": "ellipse", "r": "circle"}
    return next((kind for key, kind in keys.items() if key in shape), "a region without a shape")


def shape_box(shape: Mapping[str, Any]) -> _Box | None:
    """x, y, width and height of the bounds of a shape of VIA 1 or 2; None for points, lines and what is no shape.

    NaN where a number of it is none.
    """
    kind = shape_kind(shape)
    if kind not in _AREAS:
        return None
    if kind == "rect":
        return box_of(shape.get(key) for key in ("x", "y", "width", "height"))
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        return _of_points(xs, ys) if isinstance(xs, list) and isinstance(ys, list) else NOT_A_BOX
    radius = shape.get("r")
    rx, ry, angle = (number(shape.get(*pair)) for pair in (("rx", radius), ("ry", radius), ("theta", 0)))
    cos, sin = math.cos(angle), math.sin(angle)  # in radians
    x, y = number(shape.get("cx")), number(shape.get("cy"))
    return _around(x, y, math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos))


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


def _project3(content: Mapping[str, Any], name: str, problems: list[Problem]) -> Iterator[_Image]:
    attributes = mapping(content.get("attribute"))
    views = mapping(content.get("view"))
    files = mapping(content["file"])
    view_of = {key: next((vid for vid, each in views.items() if key in _ids(each)), key) for key in files}
    shared = Counter(view_of.values())
    of_view: dict[str, list[Mapping[str, Any]]] = {}
    lost = False
    for at, entry in objects(content["metadata"], name, "region", problems):
        view = text_of(entry.get("vid"))
        where = f"{name}, region {at}"
        if not shared[view]:
            lost = True
            message = f"there is no image with the vid {view!r}"
            advice = "correct the vid, or remove the region; it is not read"
            problems.append(Problem("bad-reference", where, at, "", message, advice))
        elif shared[view] > 1 and entry.get("xy") != []:
            message = f"its view {view!r} shows {shared[view]} images: of which one is it?"
            advice = "give each image a view of its own, and each region its vid"
            problems.append(Problem("two-images", where, at, "", message, advice))
        else:
            of_view.setdefault(view, []).append(entry)
    for index, (key, file) in enumerate(files.items(), start=1):
        found = mapping(file)
        image = _Image(name_of(found.get("src")) or name_of(found.get("fname")), index)
        image.broken = shared[view_of[key]] > 1
        image.in_doubt = lost and not image.broken
        for entry in of_view.get(view_of[key], []):
            _add_region3(image, entry, attributes)
        yield image


def _ids(view: object) -> list[str]:
    ids = mapping(view).get("fid_list")
    return [text_of(each) for each in ids] if isinstance(ids, list) else []


def _add_region3(image: _Image, entry: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    xy = entry.get("xy")
    if xy == []:  # about the whole image, or a part of a film
        return
    if not isinstance(xy, list):
        image.others["a region without a shape"] += 1
        return
    kind, numbers = number(xy[0]), [number(value) for value in xy[1:]]
    if kind == _RECTANGLE:
        box = box_of(numbers)
    elif kind in {_CIRCLE, _ELLIPSE} and len(numbers) in {3, 4}:
        box = _around(numbers[0], numbers[1], numbers[2], numbers[-1])
    elif kind == _POLYGON:
        box = _of_points(list(numbers[::2]), list(numbers[1::2]))
    else:
        image.others["points or lines"] += 1
        return
    image.regions.append((box, json.dumps(xy)[:200], _label3(mapping(entry.get("av")), attributes)))


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
        found = [file for file in sorted_files(path, pattern) if _looks_like(file)]
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
