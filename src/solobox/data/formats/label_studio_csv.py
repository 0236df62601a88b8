"""Label Studio's CSV export: one annotation a row, its regions as JSON in a cell, in percent of the image."""

import csv as python_csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import objects
from solobox.data.formats.label_studio_regions import choices_of_row, image_classes, recorded_size, regions
from solobox.data.formats.parsing import NO_EXTRA, NOT_A_BOX, image_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record, class_alone, without_box
from solobox.errors import DataError
from solobox.images.reading import is_image_name

NAME = "label-studio-csv"
LOOKS_LIKE = "Label Studio's CSV export (image, and rectangles as JSON in a cell)"
CONVENTION = "corner and size in percent of the image"

_OWN = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}


def fits(path: Path) -> bool:
    """Whether the header has Label Studio's own names, and an image."""
    names = set(csv.header_of(path)) if path.is_file() else set()
    return "image" in names and len(names & _OWN) >= 3 and not names & {"x1", "xmin"}


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all regions, polygons and what is turned by their bounds; a row without one is without the object.

    One whose regions have no box, such as brushes, or that has a class alone, is an error. Raises DataError as
    `csv.read`.
    """
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    counts = Counter[str]()
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
            before = len(problems)
            results = _results(values, where, row, image, problems)
            named = {
                key: name
                for key, cell in values.items()
                if is_image_name(name := image_name(cell)) and key not in _OWN
            }
            if results and len({image, *named.values()}) > 1:
                keys = ", ".join(map(repr, named))
                message = (
                    f"the row names several images ({keys}), and nothing says of which one its regions are"
                )
                advice = "export JSON, which says it, or leave one column of images"
                problems.append(Problem("two-images", where, row, image, message, advice))
                continue
            found, others = regions(results)
            size = next((each for each in map(recorded_size, results) if each), None)
            base = Record(row, where, image, finder.find(image), None, extra=NO_EXTRA, size=size)
            counts["turned shapes are read as their bounds"] += sum(region.turned for region in found)
            if found:
                counts["key points, brushes and the like beside a box left out"] += others.total()
            elif others:
                problems.append(without_box(base, len(records), " and ".join(others)))
                records.append(replace(base, box=NOT_A_BOX))
            elif classes := image_classes(choices_of_row(values)):
                problems.append(class_alone(base, len(records), classes))
                records.append(replace(base, box=NOT_A_BOX))
            elif len(problems) == before:
                counts["rows without a region are images without the object"] += 1
                records.append(base)
            records += [
                replace(base, box=region.box, text=region.text, label=region.label) for region in found
            ]
    convention = CONVENTION + "".join(f"; {count:,} {what}" for what, count in counts.items() if count)
    layout = Layout(order="xywh", unit="percent")
    return Annotations(
        path,
        NAME,
        convention,
        tuple(records),
        layout=layout,
        problems=(*problems, *finder.problems(path, records)),
    )


def _results(
    cells: Mapping[str, str], where: str, row: int, image: str, problems: list[Problem]
) -> list[Mapping[str, Any]]:
    """The results in all cells that hold a list of them; a broken one is a problem, never a row without the object."""
    found: list[Mapping[str, Any]] = []
    for name, cell in cells.items():
        if cell.lstrip()[:1] != "[" or "{" not in cell:
            continue
        try:
            entries = json.loads(cell)
        except (ValueError, RecursionError) as error:
            message = f"the cell {name!r} is broken JSON: {error}"
            advice = "export the file again: spreadsheets cut long cells"
            problems.append(Problem("bad-json", where, row, image, message, advice))
            continue
        if any(isinstance(entry, dict) for entry in entries):
            found += [
                entry for _, entry in objects(entries, f"{where}, {name}", "result", problems, row, image)
            ]
    return found
