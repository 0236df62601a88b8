"""YOLO: images, and for each a text file of boxes; mostly with a ``data.yaml`` that names folders or lists of images.

An image's boxes are in the file of its name under ``labels`` in place of the last ``images`` of its path, a line
each: class, then centre and size as fractions of the upright image (and perhaps a confidence), or the corners of a
polygon, of which the bounds are taken; with ``kpt_shape`` in ``data.yaml``, a box and its keypoints. An empty file
lists an image without the object; an image without a file is not labelled.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from solobox.boxes import convert, scale
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    NOT_A_BOX,
    Listings,
    head,
    number,
    parent_of,
    read_text,
    some,
    split_in_name,
    split_of,
)
from solobox.data.formats.records import SPLITS, Annotations, Layout, Problem, Record
from solobox.data.formats.writing import building, by_image, relative_to, unique_stems, writable
from solobox.errors import DataError, ImageError
from solobox.images.reading import is_image_name, probe

NAME = "yolo"
LOOKS_LIKE = "a YOLO data.yaml, or a folder that holds one, or images with YOLO's text files"
CONVENTION = "YOLO centre and size as fractions of the upright image, multiplied by its width and height"
LAYOUT = Layout("cxcywh", "fractions")
UNNAMED = "object"

_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_DARKNET = "obj.data"
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names", "predefined_classes.txt")
_NOT_LABELS = frozenset({"classes.txt", "predefined_classes.txt", "requirements.txt"})
_MAX_CHARACTERS = 4 << 20
"""Of a ``data.yaml``, whose parser is slow; long lists of images have files of their own."""

_MAX_DIGITS = 100
_MAX_DEPTH = 3
"""Of the folders in which ``images`` with ``labels`` beside it is searched, where no file names them."""

_SPLIT_KEYS = ("train", "val", "valid", "validation", "test")
_POSE_TOLERANCE = 0.005
_POSE_SHARE = 0.95


def fits(path: Path) -> bool:
    """Whether this is a file that names images of splits, or a folder with one or with YOLO's text files."""
    file = _file(path)
    if file is None:
        return path.is_dir() and any(map(_is_label_file, _some_label_files(path)))
    if file.name == _DARKNET:
        return True
    if file.suffix.lower() not in {".yaml", ".yml"}:
        return False
    keys = {line.partition(":")[0].rstrip().strip("'\"") for line in head(file).splitlines()}
    return file.name in _FILES or not keys.isdisjoint(_SPLIT_KEYS)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a ``data.yaml`` or an ``obj.data``, or the one in a folder, or a folder of images and text files.

    ``train``, ``val`` and ``test`` are relative to its ``path`` (or to `images`); where that does not exist
    here, to the file's folder, and a path of another computer is found by its last parts. A line that is not numbers
    gives a box of NaN. Without ``kpt_shape``, lines that look like a box with keypoints are an error, unless
    ``task: segment`` or ``task: obb`` says that they are polygons.

    Raises DataError: ``no-annotations``, ``bad-yaml``, ``missing-key``, ``not-found``.
    """
    file = _file(path)
    setup = _Setup.of_folder(path, images) if file is None else _Setup.load(file, images)
    records: list[Record] = []
    lines = _Lines(setup.keypoints, judge=setup.task not in {"segment", "obb"})
    unlabelled: list[str] = []
    problems = list(setup.problems)
    listings, unnamed = Listings(), Counter[int]()
    for split, paths in setup.listed:
        without = []
        for image in paths:
            labels = setup.labels.get(image) or label_file(image)
            if listings.has(labels):
                records.extend(_records(image, labels, split, setup, lines, unnamed))
            else:
                without.append(image)
        unlabelled += (_name(image, setup.folder) for image in without)
        if without and len(without) == len(paths):
            problems.append(_labels_missing(path, split, without))
    for finder in setup.finders:
        problems += finder.problems(path, records)
    if unnamed:
        classes = some([str(number) for number in sorted(unnamed)])
        problems.append(
            Problem(
                "unknown-class",
                path.name,
                0,
                "",
                f"the class {classes} of {sum(unnamed.values()):,} boxes has no name",
                "add it to 'names', or correct the class; its boxes are read with the number as their label",
            )
        )
    if lines.maybe_pose:
        problems.append(_maybe_pose(path, lines))
        records = [
            replace(record, box=NOT_A_BOX) if len(record.text.split()) == lines.maybe_pose + 1 else record
            for record in records
        ]
    return Annotations(
        path,
        NAME,
        CONVENTION + lines.said,
        tuple(records),
        LAYOUT,
        problems=tuple(problems),
        unlabelled=tuple(unlabelled),
    )


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
    names = (*_FILES, _DARKNET, f"data/{_DARKNET}")
    return next((path / name for name in names if (path / name).is_file()), None)


@dataclass(frozen=True, slots=True)
class _Setup:
    """Which images there are.

    folder: what names of images are relative to. listed: the images of each split. names: of the classes by number.
    keypoints: how many numbers follow the box; None where no `kpt_shape` says so. task: as in ``data.yaml``.
    labels: the text files of images that have theirs elsewhere. problems: found on the way.
    finders: that searched images, whose problems are those of records.
    """

    folder: Path
    listed: tuple[tuple[str, tuple[Path, ...]], ...]
    names: Mapping[int, str]
    keypoints: int | None = None
    task: str = ""
    labels: Mapping[Path, Path] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    finders: tuple[ImageFinder, ...] = ()

    @classmethod
    def load(cls, file: Path, images: Path | None) -> "_Setup":
        content = _darknet(file) if file.name == _DARKNET else _yaml(file)
        named = [(key, content[key]) for key in _SPLIT_KEYS if content.get(key)]
        if not named:
            raise DataError(
                f"{file}: names no images: it has none of the keys train, val and test", code="missing-key"
            )
        root = images or _root(file, content.get("path"))
        finders: list[ImageFinder] = []
        listed, problems = _listed(file, root, named, finders)
        names = _names(file, content.get("names")) or _names_beside(file.parent)
        keypoints = _keypoints(file, content.get("kpt_shape"))
        task = str(content.get("task") or "").lower()
        return cls(file.parent, listed, names, keypoints, task, problems=problems, finders=tuple(finders))

    @classmethod
    def of_folder(cls, folder: Path, images: Path | None) -> "_Setup":
        """A folder that nothing describes: its ``images`` and ``labels``, or images with text files beside them."""
        names = _names_beside(folder)
        pairs = [] if images else list(_image_folders(folder))
        if pairs:
            of_split: dict[str, list[Path]] = {}
            for image in (image for pair in pairs for image in _in_folder(pair)):
                of_split.setdefault(_split_of_folders(image.relative_to(folder)), []).append(image)
            return cls(folder, tuple((split, tuple(paths)) for split, paths in of_split.items()), names)
        # The images lie elsewhere, or beside their text files: the text files say which images there are.
        files = sorted(_label_files(folder))
        if not files:
            raise DataError(f"{folder}: holds none of {', '.join(_FILES)}", code="no-annotations")
        places = dict.fromkeys(
            place for file in files for place in (file.parent, Path(*_swapped(file.parent.parts)))
        )
        finder = ImageFinder(folder, *places, images=images)
        labels: dict[Path, Path] = {}
        listed: dict[str, list[Path]] = {}
        for file in files:
            found = finder.of_stem(file.stem) if images is None else finder.find(file.stem)
            image = found or finder.find(file.relative_to(folder).with_suffix("").as_posix())
            labels[image] = file
            listed.setdefault(_split_of_folders(file.relative_to(folder)), []).append(image)
        if images is None:
            paired = set(labels)
            for parent in dict.fromkeys(image.parent for image in labels):
                others = (parent / name for name in sorted(Listings().names(parent)) if is_image_name(name))
                listed.setdefault("", []).extend(image for image in others if image not in paired)
        return cls(
            folder,
            tuple((split, tuple(paths)) for split, paths in listed.items()),
            names,
            labels=labels,
            finders=(finder,),
        )


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        content = _parse_yaml(read_text(file))
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{file}: broken YAML: {error}", code="bad-yaml") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: is no YOLO data file: it has no keys", code="bad-yaml")
    return content


def _darknet(file: Path) -> Mapping[str, Any]:
    """``obj.data``: a key and a path a line. Its paths start at the folder from which Darknet is run, mostly above."""
    content: dict[str, Any] = {}
    for line in read_text(file).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            content[key.strip()] = value.strip()
    names = content.pop("names", "")
    beside, _ = _place((file.parent, parent_of(file.parent)), names) if names else (None, False)
    if beside is not None and beside.is_file():
        content["names"] = read_text(beside).split("\n")
    if "valid" in content and content.get("valid") == content.get("train"):
        del content["valid"]
    return content


def _names_beside(folder: Path) -> dict[int, str]:
    file = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    lines = [] if file is None else [line.strip() for line in read_text(file).splitlines()]
    return {index: line for index, line in enumerate(lines) if line}


def _keypoints(file: Path, shape: object) -> int | None:
    """How many numbers follow the box, from ``kpt_shape``: the number of points, and 2 or 3 numbers for each."""
    if not shape:
        return None
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(value, int) for value in shape)
        and shape[0] > 0
        and shape[1] in {2, 3}
    ):
        return int(shape[0]) * int(shape[1])
    raise DataError(f"{file}: 'kpt_shape' is {shape}: write the number of points and 2 or 3", code="bad-yaml")


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
    try:
        return root if root.is_dir() else file.parent
    except OSError:  # a name that is too long, say
        return file.parent


def _names(file: Path, names: object) -> dict[int, str]:
    if names is None:
        return {}
    if isinstance(names, list):
        return {index: str(name) for index, name in enumerate(names)}
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        return {int(key): str(name) for key, name in names.items()}
    raise DataError(f"{file}: 'names' is neither a list nor a mapping from numbers to names", code="bad-yaml")


def _listed(
    file: Path, root: Path, named: Sequence[tuple[str, object]], finders: list[ImageFinder]
) -> tuple[tuple[tuple[str, tuple[Path, ...]], ...], tuple[Problem, ...]]:
    """The images of each split, and what is said about folders that are absent or were found elsewhere."""
    entries = [
        (key, str(entry)) for key, value in named for entry in (value if isinstance(value, list) else [value])
    ]
    roots = tuple(dict.fromkeys((root, file.parent)))
    places = {entry: _place(roots, entry) for _, entry in entries}
    exact = {place for place, as_written in places.values() if place is not None and as_written}
    searched = Counter(place for place, as_written in places.values() if place is not None and not as_written)
    # One folder for two names is a guess that is wrong for one of them.
    wrong = {place for place, count in searched.items() if count > 1 or place in exact}
    problems, listed = [], []
    for key, value in named:
        images: list[Path] = []
        for entry in value if isinstance(value, list) else [value]:
            place, as_written = places[str(entry)]
            if place is None or (place in wrong and not as_written):
                problems.append(
                    Problem(
                        "missing-folder",
                        file.name,
                        0,
                        "",
                        f"{key}: {root / str(entry)} does not exist",
                        "correct it, remove the key, or give the folder that it is in with --images",
                    )
                )
                continue
            if not as_written:
                problems.append(
                    Problem(
                        "images-found-elsewhere",
                        file.name,
                        0,
                        "",
                        f"{key}: {entry} does not exist here, and {place} is read in its place",
                        "nothing to do if this is right; else correct it",
                    )
                )
            images.extend(_images(place, root, finders))
        split = split_of(key, str(file))
        if images:
            listed.append((split, tuple(dict.fromkeys(images))))
    if len([problem for problem in problems if problem.code == "missing-folder"]) == len(entries):
        raise DataError(
            f"{file}: {'; '.join(problem.message for problem in problems)}: correct it, or use --images",
            code="not-found",
        )
    return tuple(listed), tuple(problems)


def _place(roots: Sequence[Path], entry: str) -> tuple[Path | None, bool]:
    """The file or folder that an entry names, and whether it is as written rather than found by its last parts."""
    # Some exports write ../train/images for train/images; the tools of YOLO accept it too.
    parts = tuple(part for part in entry.replace("\\", "/").split("/") if part not in {"", "."})
    below = "/".join(part for part in parts if part != "..")
    tries = [(root / each, True) for root in roots for each in (entry, entry.removeprefix("../"), below)]
    parts = tuple(below.split("/"))
    for start in range(1, len(parts)):
        if split_in_name(parts[start - 1]):  # what follows the folder of a split may be of any split
            break
        tries += [(root.joinpath(*parts[start:]), False) for root in roots]
    for path, as_written in tries:
        try:
            if path.exists():
                return path, as_written
        except (OSError, ValueError):  # a name that is too long, say
            return None, False
    return None, False


def _images(place: Path, root: Path, finders: list[ImageFinder]) -> Iterable[Path]:
    if place.is_dir():
        return _in_folder(place)
    if place.suffix.lower() == ".txt":
        names = (line.strip().replace("\\", "/") for line in read_text(place).splitlines())
        finder = ImageFinder(place.parent, root, parent_of(place.parent))
        finders.append(finder)
        return [finder.find(name) for name in names if name]
    return (place,)


def _in_folder(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(filter(is_image_name, names)):
            yield Path(parent, name)


def _image_folders(folder: Path) -> Iterator[Path]:
    """The folders named ``images`` with ``labels`` beside them, in a folder or some levels below it."""
    for parent, folders, _ in os.walk(folder):
        folders.sort()
        if "images" in folders and "labels" in folders:
            place = Path(parent, "images")
            if any(True for _ in _in_folder(place)):
                yield place
            folders[:] = [name for name in folders if name not in {"images", "labels"}]
        if len(Path(parent).relative_to(folder).parts) >= _MAX_DEPTH:
            folders.clear()


def _label_files(folder: Path) -> Iterator[Path]:
    """The text files in ``labels``, or else beside images."""
    labels = folder / "labels"
    for parent, folders, names in os.walk(labels if labels.is_dir() else folder):
        folders.sort()
        stems = {name.rpartition(".")[0] for name in names if is_image_name(name)}
        for name in sorted(names):
            stem, _, suffix = name.rpartition(".")
            if suffix.lower() == "txt" and name not in _NOT_LABELS and (labels.is_dir() or stem in stems):
                yield Path(parent, name)
        if len(Path(parent).relative_to(folder).parts) >= _MAX_DEPTH:
            folders.clear()


def _some_label_files(folder: Path) -> Iterator[Path]:
    """The first few text files of boxes in a folder that nothing describes."""
    for place in _image_folders(folder):
        for parent, folders, names in os.walk(place.parent / "labels"):
            folders.sort()
            texts = [name for name in sorted(names) if name.endswith(".txt") and name not in _NOT_LABELS]
            yield from (Path(parent, name) for name in texts[:20])
            if texts:
                break
    for count, file in enumerate(_label_files(folder)):
        if count == 20:
            break
        yield file


def _is_label_file(file: Path) -> bool:
    """Whether a text file starts with a class and numbers, at least four."""
    words = head(file, 4096).strip().partition("\n")[0].split()
    return len(words) >= 5 and all(number(word) == number(word) for word in words)


def _split_of_folders(path: Path) -> str:
    return next((split for split in map(split_in_name, path.parts[:-1]) if split), "")


def _swapped(parts: Sequence[str]) -> Sequence[str]:
    """The folder of the images of a folder of text files."""
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] == "labels":
            return (*parts[:at], "images", *parts[at + 1 :])
    return parts


def label_file(image: Path) -> Path:
    """The file with the boxes of an image, which need not exist."""
    name, parts = f"{image.stem}.txt", image.parts[:-1]
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :], name)
    return image.parent / name


def _records(
    image: Path, labels: Path, split: str, setup: _Setup, lines: "_Lines", unnamed: Counter[int]
) -> Iterator[Record]:
    name = _name(image, setup.folder)
    rows = [(row, line.split()) for row, line in enumerate(read_text(labels).splitlines(), 1) if line.strip()]
    if not rows:
        yield Record(1, name, name, image, None, split=split)
    for row, words in rows:
        label = _label(words[0], setup.names, unnamed)
        where = f"{labels.name}, line {row}"
        yield Record(row, where, name, image, lines.box(words[1:]), " ".join(words), label, split)


def _name(image: Path, folder: Path) -> str:
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def _label(word: str, names: Mapping[int, str], unnamed: Counter[int]) -> str:
    value = number(word)
    if not value.is_integer():
        return ""
    if names and int(value) not in names:
        unnamed[int(value)] += 1
    return names.get(int(value), str(int(value)))


class _Lines:
    """Reads lines of numbers, and counts their kinds.

    keypoints: how many numbers follow each box, or None. judge: whether lines that may be poses are looked for.
    """

    def __init__(self, keypoints: int | None, *, judge: bool) -> None:
        self._keypoints, self._judge = keypoints, judge and keypoints is None
        self._kinds = Counter[str]()
        self._lengths, self._poses = Counter[int](), Counter[int]()

    def box(self, words: Sequence[str]) -> tuple[float, float, float, float]:
        """Centre and size as fractions; NaN for what is no line of YOLO."""
        values = [number(word) for word in words]
        count = len(values)
        if count == 4 or (self._keypoints is not None and count == 4 + self._keypoints):
            self._kinds["poses"] += count > 4
            return values[0], values[1], values[2], values[3]
        if count == 5 and 0 <= values[4] <= 1:
            self._kinds["boxes with a confidence"] += 1
            return values[0], values[1], values[2], values[3]
        if self._keypoints is None and count > 5:
            self._lengths[count] += 1
            self._poses[count] += self._judge and _fits_pose(values)
            if count % 2 == 0:
                self._kinds["polygons, of which the bounds are taken"] += 1
                x, y = values[::2], values[1::2]
                bounds = convert((min(x), min(y), max(x), max(y)), "xyxy", "cxcywh")
                return _finite_box(values, bounds.tolist())
        return NOT_A_BOX

    @property
    def maybe_pose(self) -> int:
        """How many numbers the lines have that look like a box and its keypoints; 0 where none do."""
        return next(
            (
                count
                for count, fit in self._poses.items()
                if fit and fit >= _POSE_SHARE * self._lengths[count]
            ),
            0,
        )

    @property
    def said(self) -> str:
        """What was read besides boxes, to add to the convention."""
        return "".join(f"; {count:,} {kind}" for kind, count in sorted(self._kinds.items()) if count)


def _finite_box(values: Sequence[float], box: Sequence[float]) -> tuple[float, float, float, float]:
    return NOT_A_BOX if any(value != value for value in values) else (box[0], box[1], box[2], box[3])


def _fits_pose(values: Sequence[float]) -> bool:
    """Whether the first four numbers are a box in the image around the points that follow, of 2 or 3 numbers each.

    Points at the origin are those that nobody marked.
    """
    x, y, width, height = values[:4]
    reach_x, reach_y = width / 2 + _POSE_TOLERANCE, height / 2 + _POSE_TOLERANCE
    if not (0 < width <= 1 and 0 < height <= 1 and reach_x <= x + 0.01 and reach_y <= y + 0.01):
        return False
    if not (x + width / 2 <= 1.01 and y + height / 2 <= 1.01):
        return False
    rest = values[4:]
    for size in (2, 3):
        points = [rest[at : at + size] for at in range(0, len(rest), size)]
        if len(rest) % size or (size == 3 and not all(point[2] in {0, 1, 2} for point in points)):
            continue
        marked = [point for point in points if point[0] or point[1]]
        if marked and all(abs(px - x) <= reach_x and abs(py - y) <= reach_y for px, py, *_ in marked):
            return True
    return False


def _maybe_pose(path: Path, lines: _Lines) -> Problem:
    count = lines.maybe_pose
    return Problem(
        "maybe-pose",
        path.name,
        0,
        "",
        f"the lines of {count + 1} numbers are a class, a box and keypoints (the first four numbers enclose the points "
        "that follow), or polygons: these are two different boxes",
        f"for keypoints, add their shape to data.yaml, such as kpt_shape: [{max((count - 4) // 2, 1)}, 2]; "
        "for polygons, add task: segment",
    )


def _labels_missing(path: Path, split: str, images: Sequence[Path]) -> Problem:
    place = label_file(images[0])
    return Problem(
        "labels-missing",
        path.name,
        0,
        "",
        f"none of the {len(images):,} images{f' of {split}' if split else ''} has a text file of boxes; the first "
        f"should be {place}",
        "put the text files there; for images without the object, write empty ones; or remove the split",
    )


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
