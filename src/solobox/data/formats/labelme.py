"""LabelMe: a JSON file for each image, with shapes in pixels; the box of a shape is its bounds."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import bounds, load, name_of, objects, outline, size_of, text_of
from solobox.data.formats.parsing import NOT_A_BOX, sorted_files, split_in_name
from solobox.data.formats.records import Annotations, Problem, Record, without_box
from solobox.errors import DataError

NAME = "labelme"
LOOKS_LIKE = "a folder of LabelMe's JSON files, or one of them"
CONVENTION = "corners in pixels: the bounds of each shape; points and lines are left out"

_AREAS = frozenset({"rectangle", "polygon", "circle", "rotation", "mask", ""})
_USUAL = ("*.json", "*/*.json")


def fits(path: Path) -> bool:
    """Whether this is a LabelMe file, or a folder with one in it or in a folder of it."""
    return any(map(_looks_like, _files(path)))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read LabelMe files in the order of their names. A file that is no JSON is a problem of its row.

    An image without shapes is an image without the object; one with points and lines only is an error.
    ``imageData`` is ignored.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    finders: dict[Path, ImageFinder] = {}
    others = beside = 0
    for file in _files(path):
        folder = file.parent
        if folder not in finders:
            finders[folder] = ImageFinder(folder, folder / "images", folder / ".." / "images", images=images)
        split = split_in_name(folder.name) if path.is_dir() else ""
        try:
            content = load(file)
        except DataError as error:
            problems.append(
                Problem("bad-json", file.name, 1, "", str(error), "save the file again, or remove it")
            )
            continue
        if not isinstance(content, dict) or "shapes" not in content:
            others += 1  # another program's file among them
            continue
        name = name_of(content.get("imagePath")) or file.stem
        located = finders[folder].find(name)
        size = size_of(content.get("imageWidth"), content.get("imageHeight"))
        before = len(problems)
        drawn = [each for _, each in objects(content["shapes"], file.name, "shape", problems, 1, name)]
        shapes = [each for each in drawn if text_of(each.get("shape_type")).lower() in _AREAS]
        kinds = Counter(text_of(each.get("shape_type")) for each in drawn)
        for kind in [kind for kind in kinds if kind.lower() in _AREAS]:
            del kinds[kind]
        if drawn and not shapes:
            record = Record(1, file.name, name, located, NOT_A_BOX, split=split, size=size)
            problems.append(without_box(record, len(records), " and ".join(kinds)))
            records.append(record)
        elif not shapes and len(problems) == before:
            records.append(Record(1, file.name, name, located, None, split=split, size=size))
        beside += kinds.total() if shapes else 0
        for row, shape in enumerate(shapes, start=1):
            where = f"{file.name}, shape {row}" if len(shapes) > 1 else file.name
            text, label = json.dumps(shape.get("points"))[:200], text_of(shape.get("label"))
            records.append(Record(row, where, name, located, _box(shape), text, label, split, size=size))
    for finder in finders.values():
        problems += finder.problems(path, records)
    convention = CONVENTION + (f"; {others:,} other JSON files are left out" if others else "")
    convention += f"; {beside:,} points and lines beside a box" if beside else ""
    return Annotations(path, NAME, convention, tuple(records), problems=tuple(problems))


def _box(shape: Mapping[str, Any]) -> tuple[float, float, float, float]:
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(each, list) and len(each) == 2 for each in points):
        return NOT_A_BOX
    x1, y1, x2, y2 = bounds([point[0] for point in points], [point[1] for point in points])
    if text_of(shape.get("shape_type")).lower() != "circle":
        return x1, y1, x2, y2
    if len(points) != 2 or math.isnan(x1):
        return NOT_A_BOX
    (x, y), (edge_x, edge_y) = points  # the centre, and a point of the edge
    radius = math.hypot(float(edge_x) - float(x), float(edge_y) - float(y))
    return float(x) - radius, float(y) - radius, float(x) + radius, float(y) + radius


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    return next((found for pattern in _USUAL if (found := sorted_files(path, pattern))), [])


def _looks_like(path: Path) -> bool:
    found = outline(path)
    keys = ("imagePath", "imageData", "imageHeight", "flags", "version", "lineColor")
    return found.start == "{" and found.has("shapes") and found.has_any(*keys)
