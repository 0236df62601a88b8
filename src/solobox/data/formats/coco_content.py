"""The lists of a COCO file, and the references between them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solobox.data.formats.parsing import read_text
from solobox.data.formats.records import Problem
from solobox.errors import DataError
from solobox.utils.json_utils import parse_json

CROWD = -1
"""Stands in `Content.of_image` for an annotation of a crowd."""


@dataclass(frozen=True, slots=True)
class Content:
    """The lists of one file, each checked to be a list of objects, and the references between them.

    of_image: the indices of the annotations of each image, by the image's index. problems: of images and annotations
    that give no record. at_fault: the problem of annotations whose image is in doubt, by `Record.where`. in_doubt: the
    indices of images without annotations, of which one may be that of an annotation that names none.
    """

    file: Path
    images: tuple[Mapping[str, Any], ...]
    annotations: tuple[Mapping[str, Any], ...]
    names: Mapping[str, str]
    of_image: Mapping[int, list[int]]
    crowds: int
    problems: tuple[Problem, ...]
    at_fault: Mapping[str, Problem]
    in_doubt: frozenset[int]

    @classmethod
    def load(cls, file: Path) -> "Content":
        """Read a file. Raises DataError: ``bad-json``, ``bad-coco``."""
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
        names = {text_of_id(entry.get("id")): str(entry.get("name", "")) for entry in lists["categories"]}
        indices, doubtful, problems = _image_ids(file, lists["images"])
        of_image: dict[int, list[int]] = {index: [] for index in indices.values()}
        at_fault: dict[str, Problem] = {}
        lost = False
        crowds = 0
        for index, annotation in enumerate(lists["annotations"]):
            identity = text_of_id(annotation.get("image_id"))
            where = f"{file.name}, annotation {index + 1}"
            if identity not in indices:
                lost = True
                problems.append(
                    Problem(
                        "bad-reference",
                        where,
                        index + 1,
                        "",
                        f"there is no image with the image_id {identity}",
                        "correct the id, or remove the annotation; it is not read",
                    )
                )
                continue
            if identity in doubtful:
                at_fault[where] = Problem(
                    "duplicate-id",
                    where,
                    index + 1,
                    str(lists["images"][indices[identity]]["file_name"]),
                    f"two images have its image_id {identity}",
                    "give each image an id of its own, and correct those of the annotations",
                )
            # A crowd is kept in mind: its image is no image without the object.
            crowd = annotation.get("iscrowd") in (1, "1")
            crowds += crowd
            of_image[indices[identity]].append(CROWD if crowd else index)
        unsure = {index for identity, index in indices.items() if lost or identity in doubtful}
        return cls(
            file,
            lists["images"],
            lists["annotations"],
            names,
            of_image,
            crowds,
            tuple(problems),
            at_fault,
            frozenset(index for index in unsure if not of_image[index]),
        )


def text_of_id(value: object) -> str:
    """An id as text: 7, 7.0 and "7" are one."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _list(file: Path, content: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    entries = content.get(key) or []
    if not isinstance(entries, list):
        raise DataError(f"{file}: is no COCO JSON: {key!r} is not a list of objects", code="bad-coco")
    for at, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise DataError(
                f"{file}: entry {at:,} of {key!r} is no object in braces: correct it, or remove it",
                code="bad-coco",
            )
    return tuple(entries)


def _image_ids(
    file: Path, images: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, int], set[str], list[Problem]]:
    """The index of each id's image, the ids of several images, and the images that cannot be used."""
    indices: dict[str, int] = {}
    doubtful: set[str] = set()
    problems = []
    for index, image in enumerate(images):
        where = f"{file.name}, image {index + 1}"
        name = image.get("file_name")
        if image.get("id") is None or not isinstance(name, str) or not name.strip():
            problems.append(
                Problem(
                    "missing-key",
                    where,
                    index + 1,
                    name if isinstance(name, str) else "",
                    "'id' or 'file_name' is missing",
                    "add it, or remove the image; it is not read",
                )
            )
            continue
        identity = text_of_id(image["id"])
        if identity not in indices:
            indices[identity] = index
        elif images[indices[identity]]["file_name"] != name:
            doubtful.add(identity)
            problems.append(
                Problem(
                    "duplicate-id",
                    where,
                    index + 1,
                    name,
                    f"another image has the id {identity} too",
                    "give each image an id of its own, and correct those of the annotations",
                )
            )
    return indices, doubtful, problems
