"""Pascal VOC: a folder of XML files, one for each image; corners count from 1 and are inclusive.

Read: a folder that holds the files, or one above it (``Annotations`` beside ``JPEGImages``, ``annots``
beside ``images``, ``train`` and ``valid``, ...). Splits come from ``ImageSets/Main/{train,val,test}.txt``
where these exist, or from the names of folders. An XML without an object is an image without the object.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET  # builds and writes; what is read goes through defusedxml

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import parse

from solobox.data.formats.parsing import (
    NOT_A_BOX,
    Listings,
    box_of,
    head,
    image_name,
    parent_of,
    read_text,
    some,
    split_in_name,
)
from solobox.data.formats.records import SPLITS, Annotations, Record
from solobox.data.formats.writing import building, by_image, plain, relative_to, unique_stems, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import probe

NAME = "voc"
LOOKS_LIKE = "a folder of Pascal VOC XML files"
CONVENTION = "Pascal VOC corners from 1, inclusive; x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax"
UNNAMED = "object"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_USUAL = frozenset({"annotations", "annots", "xml", "xmls", "labels"})
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fits(path: Path) -> bool:
    """Whether this is a VOC file, or a folder with one in it or in a folder of it."""
    if path.is_file():
        start = head(path, 4096).lstrip()
        return start.startswith("<") and "<annotation" in start
    return any(fits(file) for folder in _folders(path) for file in folder.glob("*.xml"))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a folder of VOC files in the order of their names, or a single one.

    An image is searched by its ``<filename>`` in `images`, or else next to the XML, in ``../images``,
    ``../JPEGImages`` and ``images``; where it is in none of them, by the name of the XML. ``<path>`` belongs to another
    computer and is ignored. ``<original_image>``, which `write` adds, is the image's name, and is searched in `images`
    first. A file that is no XML, and corners that are no numbers, give boxes of NaN.

    Raises DataError: ``no-annotations``, ``split-conflict``.
    """
    folders = [path.parent] if path.is_file() else _folders(path)
    if not folders:
        raise DataError(f"{path}: holds no Pascal VOC XML files", code="no-annotations")
    listings = Listings()
    records: list[Record] = []
    for folder in folders:
        splits = _splits(folder)
        beside = split_in_name(folder.name)
        image_folders = _image_folders(folder, images)
        files = [path] if path.is_file() else sorted(folder.glob("*.xml"))
        for file in files:
            records.extend(_records(file, image_folders, listings, splits.get(file.stem, beside)))
    return Annotations(path, NAME, CONVENTION, tuple(records))


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
    subfolders = [
        folder for folder in sorted(path.iterdir()) if folder.is_dir() and any(folder.glob("*.xml"))
    ]
    usual = [folder for folder in subfolders if folder.name.lower() in _USUAL]
    return usual or subfolders


def _image_folders(folder: Path, images: Path | None) -> list[Path]:
    """Where the images of an XML's folder may be, the most likely first."""
    if images is not None:
        return [images]
    parent = parent_of(folder)
    usual = (parent / "images", parent / "JPEGImages", folder / "images")
    return [*(each for each in usual if each.is_dir()), folder]


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


def _records(file: Path, image_folders: Sequence[Path], listings: Listings, split: str) -> Iterator[Record]:
    name, original, objects = _content(file)
    path = _find(original, file, image_folders, listings) if original else None
    if path is None or not listings.has(path):
        path = _find(name, file, image_folders, listings)
    if original:
        name = original
    elif path.name != name.rpartition("/")[2]:
        name = path.name
    if not objects:
        yield Record(1, file.name, name, path, None, split=split)
    for row, (label, text, box) in enumerate(objects, start=1):
        where = f"{file.name}, object {row}" if len(objects) > 1 else file.name
        yield Record(row, where, name, path, box, text, label, split)


def _content(file: Path) -> tuple[str, str, list[tuple[str, str, tuple[float, float, float, float]]]]:
    """The image's name, that in the original or "", and, for each object, its label, its box as text and its box."""
    try:
        root = parse(file).getroot()
    except (ET.ParseError, DefusedXmlException, OSError, ValueError) as error:
        return file.stem, "", [("", f"not readable as XML: {error}", NOT_A_BOX)]
    if root is None or root.tag != "annotation":
        return file.stem, "", [("", "no <annotation> at the top of the XML", NOT_A_BOX)]
    objects = []
    for entry in root.iterfind("object"):
        corners = [(entry.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
        x1, y1, x2, y2 = box_of(corners)
        text = ", ".join(
            f"{name} {value or 'missing'}" for name, value in zip(_CORNERS, corners, strict=True)
        )
        objects.append(((entry.findtext("name") or "").strip(), text, (x1 - 1, y1 - 1, x2, y2)))
    name, original = (image_name(root.findtext(tag) or "") for tag in ("filename", "original_image"))
    return name or file.stem, original, objects


def _find(name: str, file: Path, image_folders: Sequence[Path], listings: Listings) -> Path:
    """The path of an XML's image; where there is no such file, where it should be."""
    last = name.rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    for folder in (*image_folders, file.parent):
        if listings.has(folder / name):
            return folder / name
    for folder in image_folders:
        if listings.has(folder / last):
            return folder / last
    for name_without_suffix in (file.stem, stem):
        for folder in image_folders:
            found = listings.image_named(folder, name_without_suffix)
            if found is not None:
                return found
    return image_folders[0] / name


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
