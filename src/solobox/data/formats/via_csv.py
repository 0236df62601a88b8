"""VGG Image Annotator CSV: one region a row, its shape as JSON; polygons, circles and ellipses by their bounds."""

import csv as python_csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import NO_EXTRA, NOT_A_BOX, image_name, number
from solobox.data.formats.records import Annotations, Layout, Problem, Record, without_box
from solobox.data.formats.via import shape_box, shape_kind
from solobox.errors import DataError

NAME = "via-csv"
LOOKS_LIKE = "a VGG Image Annotator CSV (filename, region_shape_attributes)"
CONVENTION = "corner and size in pixels; polygons, circles and ellipses by their bounds"

_Box = tuple[float, float, float, float]
_NAMES = {"filename", "region_shape_attributes"}


def fits(path: Path) -> bool:
    """Whether the header has VIA's own names."""
    return path.is_file() and {name.lstrip("#") for name in csv.header_of(path)} >= _NAMES


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all regions; an image without one (``{}``, ``region_count`` 0) is without the object.

    One with points and lines only is an error. Raises DataError as `csv.read`.
    """
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    rows: list[tuple[Record, _Box | None, str]] = []
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
            record = Record(row, where, image, finder.find(image), None, text, label, extra=NO_EXTRA)
            rows.append((record, *_box(text, number(values.get("region_count")))))
    records, left_out = _assembled(rows, problems)
    convention = CONVENTION + "".join(f"; {count:,} {what}" for what, count in left_out.items())
    return Annotations(
        path,
        NAME,
        convention,
        tuple(records),
        layout=Layout(order="xywh"),
        problems=(*problems, *finder.problems(path, records)),
    )


def _assembled(
    rows: list[tuple[Record, _Box | None, str]], problems: list[Problem]
) -> tuple[list[Record], Counter[str]]:
    """The records of all rows: of points and lines only where their image has no other region."""
    with_box = {record.path for record, box, _ in rows if box is not None}
    counts = Counter[str]()
    records: list[Record] = []
    for record, box, kind in rows:
        if box is None and kind:
            if record.path in with_box:
                counts["points and lines beside a box left out"] += 1
                continue
            problems.append(without_box(record, len(records), kind))
            box = NOT_A_BOX
        counts["rows without a region are images without the object"] += box is None
        records.append(replace(record, box=box))
    return records, +counts


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _box(text: str, count: float) -> tuple[_Box | None, str]:
    """The box of a row's shape, and what the row holds in place of one; None and nothing for no region.

    count: of the image's regions, as the row says: where it is not 0, a row without a shape is no image without the
    object.
    """
    shape = _object(text) if text else {}
    if not isinstance(shape, Mapping):
        return NOT_A_BOX, ""
    if not shape and not count > 0:
        return None, ""
    return shape_box(shape), shape_kind(shape)


def _label(text: str) -> str:
    attributes = _object(text)
    if not isinstance(attributes, Mapping):
        return ""
    return next((value for value in attributes.values() if isinstance(value, str)), "")
