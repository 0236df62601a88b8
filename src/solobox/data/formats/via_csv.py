"""VGG Image Annotator CSV: one region a row, its shape as JSON; polygons, circles and ellipses by their bounds."""

import csv as python_csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import NO_EXTRA, NOT_A_BOX, box_of, image_name, number
from solobox.data.formats.records import Annotations, Layout, Problem, Record
from solobox.errors import DataError

NAME = "via-csv"
LOOKS_LIKE = "a VGG Image Annotator CSV (filename, region_shape_attributes)"
CONVENTION = "corner and size in pixels; polygons, circles and ellipses by their bounds"

_NAMES = {"filename", "region_shape_attributes"}


def fits(path: Path) -> bool:
    """Whether the header has VIA's own names."""
    return path.is_file() and {name.lstrip("#") for name in csv.header_of(path)} >= _NAMES


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all regions; an image without one (``{}``) is without the object. Raises DataError as `csv.read`."""
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    with csv.opened(path) as file:
        reader = python_csv.reader(file, delimiter=csv.sniff(file), skipinitialspace=True)
        header = next((cells for cells in reader if any(map(str.strip, cells))), [])
        names = [cell.strip().lower().lstrip("#") for cell in header]
        if not set(names) >= _NAMES:
            raise DataError(f"{path}: is no {LOOKS_LIKE}", code="missing-column")
        line = reader.line_num
        for cells in reader:
            row, line = line + 1, reader.line_num
            if not any(map(str.strip, cells)):
                continue
            values = dict(zip(names, cells, strict=False))
            where = f"{path.name}, row {row}"
            image = image_name(values["filename"])
            if not image:
                advice = "write the image's name, or delete the row"
                problems.append(
                    Problem("empty-image-name", where, row, "", "the image name is empty", advice)
                )
                continue
            text = values.get("region_shape_attributes", "").strip()
            label = _label(values.get("region_attributes", ""))
            record = Record(row, where, image, finder.find(image), _box(text), text, label, extra=NO_EXTRA)
            records.append(record)
    return Annotations(
        path,
        NAME,
        CONVENTION,
        tuple(records),
        layout=Layout(order="xywh"),
        problems=(*problems, *finder.problems(path, records)),
    )


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _box(text: str) -> tuple[float, float, float, float] | None:
    shape = _object(text) if text else {}
    if shape == {}:
        return None
    if not isinstance(shape, Mapping):
        return NOT_A_BOX
    if "width" in shape:
        return box_of(shape.get(key) for key in ("x", "y", "width", "height"))
    if "cx" in shape:
        cx, cy, rx, ry = (number(shape.get(key, shape.get("r"))) for key in ("cx", "cy", "rx", "ry"))
        return box_of((cx - rx, cy - ry, 2 * rx, 2 * ry))
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not (isinstance(xs, list) and isinstance(ys, list) and xs and ys):
        return NOT_A_BOX
    left, top = min(map(number, xs)), min(map(number, ys))
    return box_of((left, top, max(map(number, xs)) - left, max(map(number, ys)) - top))


def _label(text: str) -> str:
    attributes = _object(text)
    if not isinstance(attributes, Mapping):
        return ""
    return next((value for value in attributes.values() if isinstance(value, str)), "")
