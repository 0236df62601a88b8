"""Hugging Face's image folder: ``metadata.jsonl`` with ``file_name`` and ``objects``, boxes x, y, width, height."""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from solobox.boxes import convert
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import mapping, name_of, nameless, outline, parse, size_of, text_of
from solobox.data.formats.parsing import box_of, read_text, split_in_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError
from solobox.utils.atomic import replacing

NAME = "hf"
LOOKS_LIKE = "Hugging Face's metadata.jsonl with file_name and objects.bbox, or the folder that holds it"
CONVENTION = "x, y, width, height in pixels; x2 = x + width, y2 = y + height"

_LABELS = ("categories", "category", "labels", "label")
_BOXES = ("bbox", "bboxes", "boxes")


def fits(path: Path) -> bool:
    """Whether this is such a file, or a folder with one in it or in a folder of it."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read ``metadata.jsonl``; splits come from the keys ``split``, or in a folder from the names of folders.

    An image without boxes is an image without the object. A line that is no JSON is a problem of that line. Raises
    DataError: ``no-annotations`` where no image has ``objects``.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    with_objects = 0
    for file in _files(path):
        folder_split = split_in_name(file.parent.name) if path.is_dir() else ""
        finder = ImageFinder(file.parent, images=images)
        for row, line in enumerate(read_text(file).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{file.name}, row {row}"
            try:
                entry = mapping(parse(line, where))
            except DataError as error:
                problems.append(
                    Problem("bad-json", where, row, "", str(error), "mend the line, or remove it")
                )
                continue
            name = name_of(entry.get("file_name"))
            if not name:
                problems.append(nameless(where, row))
                continue
            original = name_of(entry.get("original_image"))
            word = text_of(entry.get("split"))
            base = Record(
                row,
                where,
                original or name,
                finder.find(name, original),
                None,
                split=split_in_name(word) if word else folder_split,
                group=text_of(entry.get("group")),
                size=size_of(entry.get("width"), entry.get("height")),
            )
            if word and not base.split:
                problems.append(
                    Problem(
                        "unknown-split", where, row, name, f"the split {word!r} is unknown",
                        "write train, val or test", len(records),
                    )
                )  # fmt: skip
            with_objects += "objects" in entry
            records.extend(_records(base, mapping(entry.get("objects"))))
        problems += finder.problems(path, records)
    if records and not with_objects:
        raise DataError(
            f"{path}: no image has the key objects, so there are no boxes: is it a set of captions or classes?",
            code="no-annotations",
        )
    return Annotations(path, NAME, CONVENTION, tuple(records), Layout("xywh"), problems=tuple(problems))


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write ``metadata.jsonl``, with ``split``, ``group`` and ``original_image`` where they are not empty.

    Names are relative to the file's folder, where the images are expected by ``load_dataset``. There is no place for
    sources and extra columns: these are left out. Numbers read back exactly where the sum of corner and size does.

    Raises DataError: ``box-not-finite``, ``name-not-utf8``.
    """
    name_of_image = relative_to(path.parent)
    images = by_image(writable(rows, path))
    with replacing(path) as file:
        for image, records in images.items():
            first, name = records[0], name_of_image(image)
            boxes = [record for record in records if record.box is not None]
            entry: dict[str, object] = {
                "file_name": name,
                "objects": {
                    "bbox": [
                        [float(value) for value in convert(record.box, "xyxy", "xywh")]
                        for record in boxes
                        if record.box is not None
                    ],
                    "categories": [record.label for record in boxes],
                },
            }
            optional = {
                "split": first.split,
                "group": first.group,
                "original_image": first.image if first.image != name else "",
            }
            entry |= {key: value for key, value in optional.items() if value}
            file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")


def _records(base: Record, found: Mapping[str, Any]) -> list[Record]:
    boxes = next((found[key] for key in _BOXES if key in found), None)
    labels = next((found[key] for key in _LABELS if key in found), None)
    if not isinstance(boxes, list) or not boxes:
        return [base]
    names = labels if isinstance(labels, list) else []
    records = []
    for at, (box, label) in enumerate(zip_longest(boxes, names[: len(boxes)]), start=1):
        where = f"{base.where}, object {at}" if len(boxes) > 1 else base.where
        numbers = box_of(box if isinstance(box, list) else ())
        records.append(
            Record(
                base.row,
                where,
                base.image,
                base.path,
                numbers,
                json.dumps(box)[:200],
                text_of(label),
                base.split,
                base.group,
                size=base.size,
            )
        )
    return records


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _looks_like(path) else []
    if not path.is_dir():
        return []
    for pattern in ("metadata.jsonl", "*/metadata.jsonl", "data/*/metadata.jsonl"):
        found = [file for file in sorted(path.glob(pattern)) if _looks_like(file)]
        if found:
            return found
    return []


def _looks_like(path: Path) -> bool:
    found = outline(path)
    return found.start == "{" and found.has("file_name")
