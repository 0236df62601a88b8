"""CVAT XML 1.1, for images and for video; the box of a polygon, an ellipse or a turned box is its bounds."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET  # types only; what is read goes through defusedxml

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.json_reading import bounds, nameless, size_of
from solobox.data.formats.parsing import NOT_A_BOX, box_of, head, image_name, number, split_in_name
from solobox.data.formats.records import Annotations, Problem, Record
from solobox.errors import DataError

NAME = "cvat"
LOOKS_LIKE = "CVAT XML 1.1, for images or for video"
CONVENTION = "corners in pixels; points and lines are left out"

_AREAS = ("box", "polygon", "ellipse")
_Box = tuple[float, float, float, float]


def fits(path: Path) -> bool:
    """Whether this is CVAT's file, or a folder that holds it as ``annotations.xml``."""
    return _file(path) is not None


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read CVAT. An image without a shape is an image without the object.

    Of a track, frames in which the object is ``outside`` have no box; frames are named as CVAT exports them,
    ``frame_000012.png``, or as in a folder of frames with other endings.

    Raises DataError: ``bad-xml``.
    """
    file = _file(path) or path
    try:
        root = parse(file).getroot()
    except (ET.ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{file}: not readable as XML: {error}", code="bad-xml") from None
    if root is None or root.tag != "annotations":
        raise DataError(f"{file}: no <annotations> at the top of the XML", code="bad-xml")
    finder = ImageFinder(file.parent, file.parent / "images", images=images)
    records: list[Record] = []
    problems: list[Problem] = []
    turned = 0
    for index, image in enumerate(root.iterfind("image"), start=1):
        where = f"{file.name}, image {index}"
        name = image_name(image.get("name") or "")
        if not name:
            problems.append(nameless(where, index))
            continue
        shapes = [entry for entry in image if entry.tag in _AREAS]
        turned += sum(_is_turned(entry) for entry in shapes)
        base = Record(
            len(records) + 1, where, name, finder.find(name), None,
            split=split_in_name(image.get("subset") or ""), size=size_of(image.get("width"), image.get("height")),
        )  # fmt: skip
        others = [entry.tag for entry in image if entry.tag not in {*_AREAS, "tag"}]
        if others and not shapes:
            records.append(replace(base, box=NOT_A_BOX, text=f"a {others[0]}, which has no box"))
        else:
            records.extend(_records(base, shapes))
    records.extend(_of_video(root, file, finder, len(records)))
    convention = CONVENTION + (f"; {turned:,} turned boxes are read as their bounds" if turned else "")
    problems += finder.problems(path, records)
    return Annotations(path, NAME, convention, tuple(records), problems=tuple(problems))


def _records(base: Record, shapes: list[ET.Element], labels: list[str] | None = None) -> Iterator[Record]:
    if not shapes:
        yield base
    for at, shape in enumerate(shapes):
        where = f"{base.where}, shape {at + 1}" if len(shapes) > 1 else base.where
        label = labels[at] if labels else shape.get("label") or ""
        yield Record(
            base.row + at,
            where,
            base.image,
            base.path,
            _box(shape),
            _text(shape),
            label,
            base.split,
            size=base.size,
        )


def _of_video(root: ET.Element, file: Path, finder: ImageFinder, row: int) -> Iterator[Record]:
    frames: dict[int, list[tuple[ET.Element, str]]] = {}
    for track in root.iterfind("track"):
        for shape in track:
            frame = number(shape.get("frame"))
            if shape.tag not in _AREAS or math.isnan(frame):
                continue
            shown = frames.setdefault(int(frame), [])
            if shape.get("outside") != "1":
                shown.append((shape, track.get("label") or ""))
    size = size_of(
        root.findtext(".//original_size/width"), root.findtext(".//original_size/height")
    )  # of the video
    for frame in sorted(frames):
        shown = frames[frame]
        name = f"frame_{frame:06d}.png"
        base = Record(row + 1, f"{file.name}, frame {frame}", name, finder.find(name), None, size=size)
        yield from _records(base, [shape for shape, _ in shown], [label for _, label in shown])
        row += max(1, len(shown))


def _is_turned(shape: ET.Element) -> bool:
    return number(shape.get("rotation") or "0") % 360 != 0


def _text(shape: ET.Element) -> str:
    keys = ("xtl", "ytl", "xbr", "ybr", "cx", "cy", "rx", "ry", "rotation", "points")
    return ", ".join(f"{key} {shape.get(key)}" for key in keys if shape.get(key) is not None)[:200]


def _box(shape: ET.Element) -> _Box:
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
