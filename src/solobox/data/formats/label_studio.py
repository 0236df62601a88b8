"""Label Studio: JSON and JSON-MIN, rectangles in percent of the image.

A list of tasks. A task without a result is an image without the object; one that nobody annotated is no row.
Cancelled annotations and predictions are left out. A turned rectangle is read as the bounds of its corners.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import (
    load,
    mapping,
    name_of,
    nameless,
    objects,
    outline,
    size_of,
    text_of,
)
from solobox.data.formats.parsing import NOT_A_BOX, box_of, image_name, number
from solobox.data.formats.records import Annotations, Layout, Problem, Record
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import probe
from solobox.utils.atomic import replacing

NAME = "label-studio"
LOOKS_LIKE = "Label Studio's JSON or JSON-MIN"
CONVENTION = "x, y, width, height in percent of the image"

_LABELS = ("rectanglelabels", "labels", "polygonlabels", "ellipselabels", "brushlabels", "choices")
_NO_IMAGES = frozenset({"annotator", "created_at", "updated_at", "comment"})


_WHOLE_IMAGE = frozenset(
    {"", "choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "labels"}
)
"""Types of results that are about the whole image, or about nothing that is drawn."""


def fits(path: Path) -> bool:
    """Whether the file is a list of tasks, or of the rows of JSON-MIN."""
    found = outline(path)
    if found.start != "[":
        return False
    if found.has("data") and found.has_any("annotations", "completions", "predictions"):
        return True
    return found.has("original_width", depth=2) or found.has("annotation_id", "lead_time")


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read an export. Images are searched by their names, and by those without the prefix of an upload.

    Raises DataError: ``bad-json``, ``no-annotations``.
    """
    tasks = load(path)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: is no list of Label Studio's tasks", code="no-annotations")
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    left_out = dict.fromkeys(("cancelled", "unannotated", "turned", "superseded", "without"), 0)
    row = 0
    for index, task in enumerate(objects(tasks), start=1):
        where = f"{path.name}, task {index}"
        results = _results(task, left_out)
        if results is None:
            left_out["unannotated"] += 1
            continue
        name = _image(task)
        if not name:
            problems.append(nameless(where, index))
            continue
        located = finder.find(name)
        size = next((found for found in map(_size, results) if found), None)
        entries = list(_boxes(results, left_out))
        if not entries:
            row += 1
            # A class of the whole image is no object in it; what was painted or marked is one, without a box.
            marked = [
                kind for kind in (text_of(each.get("type")) for each in results) if kind not in _WHOLE_IMAGE
            ]
            if marked:
                text = f"{marked[0]}, which has no box"
                records.append(Record(row, where, name, located, NOT_A_BOX, text, size=size))
            else:
                left_out["without"] += 1
                records.append(Record(row, where, name, located, None, size=size))
        for at, (box, text, label) in enumerate(entries, start=1):
            row += 1
            place = f"{where}, result {at}" if len(entries) > 1 else where
            records.append(Record(row, place, name, located, box, text, label, size=size))
    notes = {
        "turned": "turned rectangles are read as their bounds",
        "cancelled": "cancelled annotations left out",
        "unannotated": "tasks that nobody annotated left out",
        "superseded": "annotations left out, of tasks that several people annotated: the last counts",
        "without": "images annotated without a box are without the object",
    }
    convention = CONVENTION + "".join(
        f"; {left_out[key]:,} {note}" for key, note in notes.items() if left_out[key]
    )
    problems += finder.problems(path, records)
    return Annotations(
        path, NAME, convention, tuple(records), Layout("xywh", "percent"), problems=tuple(problems)
    )


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write tasks with the boxes as predictions, which people correct in Label Studio.

    ``data.image`` is the image's path relative to the file's folder; ``model_version`` the source of the image's first
    box, or ``solobox``. `read` leaves predictions out. There is no place for splits, groups and extra columns. A box
    without a label is an ``object``.

    Raises DataError: ``box-not-finite``, ``name-not-utf8``, ``unreadable-image`` for an image whose size is unknown.
    """
    name_of_image = relative_to(path.parent)
    tasks = []
    for index, (image, records) in enumerate(by_image(writable(rows, path)).items(), start=1):
        boxes = [record for record in records if record.box is not None]
        results = []
        if boxes:
            try:
                width, height = probe(image).size
            except ImageError as error:
                raise DataError(
                    f"{path}: percent need the size of {image}, which cannot be read: {error}",
                    code="unreadable-image",
                ) from None
            results = [_result(record, at, width, height) for at, record in enumerate(boxes, start=1)]
        version = next((record.source for record in boxes if record.source), "solobox")
        tasks.append({
            "id": index,
            "data": {"image": name_of_image(image)},
            "predictions": [{"model_version": version, "result": results}],
        })  # fmt: skip
    with replacing(path) as file:
        json.dump(tasks, file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        file.write("\n")


def _result(record: Record, index: int, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in record.box or NOT_A_BOX)
    value = {
        "x": x1 / width * 100,
        "y": y1 / height * 100,
        "width": (x2 - x1) / width * 100,
        "height": (y2 - y1) / height * 100,
        "rotation": 0,
        "rectanglelabels": [record.label or "object"],
    }
    return {
        "id": f"box{index}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": value,
    }


def _results(task: Mapping[str, Any], left_out: dict[str, int]) -> list[Mapping[str, Any]] | None:
    """The results of a task; None where nobody annotated it."""
    if "data" not in task:  # JSON-MIN: the results are in a key named as the configuration says
        return [
            entry
            for key, value in task.items()
            if key != "id"
            for entry in objects(value if isinstance(value, list) else None)
        ]
    annotations = objects(task.get("annotations", task.get("completions")))
    valid = [each for each in annotations if not each.get("was_cancelled")]
    left_out["cancelled"] += len(annotations) - len(valid)
    if not valid:
        return None
    # Several people annotated the same image: the last word counts, not the union of all boxes.
    left_out["superseded"] += len(valid) - 1
    truth = [each for each in valid if each.get("ground_truth")]
    return objects((truth or valid)[-1].get("result"))


def _image(task: Mapping[str, Any]) -> str:
    data = mapping(task.get("data")) if "data" in task else task
    names = [data.get("image"), *(value for key, value in data.items() if key not in _NO_IMAGES)]
    texts = [name_of(value) for value in names if isinstance(value, str) and value.strip()]
    upload = name_of(task.get("file_upload"))
    return _local(texts[0]) if texts else upload


def _local(name: str) -> str:
    """The name of an image in a task's address."""
    if "://" not in name and "?" not in name:
        return name.removeprefix("/data/upload/") if name.startswith("/data/") else name
    address = urlsplit(name)
    inner = parse_qs(address.query).get("d")
    return image_name(inner[0] if inner else unquote(address.path).lstrip("/"))


def _size(result: Mapping[str, Any]) -> tuple[float, float] | None:
    return size_of(result.get("original_width"), result.get("original_height"))


def _boxes(
    results: list[Mapping[str, Any]], left_out: dict[str, int]
) -> Iterator[tuple[tuple[float, float, float, float], str, str]]:
    # A rectangle without RectangleLabels has its label in another result of the same region.
    labels: dict[str, str] = {}
    for result in results:
        value = mapping(result.get("value", result))
        for key in _LABELS:
            found = value.get(key)
            if isinstance(found, list) and found:
                labels.setdefault(text_of(result.get("id")), text_of(found[0]))
    for result in results:
        value = mapping(result.get("value", result))
        kind = text_of(result.get("type"))
        if "x" not in value and "points" not in value and kind not in {"rectangle", "rectanglelabels"}:
            continue
        label = next(
            (text_of(value[key][0]) for key in _LABELS if isinstance(value.get(key), list) and value[key]), ""
        )
        if kind == "rectangle" and not label:
            label = labels.get(text_of(result.get("id")), "")
        elif kind in {"labels", "choices"} and "rectangle" in {text_of(each.get("type")) for each in results}:
            continue  # the same region a second time
        shape = {key: value.get(key) for key in ("x", "y", "width", "height", "rotation") if key in value}
        box, turned = _box(value, _size(result))
        left_out["turned"] += turned
        yield box, json.dumps(shape, default=str), label


def _box(
    value: Mapping[str, Any], size: tuple[float, float] | None
) -> tuple[tuple[float, float, float, float], bool]:
    points = value.get("points")
    if isinstance(points, list) and points:
        pairs = [point for point in points if isinstance(point, list) and len(point) == 2]
        xs, ys = [number(point[0]) for point in pairs], [number(point[1]) for point in pairs]
        if len(pairs) != len(points) or any(map(math.isnan, (*xs, *ys))):
            return NOT_A_BOX, False
        return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), False
    if "radiusX" in value:
        x, y, rx, ry = box_of(value.get(key) for key in ("x", "y", "radiusX", "radiusY"))
        return (x - rx, y - ry, 2 * rx, 2 * ry), False
    x, y, width, height = box_of(value.get(key) for key in ("x", "y", "width", "height"))
    angle = number(value.get("rotation", 0)) % 360
    if not angle:
        return (x, y, width, height), False
    if math.isnan(angle) or size is None:
        return NOT_A_BOX, False
    # The rectangle turns about its upper left corner, in pixels: percent of two sides are not of one length.
    scale = size[0] / size[1]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    corners = [(a, b) for a in (0.0, width) for b in (0.0, height)]
    xs = [x + a * cos - b / scale * sin for a, b in corners]
    ys = [y + a * scale * sin + b * cos for a, b in corners]
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), True
