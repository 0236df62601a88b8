"""COCO JSON: ``images``, ``annotations`` with ``bbox`` as x, y, width, height in pixels, ``categories``.

Read: one file, or a folder that holds several (``train.json``, ``annotations/instances_val2017.json``,
``valid/_annotations.coco.json``), the split of each file taken from its name or its folder's. An image without
annotations is an image without the object, but not in a file with annotations that lead to no image, of which one may
be its own. Crowd annotations (``iscrowd``) are skipped, and so is an image that has no others; the convention says how
many. An annotation with an empty ``bbox`` says that there is no object, unless it has a ``segmentation``, polygons or a
run-length mask, whose bounds are then its box, or ``keypoints``, of which none can be made.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from solobox.boxes import convert
from solobox.data.formats.coco_content import CROWD, Content, text_of_id
from solobox.data.formats.coco_segmentation import is_segmented, segmentation_bounds
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    NO_EXTRA,
    NOT_A_BOX,
    box_of,
    head,
    image_name,
    number,
    some,
    sorted_files,
    split_in_name,
    split_of,
)
from solobox.data.formats.records import Annotations, Layout, Problem, Record, without_box
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import probe
from solobox.utils.atomic import replacing

NAME = "coco"
LOOKS_LIKE = "COCO JSON with images and annotations, or a folder that holds such files"
CONVENTION = "x, y, width, height in pixels; x2 = x + width, y2 = y + height"
LAYOUT = Layout("xywh")
UNNAMED = "object"


def fits(path: Path) -> bool:
    """Whether this is a COCO file, or a folder with one in it or in its ``annotations`` folder."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read COCO; file names are relative to `images`, or else to the file's folder or one of the usual ones near it.

    A `bbox` that is not four numbers gives a box of NaN. Ids that occur twice or do not exist are problems.
    ``split``, ``group``, ``source``, ``extra`` and ``original_image``, which `write` adds, are read too: the last is
    the image's name, relative to `images`. The records come in the order of the images.

    Raises DataError: ``no-annotations``, ``bad-json``, ``bad-coco``, ``unknown-split``.
    """
    files = _files(path)
    if not files:
        raise DataError(
            f"{path}: is no COCO JSON with images and annotations, and no folder with one",
            code="no-annotations",
        )
    records: list[Record] = []
    problems: list[Problem] = []
    unlabelled: list[str] = []
    counts = Counter[str]()
    for file in files:
        split = ""
        if path.is_dir():
            split = split_in_name(file.stem) or split_in_name(file.parent.name)
        content = Content.load(file)
        finder = _finder(content, images, split)
        first = len(records)
        records.extend(_records(content, finder, split, counts))
        counts["crowd annotations skipped"] += content.crowds
        problems += content.problems
        unlabelled += [str(content.images[index]["file_name"]) for index in sorted(content.in_doubt)]
        for index in range(first, len(records)):
            if problem := content.at_fault.get(records[index].where):
                problems.append(replace(problem, record=index))
            elif problem := _without_box(content, records[index], index):
                problems.append(problem)
        problems += _unknown_categories(content)
        problems += (
            problem if problem.record is None else replace(problem, record=problem.record + first)
            for problem in finder.problems(file, records[first:])
        )
    convention = CONVENTION + "".join(f"; {count:,} {what}" for what, count in counts.items() if count)
    return Annotations(
        path, NAME, convention, tuple(records), LAYOUT, problems=tuple(problems), unlabelled=tuple(unlabelled)
    )


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write one COCO JSON.

    In addition to COCO's keys an image has ``split`` and ``group``, and an annotation (or an image without
    one) ``source`` and ``extra``, each where not empty; and an image has ``original_image``, `Record.image`, where that
    is not ``file_name``. A box without a label has the
    category ``object``. ``width`` and ``height`` are those of the upright image, and left out where it
    cannot be read. Numbers read back except for the last digits.

    Raises DataError: ``box-not-finite``, and where the file cannot be written.
    """
    writable(rows, path)
    name_of = relative_to(path.parent)
    labels = sorted({record.label or UNNAMED for record in rows if record.box is not None})
    category = {label: index for index, label in enumerate(labels, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path_, records in by_image(rows).items():
        first = records[0]
        image: dict[str, Any] = {"id": len(images) + 1, "file_name": name_of(path_), **_size(path_)}
        image |= {key: value for key, value in (("split", first.split), ("group", first.group)) if value}
        if first.image != image["file_name"]:
            image["original_image"] = first.image
        images.append(image)
        for record in records:
            if record.box is None:
                image |= _metadata(record)
                continue
            x, y, width, height = (float(value) for value in convert(record.box, "xyxy", "xywh"))
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": category[record.label or UNNAMED],
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": 0,
            }
            annotations.append(annotation | _metadata(record))
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": label} for label, index in category.items()],
    }
    with replacing(path) as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        file.write("\n")


def _size(image: Path) -> dict[str, int]:
    try:
        width, height = probe(image).size
    except ImageError:
        return {}
    return {"width": width, "height": height}


def _metadata(record: Record) -> dict[str, Any]:
    metadata = {"source": record.source, "extra": dict(record.extra)}
    return {key: value for key, value in metadata.items() if value}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _looks_like(path) else []
    if not path.is_dir():
        return []
    for pattern in ("*.json", "annotations/*.json", "*/_annotations.coco.json"):
        found = [file for file in sorted_files(path, pattern) if _looks_like(file)]
        # The folder of COCO itself also has captions and keypoints of the same images.
        instances = [file for file in found if file.name.startswith("instances")]
        if found:
            return instances or found
    return []


def _looks_like(path: Path) -> bool:
    start = head(path, 1 << 20)
    return start.lstrip()[:1] == "{" and ('"images"' in start or '"annotations"' in start)


def _finder(content: Content, images: Path | None, split: str) -> ImageFinder:
    """Searches in the file's folder and the usual ones near it."""
    here = content.file.parent
    # instances_train2017.json is about images in ../train2017 or ../images/train2017.
    name = content.file.stem.removeprefix("instances_")
    folders = [here, here / "images"]
    for root in (here, here / ".."):
        folders += [
            root / part for part in (name, f"images/{name}", split, f"images/{split}", "images", "") if part
        ]
    folders.append(here / "..")
    finder = ImageFinder(*folders, images=images)
    finder.prefer(image_name(content.images[index]["file_name"]) for index in content.of_image)
    return finder


def _records(content: Content, finder: ImageFinder, split: str, counts: Counter[str]) -> Iterator[Record]:
    for index, of_image in content.of_image.items():
        image = content.images[index]
        name = image_name(image["file_name"])
        original = image_name(str(image.get("original_image") or ""))
        where = f"{content.file.name}, image {index + 1}"
        base = Record(
            row=index + 1,
            where=where,
            image=original or name,
            path=finder.find(name, original),
            box=None,
            split=split_of(str(image.get("split") or ""), where) or split,
            group=str(image.get("group") or ""),
            source=str(image.get("source") or ""),
            extra=_extra(image),
            size=_recorded_size(image),
        )
        if not of_image and index not in content.in_doubt:
            yield base
        for at in of_image:
            if at != CROWD:
                yield _annotated(base, content, at, counts)


def _recorded_size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    width, height = number(image.get("width")), number(image.get("height"))
    return (width, height) if width > 0 and height > 0 else None


def _annotated(base: Record, content: Content, at: int, counts: Counter[str]) -> Record:
    entry = content.annotations[at]
    identity = text_of_id(entry.get("category_id"))
    bbox = entry.get("bbox")
    box: tuple[float, float, float, float] | None
    # A box of nothing, or of zeros, beside an outline or key points is of an object, whose box was not made.
    empty = _is_empty(bbox)
    if empty and is_segmented(entry.get("segmentation")):
        box = segmentation_bounds(entry["segmentation"])
        counts["boxes are the bounds of a segmentation"] += box is not NOT_A_BOX
    elif empty and _has_keypoints(entry):
        box = NOT_A_BOX
    elif empty and not bbox and "bbox" in entry:
        box = None
    else:
        box = box_of(bbox) if isinstance(bbox, list) else NOT_A_BOX
    return replace(
        base,
        row=at + 1,
        where=f"{content.file.name}, annotation {at + 1}",
        box=box,
        text=json.dumps(bbox),
        label=content.names.get(identity, identity) if entry.get("category_id") is not None else "",
        source=str(entry.get("source") or "") or base.source,
        extra=_extra(entry) or base.extra,
    )


def _is_empty(bbox: object) -> bool:
    return bbox is None or (isinstance(bbox, list) and not any(bbox))


def _has_keypoints(entry: Mapping[str, Any]) -> bool:
    keypoints = entry.get("keypoints")
    return isinstance(keypoints, list) and any(keypoints)


def _without_box(content: Content, record: Record, index: int) -> Problem | None:
    """The fault of a record that has NaN for a box because its annotation has key points alone."""
    if record.box is not NOT_A_BOX:
        return None
    entry = content.annotations[record.row - 1]
    keypoints_alone = _is_empty(entry.get("bbox")) and _has_keypoints(entry)
    return without_box(record, index, "key points") if keypoints_alone else None


def _unknown_categories(content: Content) -> list[Problem]:
    unknown = Counter(
        text_of_id(entry["category_id"])
        for entry in content.annotations
        if entry.get("category_id") is not None
    )
    unknown = Counter({key: count for key, count in unknown.items() if key not in content.names})
    if not unknown or not content.names:
        return []
    return [
        Problem(
            "unknown-class",
            content.file.name,
            0,
            "",
            f"there is no category with the category_id {some(sorted(unknown))} "
            f"({sum(unknown.values()):,} annotations)",
            "add it to 'categories', or correct the ids; the boxes are read with the id as their label",
        )
    ]


def _extra(entry: Mapping[str, Any]) -> Mapping[str, str]:
    extra = entry.get("extra")
    return {str(key): str(value) for key, value in extra.items()} if isinstance(extra, dict) else NO_EXTRA
