"""COCO JSON: ``images``, ``annotations`` with ``bbox`` as x, y, width, height in pixels, ``categories``.

Read: one file, or a folder that holds several (``train.json``, ``annotations/instances_val2017.json``,
``valid/_annotations.coco.json``), the split of each file taken from its name or its folder's. An image without
annotations is an image without the object. Crowd annotations (``iscrowd``) are skipped, and so is an image that has no
others; the convention says how many.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from solobox.boxes import convert
from solobox.data.formats.parsing import (
    NO_EXTRA,
    box_of,
    head,
    image_name,
    locate_in_copy,
    read_text,
    split_in_name,
    split_of,
)
from solobox.data.formats.records import Annotations, Record
from solobox.data.formats.writing import by_image, relative_to, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import probe
from solobox.utils.atomic import replacing
from solobox.utils.json_utils import parse_json

NAME = "coco"
LOOKS_LIKE = "COCO JSON with images and annotations, or a folder that holds such files"
CONVENTION = "x, y, width, height in pixels; x2 = x + width, y2 = y + height"
UNNAMED = "object"
_CROWD = -1


def fits(path: Path) -> bool:
    """Whether this is a COCO file, or a folder with one in it or in its ``annotations`` folder."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read COCO; file names are relative to `images`, or else to the folder that has the first one.

    That is the file's folder or one of the usual folders near it. A `bbox` that is not four numbers gives a box of NaN.
    ``split``, ``group``, ``source``, ``extra`` and ``original_image``, which `write` adds, are read too: the last is
    the image's name, relative to `images`. The records come in the order of the images.

    Raises DataError: ``no-annotations``, ``bad-json``, ``bad-coco``, ``missing-key``, ``duplicate-id``,
    ``bad-reference`` for an id that does not exist, ``unknown-split``.
    """
    files = _files(path)
    if not files:
        raise DataError(
            f"{path}: is no COCO JSON with images and annotations, and no folder with one",
            code="no-annotations",
        )
    records: list[Record] = []
    crowds = 0
    for file in files:
        split = ""
        if path.is_dir():
            split = split_in_name(file.stem) or split_in_name(file.parent.name)
        content = _Content.load(file)
        crowds += content.crowds
        records.extend(_records(content, images, split))
    convention = CONVENTION + (f"; {crowds:,} crowd annotations skipped" if crowds else "")
    return Annotations(path, NAME, convention, tuple(records))


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
        found = [file for file in sorted(path.glob(pattern)) if _looks_like(file)]
        # The folder of COCO itself also has captions and keypoints of the same images.
        instances = [file for file in found if file.name.startswith("instances")]
        if found:
            return instances or found
    return []


def _looks_like(path: Path) -> bool:
    start = head(path, 1 << 20)
    return start.lstrip()[:1] == "{" and ('"images"' in start or '"annotations"' in start)


@dataclass(frozen=True, slots=True)
class _Content:
    """The lists of one file, each checked to be a list of objects, and the references between them."""

    file: Path
    images: tuple[Mapping[str, Any], ...]
    annotations: tuple[Mapping[str, Any], ...]
    names: Mapping[str, str]
    of_image: dict[str, list[int]] = field(default_factory=dict)
    crowds: int = 0

    @classmethod
    def load(cls, file: Path) -> "_Content":
        try:
            content = parse_json(read_text(file), allow_nan=True)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{file}, line {error.lineno}, column {error.colno}: broken JSON: {error.msg}",
                code="bad-json",
            ) from None
        except ValueError as error:
            raise DataError(f"{file}: broken JSON: {error}", code="bad-json") from None
        if not isinstance(content, dict):
            raise DataError(f"{file}: is no COCO JSON: its top level is no object", code="bad-coco")
        lists = {key: _list(file, content, key) for key in ("images", "annotations", "categories")}
        if not lists["images"] or "annotations" not in content:
            missing = "annotations" if lists["images"] else "images"
            raise DataError(f"{file}: is no COCO JSON with boxes: it lists no {missing}", code="bad-coco")
        names = {str(entry.get("id")): str(entry.get("name", "")) for entry in lists["categories"]}
        of_image = _image_ids(file, lists["images"])
        crowds = 0
        for index, annotation in enumerate(lists["annotations"]):
            identity = str(annotation.get("image_id"))
            if identity not in of_image:
                raise DataError(
                    f"{file.name}, annotation {index + 1}: there is no image with image_id {identity}",
                    code="bad-reference",
                )
            # A crowd is kept in mind: its image is no image without the object.
            crowd = annotation.get("iscrowd") == 1
            crowds += crowd
            of_image[identity].append(_CROWD if crowd else index)
        return cls(file, lists["images"], lists["annotations"], names, of_image, crowds)


def _list(file: Path, content: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    entries = content.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file}: is no COCO JSON: {key!r} is not a list of objects", code="bad-coco")
    return tuple(entries)


def _image_ids(file: Path, images: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {}
    for index, image in enumerate(images, start=1):
        where = f"{file.name}, image {index}"
        if "id" not in image or not isinstance(image.get("file_name"), str) or not image["file_name"].strip():
            raise DataError(f"{where}: 'id' or 'file_name' is missing", code="missing-key")
        if str(image["id"]) in ids:
            raise DataError(f"{where}: another image has the id {image['id']} too", code="duplicate-id")
        ids[str(image["id"])] = []
    return ids


def _folder(content: _Content, split: str) -> Path:
    """The first usual folder that has the first image, or else the file's folder."""
    here = content.file.parent
    first = image_name(content.images[0]["file_name"])
    # instances_train2017.json is about images in ../train2017 or ../images/train2017.
    name = content.file.stem.removeprefix("instances_")
    candidates = [here, here / "images"]
    for root in (here, here / ".."):
        candidates += [
            root / part for part in (name, f"images/{name}", split, f"images/{split}", "images", "")
        ]
    return next((each for each in candidates if (each / first).is_file()), here)


def _records(content: _Content, images: Path | None, split: str) -> Iterator[Record]:
    path_of = locate_in_copy(_folder(content, split), images)
    for index, image in enumerate(content.images, start=1):
        name = image_name(image["file_name"])
        original = image_name(str(image.get("original_image") or ""))
        where = f"{content.file.name}, image {index}"
        base = Record(
            row=index,
            where=where,
            image=original or name,
            path=path_of(name, original),
            box=None,
            split=split_of(str(image.get("split") or ""), where) or split,
            group=str(image.get("group") or ""),
            source=str(image.get("source") or ""),
            extra=_extra(image),
        )
        found = content.of_image[str(image["id"])]
        if not found:
            yield base
        for at in found:
            if at != _CROWD:
                yield _annotated(base, content, at)


def _annotated(base: Record, content: _Content, at: int) -> Record:
    entry = content.annotations[at]
    where = f"{content.file.name}, annotation {at + 1}"
    return replace(
        base,
        row=at + 1,
        where=where,
        box=_box(entry),
        text=json.dumps(entry.get("bbox")),
        label=_label(content, entry, where),
        source=str(entry.get("source") or "") or base.source,
        extra=_extra(entry) or base.extra,
    )


def _box(entry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    bbox = entry.get("bbox")
    x, y, width, height = box_of(bbox if isinstance(bbox, list) else ())
    x2, y2 = x + width, y + height
    return (x, y, x2 if math.isfinite(x2) else math.nan, y2 if math.isfinite(y2) else math.nan)


def _label(content: _Content, entry: Mapping[str, Any], where: str) -> str:
    if "category_id" not in entry:
        return ""
    identity = str(entry["category_id"])
    if content.names and identity not in content.names:
        raise DataError(f"{where}: there is no category with category_id {identity}", code="bad-reference")
    return content.names.get(identity, identity)


def _extra(entry: Mapping[str, Any]) -> Mapping[str, str]:
    extra = entry.get("extra")
    return {str(key): str(value) for key, value in extra.items()} if isinstance(extra, dict) else NO_EXTRA
