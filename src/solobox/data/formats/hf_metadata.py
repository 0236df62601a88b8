"""Hugging Face's image folder: ``metadata.jsonl`` or ``metadata.csv``, boxes x, y, width, height.

``objects`` is an object of lists or a list of objects; in a CSV it is text, JSON or as Python writes it. A line of
``metadata.jsonl`` may have ``bbox``, of one box or of several, beside ``file_name`` instead.
"""

import ast
import csv as python_csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from solobox.boxes import convert
from solobox.data.formats import csv
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import (
    mapping,
    name_of,
    nameless,
    objects,
    outline,
    parse,
    size_of,
    text_of,
)
from solobox.data.formats.parsing import box_of, head, read_text, says_no_object, sorted_files, split_in_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError
from solobox.utils.atomic import replacing

NAME = "hf"
LOOKS_LIKE = (
    "Hugging Face's metadata.jsonl or metadata.csv with file_name and objects, or the folder that holds it"
)
CONVENTION = "x, y, width, height in pixels; x2 = x + width, y2 = y + height"

_LABELS = ("categories", "category", "labels", "label")
_BOXES = ("bbox", "bboxes", "boxes")


def fits(path: Path) -> bool:
    """Whether this is such a file, or a folder with one in it or in a folder of it."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read the metadata; splits come from the keys ``split``, or in a folder from the names of folders.

    An image with an empty list of boxes is an image without the object, and so is one whose cell of a CSV is empty. A
    line that is no JSON, has no ``objects`` or fewer boxes than labels is a problem of that line.

    Raises DataError: ``no-annotations`` where no image has ``objects`` or ``bbox``.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    seen = with_objects = empty_cells = 0
    for file in _files(path):
        folder_split = split_in_name(file.parent.name) if path.is_dir() else ""
        finder = ImageFinder(file.parent, images=images)
        for row, entry in _entries(file, problems):
            where = f"{file.name}, row {row}"
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
            if "objects" not in entry and any(key in entry for key in _BOXES):
                entry = {**entry, "objects": _beside_the_name(entry)}
            seen += 1
            with_objects += "objects" in entry
            empty_cells += entry.get("objects") == ""
            records.extend(_records(base, entry, problems))
        problems += finder.problems(path, records)
    if seen and not with_objects:
        raise DataError(
            f"{path}: no image has the key objects or bbox, so there are no boxes: is it a set of captions or classes?",
            code="no-annotations",
        )
    convention = CONVENTION
    if empty_cells:
        convention += f"; an empty cell means no object ({empty_cells:,} rows)"
    return Annotations(path, NAME, convention, tuple(records), Layout("xywh"), problems=tuple(problems))


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


def _entries(file: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line's number and its entry; what is none is a problem."""
    if _is_table(file):
        with csv.opened(file) as text:
            reader = python_csv.reader(text, delimiter=csv.sniff(text), skipinitialspace=True)
            names: list[str] = []
            line = 0
            for cells in reader:
                row, line = line + 1, reader.line_num
                if names and any(map(str.strip, cells)):
                    entry: dict[str, Any] = dict(zip(names, cells, strict=False))
                    yield row, entry | {"objects": _of_text(entry.get("objects", ""))}
                elif "objects" in (found := [cell.strip().lower() for cell in cells]):
                    names = found
        return
    for row, line_text in enumerate(read_text(file).split("\n"), start=1):
        if not line_text.strip():
            continue
        where = f"{file.name}, row {row}"
        try:
            content = parse(line_text, where)
        except DataError as error:
            problems.append(Problem("bad-json", where, row, "", str(error), "mend the line, or remove it"))
            continue
        if isinstance(content, dict):
            yield row, content
        else:
            message, advice = f"is no object in braces: {line_text[:40]}", "mend the line, or remove it"
            problems.append(Problem("bad-json", where, row, "", message, advice))


def _of_text(cell: str) -> Any:
    """What a cell holds as JSON, or as Python writes it; the text itself where it is neither, or empty."""
    text = cell.strip()
    try:
        return parse(text, "") if text else ""
    except DataError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _records(base: Record, entry: Mapping[str, Any], problems: list[Problem]) -> list[Record]:
    listed = entry.get("objects")
    if listed == "":
        return [base]
    if isinstance(listed, list):  # an object for each box
        before = len(problems)
        each = [found for _, found in objects(listed, base.where, "object", problems, base.row, base.image)]
        boxes: Any = [_first(found, _BOXES) for found in each]
        names: Any = [_first(found, _LABELS) for found in each]
        if not boxes and len(problems) > before:
            return []
    else:
        found = mapping(listed)
        boxes, names = _first(found, _BOXES), _first(found, _LABELS)
        if listed == {}:
            boxes = []
    names = names if isinstance(names, list) else []
    if not isinstance(boxes, list) or len(names) > len(boxes):
        if isinstance(boxes, list):
            message = f"there are {len(names)} labels, and {len(boxes)} boxes"
        else:
            message = f"objects has no list of boxes: {json.dumps(listed, default=str)[:60]}"
        advice = "write objects with one box for each label, an empty list of both for no object, or remove the row"
        problems.append(Problem("missing-key", base.where, base.row, base.image, message, advice))
        boxes = boxes if isinstance(boxes, list) else []
        if not boxes:
            return []
    if not boxes:
        return [base]
    records = []
    for at, (box, label) in enumerate(zip_longest(boxes, names[: len(boxes)]), start=1):
        where = f"{base.where}, object {at}" if len(boxes) > 1 else base.where
        numbers = box_of(box if isinstance(box, list | tuple) else ())
        text = json.dumps(box, default=str)[:200]
        records.append(replace(base, where=where, box=numbers, text=text, label=text_of(label)))
    return records


def _beside_the_name(entry: Mapping[str, Any]) -> Any:
    """The ``objects`` of a line that has its boxes, or its one box, and their labels beside ``file_name``."""
    boxes, labels = _first(entry, _BOXES), _first(entry, _LABELS)
    boxes = [] if boxes is None else boxes
    if isinstance(boxes, list) and boxes and not any(isinstance(box, list) for box in boxes):
        boxes = [boxes]
    if not isinstance(labels, list):
        word = text_of(labels)
        labels = [labels] if word and (boxes or not says_no_object(word)) else []
    return {"bbox": boxes, "labels": labels}


def _first(found: Mapping[str, Any], keys: Sequence[str]) -> Any:
    value = next((found[key] for key in keys if key in found), None)
    return list(value) if isinstance(value, tuple) else value


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _looks_like(path) else []
    if not path.is_dir():
        return []
    for folder in ("", "*/", "data/*/"):
        for name in ("metadata.jsonl", "metadata.csv"):
            found = [file for file in sorted_files(path, folder + name) if _looks_like(file)]
            if found:
                return found
    return []


def _is_table(path: Path) -> bool:
    return head(path, 4096).lstrip()[:1] not in {"{", "["} and {"file_name", "objects"} <= set(
        csv.header_of(path)
    )


def _looks_like(path: Path) -> bool:
    if _is_table(path):
        return True
    found = outline(path)
    return found.start == "{" and found.has("file_name")
