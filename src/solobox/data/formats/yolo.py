"""YOLO: a ``data.yaml`` that names folders or lists of images, and a text file of boxes for each image.

An image's boxes are in the file of its name under ``labels`` in place of the last ``images`` of its path,
a line each: class, then centre and size as fractions of the upright image, or the corners of a polygon,
of which the bounds are taken. No such file, or an empty one, lists an image without the object.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from solobox.boxes import convert, scale
from solobox.data.formats.parsing import (
    NOT_A_BOX,
    Listings,
    head,
    number,
    read_text,
    split_of,
)
from solobox.data.formats.records import SPLITS, Annotations, Record
from solobox.data.formats.writing import building, by_image, relative_to, unique_stems, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import is_image_name, probe

NAME = "yolo"
LOOKS_LIKE = "a YOLO data.yaml, or a folder that holds one"
CONVENTION = "YOLO centre and size as fractions of the upright image, multiplied by its width and height"
UNNAMED = "object"

_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_MAX_CHARACTERS = 4 << 20
"""Of a ``data.yaml``, whose parser is slow; long lists of images have files of their own."""

_MAX_DIGITS = 100

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")


def fits(path: Path) -> bool:
    """Whether this is a YAML file that names images of splits, or a folder with a ``data.yaml``."""
    file = _file(path)
    if file is None or file.suffix.lower() not in {".yaml", ".yml"}:
        return False
    keys = {line.partition(":")[0].rstrip().strip("'\"") for line in head(file).splitlines()}
    return file.name in _FILES or not keys.isdisjoint(_SPLIT_KEYS)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a ``data.yaml``, or the one in a folder.

    ``train``, ``val`` and ``test`` are relative to its ``path`` (or to `images`); where that does not exist
    here, to the file's folder. A line that is not numbers, and any line of an image that cannot be read, gives a box of
    NaN.

    Raises DataError: ``no-annotations``, ``bad-yaml``, ``missing-key``, ``not-found``, ``unknown-class``.
    """
    file = _file(path)
    if file is None:
        raise DataError(f"{path}: holds none of {', '.join(_FILES)}", code="no-annotations")
    setup = _Setup.load(file, images)
    records: list[Record] = []
    for split, paths in setup.listed:
        for image in paths:
            records.extend(_records(image, split, setup))
    return Annotations(path, NAME, CONVENTION, tuple(records))


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write ``data.yaml``, ``images/<split>/*`` and ``labels/<split>/*.txt`` into the folder `path`.

    YOLO finds a label by its image's path, so images must lie in this layout, and yours must not move: ``images`` gets
    symbolic links to them, or copies where the system allows no links. Rows without a split go to ``train``, and a box
    without a label has the class ``object``. YOLO has no place for groups, sources and extra columns: these are left
    out.

    Raises DataError: ``already-exists``, ``box-not-finite``, ``bad-image-name``, ``split-conflict``, and
    ``unreadable-image`` for an image with a box whose size cannot be read.
    """
    by_path = by_image(writable(rows, path))
    labels = sorted({record.label or UNNAMED for record in rows if record.box is not None}) or [UNNAMED]
    stems = unique_stems(by_path)
    used = {"train", *(record.split for record in rows if record.split)}
    with building(path) as folder:
        name_of = {split: relative_to(path / "images" / split) for split in used}
        for split in used:
            (folder / "images" / split).mkdir(parents=True)
            (folder / "labels" / split).mkdir(parents=True)
        for image, records in by_path.items():
            splits = {record.split or "train" for record in records}
            if not is_image_name(image):
                raise DataError(
                    f"{image}: YOLO needs image files with an image suffix: rename it", code="bad-image-name"
                )
            if len(splits) > 1:
                raise DataError(
                    f"{image}: is in two splits ({' and '.join(sorted(splits))})", code="split-conflict"
                )
            split = splits.pop()
            link = folder / "images" / split / f"{stems[image]}{image.suffix}"
            _link(image, link, name_of[split](image))
            lines = "".join(_lines(image, records, labels))
            (folder / "labels" / split / f"{stems[image]}.txt").write_text(
                lines, encoding="utf-8", newline="\n"
            )
        content: dict[str, Any] = {split: f"images/{split}" for split in SPLITS if split in used}
        content["names"] = dict(enumerate(labels))
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8", newline="\n")


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path
    return next((path / name for name in _FILES if (path / name).is_file()), None)


@dataclass(frozen=True, slots=True)
class _Setup:
    """The content of a data.yaml: the images of each split, and the names of the classes by number."""

    file: Path
    listed: tuple[tuple[str, tuple[Path, ...]], ...]
    names: Mapping[int, str]
    listings: Listings

    @classmethod
    def load(cls, file: Path, images: Path | None) -> "_Setup":
        try:
            content = _parse_yaml(read_text(file))
        except (yaml.YAMLError, ValueError) as error:
            raise DataError(f"{file}: broken YAML: {error}", code="bad-yaml") from None
        if not isinstance(content, dict):
            raise DataError(f"{file}: is no YOLO data file: it has no keys", code="bad-yaml")
        named = [(key, content[key]) for key in _SPLIT_KEYS if content.get(key)]
        if not named:
            raise DataError(
                f"{file}: names no images: it has none of the keys train, val and test", code="missing-key"
            )
        listings = Listings()
        root = images or _root(file, content.get("path"))
        listed = [(split_of(key, str(file)), _images(file, root, key, value)) for key, value in named]
        return cls(file, tuple(listed), _names(file, content.get("names")), listings)


class _Loader(yaml.SafeLoader):
    """Refuses an alias of a list or a mapping: a few of them, one in the other, stand for gigabytes.

    And whole numbers that are too long to be printed, such as those of base 60 (``1:30:00``) easily are.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise ValueError(f"a whole number has more than {_MAX_DIGITS} digits")
        return super().construct_yaml_int(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        if is_alias and not isinstance(node, yaml.ScalarNode):
            raise yaml.composer.ComposerError(
                None, None, "an alias of a list or a mapping: write it out instead", mark
            )
        return node


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _parse_yaml(text: str) -> Any:
    """The values of YAML that may be hostile. Raises YAMLError or ValueError, and nothing else."""
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"it has more than {_MAX_CHARACTERS:,} characters: list the images in a text file")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 (it derives from the safe loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (OverflowError, TypeError, AttributeError, LookupError) as error:
        # Of values such as dates and binary data, by which the library is not careful.
        raise ValueError(f"a value cannot be read ({error})") from None


def _root(file: Path, path: object) -> Path:
    if path is None:
        return file.parent
    root = file.parent / str(path)
    # A `path` that does not exist belongs to another computer, or to another tool's folder of datasets.
    return root if root.is_dir() else file.parent


def _names(file: Path, names: object) -> dict[int, str]:
    if names is None:
        return {}
    if isinstance(names, list):
        return {index: str(name) for index, name in enumerate(names)}
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {int(key): str(name) for key, name in names.items()}
    raise DataError(f"{file}: 'names' is neither a list nor a mapping from numbers to names", code="bad-yaml")


def _images(file: Path, root: Path, key: str, value: object) -> tuple[Path, ...]:
    entries = value if isinstance(value, list) else [value]
    images: list[Path] = []
    for entry in entries:
        existing = _existing(root, str(entry))
        if existing is None:
            raise DataError(
                f"{file}: {key}: {root / str(entry)} does not exist: correct it, or use --images",
                code="not-found",
            )
        if existing.is_dir():
            images.extend(_in_folder(existing))
        elif existing.suffix.lower() == ".txt":
            images.extend(_in_list(existing, root))
        else:
            images.append(existing)
    return tuple(dict.fromkeys(images))


def _existing(root: Path, entry: str) -> Path | None:
    # Some exports write ../train/images for train/images; the tools of YOLO accept it too.
    tries = (entry, entry.removeprefix("../"))
    try:
        return next((root / each for each in tries if (root / each).exists()), None)
    except OSError:  # a name that is too long, say
        return None


def _in_folder(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(filter(is_image_name, names)):
            yield Path(parent, name)


def _in_list(file: Path, root: Path) -> Iterator[Path]:
    listings = Listings()
    for line in read_text(file).splitlines():
        name = line.strip().replace("\\", "/")
        if name:
            beside = file.parent / name
            yield beside if listings.has(beside) or not listings.has(root / name) else root / name


def label_file(image: Path) -> Path:
    """The file with the boxes of an image, which need not exist."""
    parts = image.parts
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")
    return image.with_suffix(".txt")


def _records(image: Path, split: str, setup: _Setup) -> Iterator[Record]:
    name = _name(image, setup.file)
    labels = label_file(image)
    lines = read_text(labels).splitlines() if setup.listings.has(labels) else []
    boxes = [(row, line.split()) for row, line in enumerate(lines, start=1) if line.strip()]
    if not boxes:
        yield Record(1, name, name, image, None, split=split)
        return
    try:
        size = probe(image).size
        problem = ""
    except ImageError as error:
        size, problem = None, f" (the image's size is needed and cannot be read: {error})"
    for row, words in boxes:
        where = f"{labels.name}, line {row}"
        label = _label(words[0], where, setup)
        box = _box(words[1:], size)
        yield Record(row, where, name, image, box, " ".join(words) + problem, label, split)


def _name(image: Path, file: Path) -> str:
    folder = file.parent
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def _label(word: str, where: str, setup: _Setup) -> str:
    value = number(word)
    if not value.is_integer():
        return ""
    if setup.names and int(value) not in setup.names:
        raise DataError(f"{where}: class {int(value)} has no name in {setup.file}", code="unknown-class")
    return setup.names.get(int(value), str(int(value)))


def _box(words: Sequence[str], size: tuple[int, int] | None) -> tuple[float, float, float, float]:
    values = [number(word) for word in words]
    if size is None or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        return NOT_A_BOX
    if len(values) == 4:
        corners = convert(values, "cxcywh", "xyxy")
    else:
        corners = convert(
            [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])], "xyxy", "xyxy"
        )
    x1, y1, x2, y2 = (float(value) for value in scale(corners, *size))
    return x1, y1, x2, y2


def _lines(image: Path, records: Sequence[Record], labels: Sequence[str]) -> Iterator[str]:
    boxes = [(record.label or UNNAMED, record.box) for record in records if record.box is not None]
    if not boxes:
        return
    try:
        width, height = probe(image).size
    except ImageError as error:
        raise DataError(
            f"YOLO needs the size of every image with a box: {error}", code="unreadable-image"
        ) from None
    for label, box in boxes:
        fractions = scale(convert(box, "xyxy", "cxcywh"), 1 / width, 1 / height)
        yield f"{labels.index(label)} {' '.join(repr(float(value)) for value in fractions)}\n"


def _link(image: Path, link: Path, target: str) -> None:
    try:
        link.symlink_to(target)
    except (OSError, NotImplementedError):
        shutil.copyfile(image, link)
