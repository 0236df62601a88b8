"""CVAT XML 1.1, for images and for video; the box of a polygon, an ellipse or a turned box is its bounds."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import bounds, nameless, size_of
from solobox.data.formats.parsing import (
    NOT_A_BOX,
    box_of,
    head,
    image_name,
    number,
    parse_xml,
    says_no_object,
    split_in_name,
)
from solobox.data.formats.records import Annotations, Box, Problem, Record, class_alone, without_box
from solobox.errors import DataError

NAME = "cvat"
LOOKS_LIKE = "CVAT XML 1.1, for images or for video"
CONVENTION = "corners in pixels"

_AREAS = ("box", "polygon", "ellipse")


def fits(path: Path) -> bool:
    """Whether this is CVAT's file, or a folder that holds it as ``annotations.xml``."""
    return _file(path) is not None


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read CVAT. An image without a shape is without the object, but for one with a tag of another class alone.

    Of a track, frames in which the object is ``outside`` have no box; frames are named as CVAT exports them,
    ``frame_000012.png``, or as in a folder of frames with other endings.

    Raises DataError: ``bad-xml``.
    """
    file = _file(path) or path
    root = parse_xml(file)
    if root.tag != "annotations":
        raise DataError(f"{file}: no <annotations> at the top of the XML", code="bad-xml")
    finder = ImageFinder(file.parent, file.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    counts = Counter[str]()
    for index, image in enumerate(root.iterfind("image"), start=1):
        where = f"{file.name}, image {index}"
        name = image_name(image.get("name") or "")
        if not name:
            problems.append(nameless(where, index))
            continue
        base = Record(
            len(records) + 1, where, name, finder.find(name), None,
            split=split_in_name(image.get("subset") or ""), size=size_of(image.get("width"), image.get("height")),
        )  # fmt: skip
        shapes = [(shape, shape.get("label") or "") for shape in image if shape.tag != "tag"]
        tags = [tag.get("label") or "" for tag in image.iterfind("tag")]
        classes = [label for label in tags if not says_no_object(label)]
        if classes and not shapes:
            base = replace(base, box=NOT_A_BOX)
            problems.append(class_alone(base, len(records), classes))
        counts["images are without the object, as a tag says"] += bool(tags) and not classes and not shapes
        _add(base, shapes, records, problems, counts)
    size = size_of(root.findtext(".//original_size/width"), root.findtext(".//original_size/height"))
    for frame, shapes in sorted(_frames(root, file, problems).items()):
        name = f"frame_{frame:06d}.png"
        where = f"{file.name}, frame {frame}"
        base = Record(len(records) + 1, where, name, finder.find(name), None, size=size)
        _add(base, shapes, records, problems, counts)
    convention = CONVENTION + "".join(f"; {count:,} {what}" for what, count in counts.items() if count)
    problems += finder.problems(path, records)
    return Annotations(path, NAME, convention, tuple(records), problems=tuple(problems))


def _add(
    base: Record,
    shapes: list[tuple[ET.Element, str]],
    records: list[Record],
    problems: list[Problem],
    counts: Counter[str],
) -> None:
    """Add the records of an image: of its shapes with a box, each with its label, or else of the image."""
    areas = [(shape, label) for shape, label in shapes if shape.tag in _AREAS]
    others = dict.fromkeys(shape.tag for shape, _ in shapes if shape.tag not in _AREAS)
    counts["turned boxes are read as their bounds"] += sum(_is_turned(shape) for shape, _ in areas)
    if areas:
        counts["points, lines, masks and the like beside a box left out"] += len(shapes) - len(areas)
        records.extend(_records(base, areas))
        return
    if others:
        base = replace(base, box=NOT_A_BOX)
        problems.append(without_box(base, len(records), " and ".join(others)))
    records.append(base)


def _records(base: Record, shapes: list[tuple[ET.Element, str]]) -> Iterator[Record]:
    for at, (shape, label) in enumerate(shapes):
        where = f"{base.where}, shape {at + 1}" if len(shapes) > 1 else base.where
        yield replace(base, row=base.row + at, where=where, box=_box(shape), text=_text(shape), label=label)


def _frames(root: ET.Element, file: Path, problems: list[Problem]) -> dict[int, list[tuple[ET.Element, str]]]:
    """The shapes in each frame of a video that a track is about, with their labels; those outside are none."""
    frames: dict[int, list[tuple[ET.Element, str]]] = {}
    for at, track in enumerate(root.iterfind("track"), start=1):
        for shape in track:
            frame = number(shape.get("frame"))
            if math.isnan(frame):
                if shape.tag != "attribute":
                    message = f"its {shape.tag} has no number of a frame: {shape.get('frame')!r}"
                    advice = "correct the frame, or remove the shape; it is not read"
                    problems.append(
                        Problem("missing-key", f"{file.name}, track {at}", at, "", message, advice)
                    )
                continue
            shown = frames.setdefault(int(frame), [])
            if shape.get("outside") != "1":
                shown.append((shape, track.get("label") or ""))
    return frames


def _is_turned(shape: ET.Element) -> bool:
    return number(shape.get("rotation") or "0") % 360 != 0


def _text(shape: ET.Element) -> str:
    keys = ("xtl", "ytl", "xbr", "ybr", "cx", "cy", "rx", "ry", "rotation", "points")
    return ", ".join(f"{key} {shape.get(key)}" for key in keys if shape.get(key) is not None)[:200]


def _box(shape: ET.Element) -> Box:
    angle = math.radians(number(shape.get("rotation") or "0"))
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in (shape.get("points") or "").split(";")]
        if not all(len(pair) == 2 for pair in pairs):
            return NOT_A_BOX
        return bounds([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    if shape.tag == "ellipse":
        x, y, rx, ry = box_of(shape.get(key) for key in ("cx", "cy", "rx", "ry"))
        half = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
        tall = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
        return x - half, y - tall, x + half, y + tall
    x1, y1, x2, y2 = box_of(shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if not _is_turned(shape):
        return x1, y1, x2, y2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2  # it turns about its centre
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    half = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    tall = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    return x - half, y - tall, x + half, y + tall


def _file(path: Path) -> Path | None:
    if path.is_dir():
        path = path / "annotations.xml"
    if not path.is_file():
        return None
    start = head(path).lstrip()
    cvat = start.startswith("<") and "<annotations>" in start
    return path if cvat and ("<version>" in start or "<image " in start or "<track " in start) else None
