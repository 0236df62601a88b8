"""CreateML JSON: a list of images with annotations, the centre and size of each box in pixels."""

import json
from pathlib import Path

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import load, mapping, name_of, nameless, objects, outline, text_of
from solobox.data.formats.parsing import box_of, sorted_files, split_in_name
from solobox.data.formats.records import Annotations, Layout, Problem, Record

NAME = "createml"
LOOKS_LIKE = "CreateML JSON, or a folder of folders with _annotations.createml.json"
CONVENTION = "centre x, centre y, width, height in pixels"


def fits(path: Path) -> bool:
    """Whether this is a CreateML file, or a folder with one in it or in a folder of it."""
    return bool(_files(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read CreateML. An image with an empty list is an image without the object. Raises DataError: ``bad-json``."""
    records: list[Record] = []
    problems: list[Problem] = []
    for file in _files(path):
        split = split_in_name(file.parent.name) if path.is_dir() else ""
        finder = ImageFinder(file.parent, file.parent / "images", images=images)
        row = 0
        for index, entry in objects(load(file), file.name, "image", problems):
            where = f"{file.name}, image {index}"
            name = name_of(entry.get("image")) or name_of(entry.get("imagefilename"))
            if not name:
                problems.append(nameless(where, index))
                continue
            located = finder.find(name)
            before = len(problems)
            listed = entry.get("annotations", entry.get("annotation"))
            annotations = [each for _, each in objects(listed, where, "annotation", problems, index, name)]
            if not annotations and len(problems) == before:
                row += 1
                records.append(Record(row, where, name, located, None, split=split))
            for at, annotation in enumerate(annotations, start=1):
                row += 1
                place = mapping(annotation.get("coordinates"))
                box = box_of(place.get(key) for key in ("x", "y", "width", "height"))
                text, label = json.dumps(place), text_of(annotation.get("label"))
                spot = f"{where}, annotation {at}" if len(annotations) > 1 else where
                records.append(Record(row, spot, name, located, box, text, label, split))
        problems += finder.problems(path, records)
    layout = Layout("cxcywh")
    return Annotations(path, NAME, CONVENTION, tuple(records), layout, problems=tuple(problems))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _looks_like(path) else []
    if not path.is_dir():
        return []
    for pattern in ("*.json", "*/*.createml.json"):
        found = [file for file in sorted_files(path, pattern) if _looks_like(file)]
        if found:
            return found
    return []


def _looks_like(path: Path) -> bool:
    found = outline(path)
    if found.start != "[" or not found.has_any("image", "imagefilename"):
        return False
    return found.has_any("annotations", "annotation") and not found.has("data")
