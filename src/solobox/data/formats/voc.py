"""Pascal VOC: a folder of XML files, one for each image; corners count from 1 and are inclusive.

Read: a folder that holds the files, or one above it (``Annotations`` beside ``JPEGImages``, ``annots`` beside
``images``, ``train`` and ``valid``, a folder for each class, ...). Splits come from
``ImageSets/Main/{train,val,test}.txt`` where these exist, or from the names of folders. An XML without an object is
an image without the object.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    NOT_A_BOX,
    box_of,
    folders_in,
    head,
    image_name,
    number,
    parent_of,
    parse_xml,
    read_text,
    some,
    sorted_files,
    split_in_name,
)
from solobox.data.formats.records import SPLITS, Annotations, Layout, Problem, Record
from solobox.data.formats.writing import building, by_image, plain, relative_to, unique_stems, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import probe

NAME = "voc"
LOOKS_LIKE = "a folder of Pascal VOC XML files"
CONVENTION = "Pascal VOC corners from 1, inclusive; x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax"
LAYOUT = Layout("xyxy", first=1)
UNNAMED = "object"
WRITTEN = re.compile(r"Annotations/[^/]+\.xml|ImageSets/Main/(train|val|test)\.txt")
"""The files that `write` makes."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_USUAL = frozenset({"annotations", "annots", "xml", "xmls", "labels"})
_TOP = re.compile(r"<annotation[\s>]")  # CVAT's is <annotations>
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fits(path: Path) -> bool:
    """Whether this is a VOC file, or a folder with one in it or in a folder of it."""
    if path.is_file():
        start = head(path, 4096).lstrip()
        return start.startswith("<") and _TOP.search(start) is not None
    return any(fits(file) for folder in _folders(path) for file in folder.glob("*.xml"))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a folder of VOC files in the order of their names, or a single one.

    An image is searched by its ``<filename>`` in `images`, or else next to the XML, in ``../images``, ``../JPEGImages``
    and ``images``; where it is in none of them, by the name of the XML. Where the XML has the name of another image,
    that is `Record.other_path`. ``<path>`` belongs to another computer and is ignored. ``<original_image>``, which
    `write` adds, is the image's name, and is searched in `images` first. A file that is no XML, and corners that are
    no numbers, give boxes of NaN.

    Raises DataError: ``no-annotations``, ``split-conflict``.
    """
    folders = [path.parent] if path.is_file() else _folders(path)
    if not folders:
        raise DataError(f"{path}: holds no Pascal VOC XML files", code="no-annotations")
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in folders:
        splits = _splits(folder)
        beside = split_in_name(folder.name)
        finder = ImageFinder(*_image_folders(folder), images=images)
        files = [path] if path.is_file() else sorted_files(folder, "*.xml")
        contents = [_Content.of(file) for file in files]
        finder.prefer(content.name for content in contents)
        first = len(records)
        for content in contents:
            records.extend(_records(content, finder, splits.get(content.file.stem, beside)))
        problems += (
            problem if problem.record is None else replace(problem, record=problem.record + first)
            for problem in finder.problems(folder, records[first:])
        )
    return Annotations(path, NAME, CONVENTION, tuple(records), LAYOUT, problems=tuple(problems))


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write ``Annotations/*.xml`` and, where there are splits, ``ImageSets/Main/*.txt`` into a folder.

    ``<filename>`` leads from the XML's folder to the image, which stays where it is; ``<original_image>`` is
    `Record.image`, where that differs. An edge between pixels is written with its fraction, so that it reads back
    exactly. A box without a label is an ``object``. ``<size>`` is that of the upright image, and left out where it
    cannot be read. VOC has no place for groups, sources and extra columns: these are left out.

    Raises DataError: ``already-exists``, ``box-not-finite``, ``bad-image-name`` for a name that XML cannot hold.
    """
    images = by_image(writable(rows, path))
    stems = unique_stems(images)
    name_of = relative_to(path / "Annotations")
    with building(path) as folder:
        (folder / "Annotations").mkdir()
        for image, records in images.items():
            tree = ET.ElementTree(_annotation(image, name_of(image), records))
            ET.indent(tree, "\t")
            tree.write(folder / "Annotations" / f"{stems[image]}.xml", encoding="utf-8")
        of_split: dict[str, list[str]] = {}
        for image, records in images.items():
            of_split.setdefault(records[0].split, []).append(stems[image])
        of_split.pop("", None)
        if of_split:
            (folder / "ImageSets" / "Main").mkdir(parents=True)
        for split, names in of_split.items():
            lines = "".join(f"{name}\n" for name in names)
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(lines, encoding="utf-8", newline="\n")


def _folders(path: Path) -> list[Path]:
    """The folders with the XML files: the folder itself, or else the ones in it."""
    if not path.is_dir():
        return []
    if any(path.glob("*.xml")):
        return [path]
    subfolders = _with_xml(path)
    usual = [folder for folder in subfolders if folder.name.lower() in _USUAL]
    if not subfolders:  # a folder for each class, in that of the annotations
        inner = folders_in(path)
        usual = [each for folder in inner if folder.name.lower() in _USUAL for each in _with_xml(folder)]
        subfolders = [each for folder in inner for each in _with_xml(folder)]
    return usual or subfolders


def _with_xml(path: Path) -> list[Path]:
    return [folder for folder in folders_in(path) if any(folder.glob("*.xml"))]


def _image_folders(folder: Path) -> list[Path]:
    """Where the images of an XML's folder may be, the most likely first."""
    parent = parent_of(folder)
    above = parent_of(parent)
    usual = [
        *(
            root / name
            for root in (parent, above)
            for name in (f"images/{folder.name}", f"JPEGImages/{folder.name}")
        ),
        *(root / name for root in (parent, folder) for name in ("images", "JPEGImages")),
    ]
    if parent.name.lower() in _USUAL:
        usual += [above / "images", above / "JPEGImages", above / folder.name]
    return [folder, *(each for each in usual if each.is_dir())]


def _splits(folder: Path) -> dict[str, str]:
    """The split of each XML's stem, from the lists in ``../ImageSets/Main``."""
    splits: dict[str, str] = {}
    both: list[str] = []
    for split in SPLITS:
        file = parent_of(folder) / "ImageSets" / "Main" / f"{split}.txt"
        if not file.is_file():
            continue
        for line in read_text(file).splitlines():
            # Lists of one class have a flag after the name: "000012 -1".
            stem = re.sub(r"\s+-?[01]$", "", line.strip())
            if stem and splits.setdefault(stem, split) != split:
                both.append(stem)
    if both:
        raise DataError(
            f"{parent_of(folder) / 'ImageSets'}: listed in two splits: {some(both)}", code="split-conflict"
        )
    return splits


@dataclass(frozen=True, slots=True)
class _Content:
    """What one XML says.

    name, original: of the image, and in a copy that in the original, or "". size: as recorded. objects: the label of
    each, its box as text, and its box.
    """

    file: Path
    name: str
    original: str
    size: tuple[float, float] | None
    objects: tuple[tuple[str, str, tuple[float, float, float, float]], ...]

    @classmethod
    def of(cls, file: Path) -> "_Content":
        try:
            root = parse_xml(file)
        except DataError as error:
            text = str(error).removeprefix(f"{file}: ")
            return cls(file, file.stem, "", None, (("", text, NOT_A_BOX),))
        if root.tag != "annotation":
            text = "no <annotation> at the top of the XML"
            return cls(file, file.stem, "", None, (("", text, NOT_A_BOX),))
        name, original = (image_name(root.findtext(tag) or "") for tag in ("filename", "original_image"))
        width, height = (number((root.findtext(f"size/{tag}") or "").strip()) for tag in ("width", "height"))
        return cls(
            file,
            name or file.stem,
            original,
            (width, height) if width > 0 and height > 0 else None,
            tuple(
                ((entry.findtext("name") or "").strip(), *_box(entry)) for entry in root.iterfind("object")
            ),
        )


def _records(content: _Content, finder: ImageFinder, split: str) -> Iterator[Record]:
    file, name = content.file, content.original or content.name
    path = finder.find(content.name, content.original, file.stem)
    other = None
    if not content.original:
        if path.name != name.rpartition("/")[2]:
            name = path.name
        if path.stem != file.stem:
            other = finder.of_stem(file.stem)
    base = Record(1, file.name, name, path, None, split=split, size=content.size, other_path=other)
    if not content.objects:
        yield base
    for row, (label, text, box) in enumerate(content.objects, start=1):
        where = f"{file.name}, object {row}" if len(content.objects) > 1 else file.name
        yield replace(base, row=row, where=where, box=box, text=text, label=label)


def _box(entry: ET.Element) -> tuple[str, tuple[float, float, float, float]]:
    """The box of an object as text and numbers: its ``<bndbox>``, or else the bounds of its ``<polygon>``."""
    bounds, polygon = entry.find("bndbox"), entry.find("polygon")
    if bounds is None and polygon is not None:
        # <x1>, <y1>, <x2>, ... of Roboflow, or <pt><x/><y/></pt> of LabelMe's server
        points = [(point.tag[:1], number((point.text or "").strip())) for point in polygon.iter()]
        x = [value for tag, value in points if tag == "x"]
        y = [value for tag, value in points if tag == "y"]
        if len(x) == len(y) > 1 and all(value == value for value in (*x, *y)):
            return f"the bounds of a polygon of {len(x)} points", (min(x), min(y), max(x), max(y))
    corners = ["" if bounds is None else (bounds.findtext(corner) or "").strip() for corner in _CORNERS]
    text = ", ".join(f"{name} {value or 'missing'}" for name, value in zip(_CORNERS, corners, strict=True))
    return text, box_of(corners)


def _annotation(image: Path, name: str, records: Sequence[Record]) -> ET.Element:
    def add(parent: ET.Element, tag: str, text: str = "") -> ET.Element:
        bad = _NOT_XML.search(text)
        if bad:
            raise DataError(
                f"{image}: {text!r} holds {bad[0]!r}, which XML cannot hold: rename it", code="bad-image-name"
            )
        element = ET.SubElement(parent, tag)
        element.text = text or None
        return element

    root = ET.Element("annotation")
    add(root, "folder", image.parent.name)
    add(root, "filename", name)
    if records[0].image != name:
        add(root, "original_image", records[0].image)
    try:
        width, height = probe(image).size
    except ImageError:
        pass
    else:
        size = add(root, "size")
        add(size, "width", str(width))
        add(size, "height", str(height))
        add(size, "depth", "3")
    add(root, "segmented", "0")
    for record in records:
        if record.box is None:
            continue
        x1, y1, x2, y2 = record.box
        entry = add(root, "object")
        add(entry, "name", record.label or UNNAMED)
        for tag, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            add(entry, tag, text)
        box = add(entry, "bndbox")
        for tag, value in zip(_CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
            add(box, tag, plain(value))
    return root
