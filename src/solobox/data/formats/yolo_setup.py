"""The images of a YOLO data set and their text files: by ``data.yaml``, Darknet's ``obj.data``, or folders alone."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    Listings,
    head,
    number,
    parent_of,
    read_text,
    split_in_name,
    split_of,
)
from solobox.data.formats.records import Problem
from solobox.errors import DataError
from solobox.images.reading import is_image_name

FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
DARKNET = "obj.data"
SPLIT_KEYS = ("train", "val", "valid", "validation", "test")

_NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names", "predefined_classes.txt")
_NOT_LABELS = frozenset({"classes.txt", "predefined_classes.txt", "requirements.txt"})
_MAX_CHARACTERS = 4 << 20
"""Of a ``data.yaml``, whose parser is slow; long lists of images have files of their own."""

_MAX_DIGITS = 100
_MAX_DEPTH = 3
"""Of the folders in which ``images`` with ``labels`` beside it is searched, where no file names them."""


def setup_file(path: Path) -> Path | None:
    """The file itself, or that in a folder which describes the data set."""
    if path.is_file():
        return path
    names = (*FILES, DARKNET, f"data/{DARKNET}")
    return next((path / name for name in names if (path / name).is_file()), None)


@dataclass(frozen=True, slots=True)
class Setup:
    """Which images there are.

    folder: what names of images are relative to. listed: the images of each split. names: of the classes by number.
    keypoints: how many numbers follow the box; None where no `kpt_shape` says so. task: as in ``data.yaml``.
    labels: the text files of images that have theirs elsewhere. problems: found on the way.
    finders: that searched images, whose problems are those of records. files: that were read beside that one.
    """

    folder: Path
    listed: tuple[tuple[str, tuple[Path, ...]], ...]
    names: Mapping[int, str]
    keypoints: int | None = None
    task: str = ""
    labels: Mapping[Path, Path] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    finders: tuple[ImageFinder, ...] = ()
    files: tuple[Path, ...] = ()

    @classmethod
    def load(cls, file: Path, images: Path | None) -> "Setup":
        """What a ``data.yaml`` or an ``obj.data`` describes."""
        files = [file.parent / name for name in _NAMES]
        content = _darknet(file, files) if file.name == DARKNET else _yaml(file)
        named = [(key, content[key]) for key in SPLIT_KEYS if content.get(key)]
        if not named:
            raise DataError(
                f"{file}: names no images: it has none of the keys train, val and test", code="missing-key"
            )
        root = images or _root(file, content.get("path"))
        finders: list[ImageFinder] = []
        listed, problems = _listed(file, root, named, finders, files)
        names = _names(file, content.get("names")) or _names_beside(file.parent)
        keypoints = _keypoints(file, content.get("kpt_shape"))
        task = str(content.get("task") or "").lower()
        searched = tuple(finders)
        return cls(file.parent, listed, names, keypoints, task, {}, problems, searched, tuple(files))

    @classmethod
    def of_folder(cls, folder: Path, images: Path | None) -> "Setup":
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
            raise DataError(f"{folder}: holds none of {', '.join(FILES)}", code="no-annotations")
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


def _darknet(file: Path, files: list[Path]) -> Mapping[str, Any]:
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
        files.append(beside)
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
    file: Path, root: Path, named: Sequence[tuple[str, object]], finders: list[ImageFinder], files: list[Path]
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
            images.extend(_images(place, root, finders, files))
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


def _images(place: Path, root: Path, finders: list[ImageFinder], files: list[Path]) -> Iterable[Path]:
    if place.is_dir():
        return _in_folder(place)
    if place.suffix.lower() == ".txt":
        names = (line.strip().replace("\\", "/") for line in read_text(place).splitlines())
        finder = ImageFinder(place.parent, root, parent_of(place.parent))
        finders.append(finder)
        files.append(place)
        return [finder.find(name) for name in names if name]
    return (place,)


def _in_folder(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        at = Path(parent)
        for name in sorted(filter(is_image_name, names)):
            yield at / name


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


def some_label_files(folder: Path) -> Iterator[Path]:
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


def is_label_file(file: Path) -> bool:
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
    return _label_folder(image.parent) / f"{image.stem}.txt"


@lru_cache(maxsize=1000)
def _label_folder(images: Path) -> Path:
    parts = images.parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] == "images":
            return Path(*parts[:at], "labels", *parts[at + 1 :])
    return images
