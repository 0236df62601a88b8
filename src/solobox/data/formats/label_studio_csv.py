"""Label Studio's CSV export: one task a row, its rectangles as JSON in a cell, in percent of the image."""

import csv as python_csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import NO_EXTRA, NOT_A_BOX, box_of, image_name, number
from solobox.data.formats.records import Annotations, Layout, Problem, Record
from solobox.errors import DataError

NAME = "label-studio-csv"
LOOKS_LIKE = "Label Studio's CSV export (image, and rectangles as JSON in a cell)"
CONVENTION = "corner and size in percent of the image; a rotated rectangle is an error"

_OWN = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}


def fits(path: Path) -> bool:
    """Whether the header has Label Studio's own names, and an image."""
    names = set(csv.header_of(path)) if path.is_file() else set()
    return "image" in names and len(names & _OWN) >= 3 and not names & {"x1", "xmin"}


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all rectangles; a task without one is without the object. Raises DataError as `csv.read`."""
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    with csv.opened(path) as file:
        reader = python_csv.reader(file, delimiter=csv.sniff(file), skipinitialspace=True)
        names = [cell.strip().lower() for cell in next(reader, [])]
        if "image" not in names:
            raise DataError(f"{path}: the header has no image", code="missing-column")
        line = reader.line_num
        for cells in reader:
            row, line = line + 1, reader.line_num
            if not any(map(str.strip, cells)):
                continue
            values = dict(zip(names, cells, strict=False))
            where, image = f"{path.name}, row {row}", image_name(values.get("image", ""))
            if not image:
                advice = "write the image's name, or delete the row"
                problems.append(
                    Problem("empty-image-name", where, row, "", "the image name is empty", advice)
                )
                continue
            place, shapes = finder.find(image), list(_shapes(values.values()))
            for shape in shapes:
                numbers = [shape.get(key) for key in ("x", "y", "width", "height")]
                text, labels = ", ".join(map(str, numbers)), shape.get("rectanglelabels")
                label = str(labels[0]) if isinstance(labels, list) and labels else ""
                size = number(shape.get("original_width")), number(shape.get("original_height"))
                known = size if min(size) > 0 else None
                # The bounds of a rotated rectangle are not read: an error of the row, never a wrong box.
                box = box_of(numbers) if number(shape.get("rotation", 0)) == 0 else NOT_A_BOX
                records.append(Record(row, where, image, place, box, text, label, extra=NO_EXTRA, size=known))
            if not shapes:
                records.append(Record(row, where, image, place, None))
    layout = Layout(order="xywh", unit="percent")
    return Annotations(
        path,
        NAME,
        CONVENTION,
        tuple(records),
        layout=layout,
        problems=(*problems, *finder.problems(path, records)),
    )


def _shapes(cells: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for cell in cells:
        if '"width"' in cell and cell.lstrip().startswith("["):
            try:
                found = json.loads(cell)
            except (ValueError, RecursionError):
                found = [{"width": cell}]  # not dropped: a box of no numbers, which the checks report
            yield from (shape for shape in found if isinstance(shape, Mapping) and "width" in shape)
