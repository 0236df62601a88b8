"""YOLO: images, and for each a text file of boxes; mostly with a ``data.yaml`` that names folders or lists of images.

An image's boxes are in the file of its name under ``labels`` in place of the last ``images`` of its path, a line
each: class, then centre and size as fractions of the upright image (and perhaps a confidence), or the corners of a
polygon, of which the bounds are taken; with ``kpt_shape`` in ``data.yaml``, a box and its keypoints. An empty file
lists an image without the object; an image without a file is not labelled.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
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
    some,
)
from solobox.data.formats.records import SPLITS, Annotations, Layout, Problem, Record
from solobox.data.formats.writing import building, by_image, relative_to, unique_stems, writable
from solobox.data.formats.yolo_setup import (
    DARKNET,
    FILES,
    SPLIT_KEYS,
    Setup,
    is_label_file,
    label_file,
    setup_file,
    some_label_files,
)
from solobox.errors import DataError, ImageError
from solobox.images.reading import is_image_name, probe

NAME = "yolo"
LOOKS_LIKE = "a YOLO data.yaml, or a folder that holds one, or images with YOLO's text files"
CONVENTION = "YOLO centre and size as fractions of the upright image, multiplied by its width and height"
LAYOUT = Layout("cxcywh", "fractions")
UNNAMED = "object"
WRITTEN = re.compile(r"data\.yaml|labels/(train|val|test)(/[^/]+\.txt|\.cache)")
"""The files that `write` makes beside links, and those that trainers put there."""

_POSE_TOLERANCE = 0.005
_POSE_SHARE = 0.95


def fits(path: Path) -> bool:
    """Whether this is a file that names images of splits, or a folder with one or with YOLO's text files."""
    file = setup_file(path)
    if file is None:
        return path.is_dir() and any(map(is_label_file, some_label_files(path)))
    if file.name == DARKNET:
        return True
    if file.suffix.lower() not in {".yaml", ".yml"}:
        return False
    keys = {line.partition(":")[0].rstrip().strip("'\"") for line in head(file).splitlines()}
    return file.name in FILES or not keys.isdisjoint(SPLIT_KEYS)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a ``data.yaml`` or an ``obj.data``, or the one in a folder, or a folder of images and text files.

    ``train``, ``val`` and ``test`` are relative to its ``path`` (or to `images`); where that does not exist
    here, to the file's folder, and a path of another computer is found by its last parts. A line that is not numbers
    gives a box of NaN. Without ``kpt_shape``, lines that look like a box with keypoints are an error, unless
    ``task: segment`` or ``task: obb`` says that they are polygons.

    Raises DataError: ``no-annotations``, ``bad-yaml``, ``missing-key``, ``not-found``.
    """
    file = setup_file(path)
    setup = Setup.of_folder(path, images) if file is None else Setup.load(file, images)
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
        files=setup.files,
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


def _records(
    image: Path, labels: Path, split: str, setup: Setup, lines: "_Lines", unnamed: Counter[int]
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
    return f"{_folder_name(image.parent, folder)}{image.name}"


@lru_cache(maxsize=1000)
def _folder_name(images: Path, folder: Path) -> str:
    """What stands before the names of the images in a folder."""
    parent = images.relative_to(folder) if images.is_relative_to(folder) else images
    return "" if parent == Path() else f"{parent.as_posix().rstrip('/')}/"


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
