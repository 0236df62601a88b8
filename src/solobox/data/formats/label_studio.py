"""Label Studio: JSON and JSON-MIN, regions in percent of the image.

A list of tasks. A task without a result is an image without the object, and so is one whose choice says so ("no
object"); with another choice alone it is an error. A task that nobody annotated is no row.
Cancelled annotations and predictions are left out. A turned rectangle is read as the bounds of its corners. Of a task
with several images, each result is of the one that its ``to_name`` says, or whose size it records, or else an error.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    text_of,
)
from solobox.data.formats.label_studio_regions import choices_of_row, image_classes, recorded_size, regions
from solobox.data.formats.parsing import NOT_A_BOX, image_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record, class_alone, without_box
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import is_image_name, probe
from solobox.utils.atomic import replacing

NAME = "label-studio"
LOOKS_LIKE = "Label Studio's JSON or JSON-MIN"
CONVENTION = "x, y, width, height in percent of the image"

_NO_IMAGES = frozenset({"annotator", "created_at", "updated_at", "comment"})

_Result = Mapping[str, Any]


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
    reader = _TaskReader(path, images)
    for index, task in objects(tasks, path.name, "task", reader.problems):
        reader.add(task, index)
    notes = {
        "turned": "turned rectangles and ellipses are read as their bounds",
        "cancelled": "cancelled annotations left out",
        "unannotated": "tasks that nobody annotated left out",
        "superseded": "annotations left out, of tasks that several people annotated: the last counts",
        "without": "images annotated without a box are without the object",
        "boxless": "key points, brushes and the like beside a box left out",
    }
    counts = reader.counts
    convention = CONVENTION + "".join(
        f"; {counts[key]:,} {note}" for key, note in notes.items() if counts[key]
    )
    problems = (*reader.problems, *reader.finder.problems(path, reader.records))
    return Annotations(
        path, NAME, convention, tuple(reader.records), Layout("xywh", "percent"), problems=problems,
        unlabelled=tuple(reader.unlabelled),
    )  # fmt: skip


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


class _TaskReader:
    """Reads one task after the other into records and problems."""

    def __init__(self, path: Path, images: Path | None) -> None:
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self.unlabelled: list[str] = []
        self.counts = Counter[str]()
        self.finder = ImageFinder(path.parent, path.parent / "images", images=images)
        self._path = path

    def add(self, task: _Result, index: int) -> None:
        """Read a task, the one at `index` from 1."""
        where = f"{self._path.name}, task {index}"
        before = len(self.problems)
        names = _images(task)
        results = self._results(task, where, index, next(iter(names.values()), ""))
        broken = len(self.problems) > before
        if broken and not results:
            return
        if results is None:
            self.counts["unannotated"] += 1
            return
        if not names:
            self.problems.append(nameless(where, index))
            return
        if not results and len(set(names.values())) > 1:
            self.unlabelled += list(dict.fromkeys(names.values()))[1:]
        of_image: dict[str, list[_Result]] = {} if results else {next(iter(names.values())): []}
        for result in results:
            name = self._image(result, names)
            if not name:
                keys = ", ".join(f"{key!r}" for key in names)
                message = (
                    f"the task has several images ({keys}), and its results are of {result.get('to_name')!r}: "
                    "which image is that?"
                )
                advice = "name each <Image> as its key, or leave only one image in the task's data"
                self.problems.append(
                    Problem("two-images", where, index, next(iter(names.values())), message, advice)
                )
                return
            of_image.setdefault(name, []).append(result)
        if results:
            self.unlabelled += [name for name in dict.fromkeys(names.values()) if name not in of_image]
        for name, entries in of_image.items():
            self._add_image(name, entries, where, broken=broken)

    def _add_image(self, name: str, results: Sequence[_Result], where: str, *, broken: bool) -> None:
        located = self.finder.find(name)
        found, others = regions(results)
        size = next((each for each in map(recorded_size, results) if each), None)
        base = Record(len(self.records) + 1, where, name, located, None, size=size)
        if not found and others:
            record = replace(base, box=NOT_A_BOX)
            self.problems.append(without_box(record, len(self.records), " and ".join(others)))
            self.records.append(record)
        elif not found and (classes := image_classes(results)):
            record = replace(base, box=NOT_A_BOX)
            self.problems.append(class_alone(record, len(self.records), classes))
            self.records.append(record)
        elif not found and not broken:
            self.counts["without"] += 1
            self.records.append(base)
        else:
            self.counts["boxless"] += others.total()
        for at, region in enumerate(found, start=1):
            self.counts["turned"] += region.turned
            self.records.append(
                replace(
                    base, row=len(self.records) + 1, where=f"{where}, result {at}" if len(found) > 1 else where,
                    box=region.box, text=region.text, label=region.label,
                )
            )  # fmt: skip

    def _image(self, result: _Result, names: Mapping[str, str]) -> str:
        """The image that a result is of, or the empty text where that is in doubt."""
        if len(set(names.values())) == 1:
            return next(iter(names.values()))
        by_key = {key.lower(): name for key, name in names.items()}
        if named := by_key.get(text_of(result.get("to_name")).lower()):
            return named
        size = recorded_size(result)
        of_size = {name for name in names.values() if size and self._has_size(name, size)}
        return of_size.pop() if len(of_size) == 1 else ""

    def _has_size(self, name: str, size: tuple[float, float]) -> bool:
        try:
            return tuple(probe(self.finder.find(name)).size) == size
        except ImageError:
            return False

    def _results(self, task: _Result, where: str, row: int, image: str) -> list[_Result] | None:
        """The results of a task; None where nobody annotated it."""
        problems = self.problems
        if "data" not in task:  # JSON-MIN: the results are in a key named as the configuration says
            found: list[_Result] = [
                entry
                for key, value in task.items()
                if key != "id" and isinstance(value, list) and any(isinstance(each, dict) for each in value)
                for _, entry in objects(value, f"{where}, {key}", "result", problems, row, image)
            ]
            return found or choices_of_row(task)
        listed = task.get("annotations", task.get("completions"))
        if listed is None:
            return None
        annotations = [each for _, each in objects(listed, where, "annotation", problems, row, image)]
        valid = [each for each in annotations if not each.get("was_cancelled")]
        self.counts["cancelled"] += len(annotations) - len(valid)
        if not valid:
            return None
        # Several people annotated the same image: the last word counts, not the union of all boxes.
        self.counts["superseded"] += len(valid) - 1
        truth = [each for each in valid if each.get("ground_truth")]
        results = (truth or valid)[-1].get("result")
        return [each for _, each in objects(results, where, "result", problems, row, image)]


def _images(task: _Result) -> dict[str, str]:
    """The images of a task by their keys in its data, ``image`` first; without any, its first text or its upload."""
    data = mapping(task.get("data")) if "data" in task else task
    texts = {
        key: _local(name)
        for key in sorted(data, key=lambda key: key != "image")
        if key not in _NO_IMAGES and (name := name_of(data[key]))
    }
    found = {key: name for key, name in texts.items() if key == "image" or is_image_name(name)}
    if not found and (upload := name_of(task.get("file_upload"))):
        return {"file_upload": upload}
    return found or dict(list(texts.items())[:1])


def _local(name: str) -> str:
    """The name of an image in a task's address."""
    if "://" not in name and "?" not in name:
        return name.removeprefix("/data/upload/") if name.startswith("/data/") else name
    address = urlsplit(name)
    inner = parse_qs(address.query).get("d")
    return image_name(inner[0] if inner else unquote(address.path).lstrip("/"))
