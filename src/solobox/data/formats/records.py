"""What every annotation format is read into: one record for each box, unchecked.

Readers only parse: a record has the four numbers that the file has, in the layout that its format states. They may be
swapped corners, text that is no number, or of an image that does not exist. `solobox.data.checks` finds such records,
judges whether the file keeps to its format's layout, and converts to pixels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeAlias

from solobox.boxes import Convention
from solobox.images.headers import Header

Box: TypeAlias = tuple[float, float, float, float]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the four numbers of each box in a file mean.

    order: corners, corner and size, or centre and size.
    unit: ``pixels``, or ``fractions`` (0 to 1), ``percent`` (0 to 100) or ``thousandths`` (0 to 1000) of the upright
        image's width and height.
    y_first: whether each y comes before its x, each height before its width.
    first: the number of the first pixel in each direction. Where it is 1, as in Pascal VOC, the second corner is the
        last pixel that belongs to the object.
    """

    order: Convention = "xyxy"
    unit: Literal["pixels", "fractions", "percent", "thousandths"] = "pixels"
    y_first: bool = False
    first: Literal[0, 1] = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of a single row that the reader found; the checks report it among their findings.

    code: one of `solobox.data.checks.CODES`, which has its level.
    where, row, image: as in `Record`. message, advice: what is wrong, and what to do.
    record: the index of the record that an error makes unusable; None where the row gave no record.
    """

    code: str
    where: str
    row: int
    image: str
    message: str
    advice: str
    record: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One box of a file, or one image that a file lists without a box.

    row: line number in a CSV (the first line is 1, the header counts), else the running number of the
        annotation in its file, from 1.
    where: the location for people, e.g. ``boxes.csv, row 12`` or ``00001.xml, object 2``.
    image: the image as the file names it, with ``/`` between folders; in a copy, as the original named it. Splits are
        hashes of it, so a copy keeps it.
    path: where that image should be.
    box: the four numbers, in the layout of the `Annotations`; NaN for a number that could not be read; None when the
        image is listed without a box (a negative).
    text: the box as the file wrote it, for messages.
    label, split, group, source: the empty string where the file says nothing. `split` is one of `SPLITS`.
    extra: the file's other columns, kept as text.
    size: the image's width and height in pixels as the file states them; None where it does not.
    other_path: another image that the file names for this row by another key, which exists too; None in all good files.
    """

    row: int
    where: str
    image: str
    path: Path
    box: Box | None
    text: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    source: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
    size: tuple[float, float] | None = None
    other_path: Path | None = None


def without_box(record: Record, index: int, kinds: str, absent: str = "remove what is drawn") -> Problem:
    """The fault of a record, the one at `index`, whose image has labels of a kind that holds no box.

    kinds: what they are, in words: ``points``. absent: what to do where the object is absent. Such an image is never
    one without the object.
    """
    return Problem(
        "no-box", record.where, record.row, record.image, f"labelled, but with {kinds} alone: no box can be made",
        f"draw a box around the object; where it is absent, {absent}", index,
    )  # fmt: skip


def class_alone(record: Record, index: int, classes: Iterable[str]) -> Problem:
    """The fault of a record, the one at `index`, whose image has a class, or several, and no box."""
    names = " and ".join(f"the class {name!r}" for name in dict.fromkeys(classes))
    return without_box(record, index, names, "give it the class 'no object', or remove the class")


def with_boxes(records: Iterable[Record], boxes: Iterable[Box | None]) -> tuple[Record, ...]:
    """The same records with other boxes; for so many that `dataclasses.replace` would take seconds."""
    values = attrgetter(*Record.__match_args__)
    at = Record.__match_args__.index("box")
    made = []
    for record, box in zip(records, boxes, strict=True):
        arguments = list(values(record))
        arguments[at] = box
        made.append(Record(*arguments))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Annotations:
    """All records of one dataset, in the order of the file.

    path: the file or folder that was read.
    format: the name of its format, see `solobox.data.formats`; ``arrays`` for data that was not read from a file.
    convention: the coordinate convention of the file, in words, for reports.
    layout: of the numbers of each record's box.
    layout_is_certain: whether a person, or another program of Solobox, said so, and the checks have nothing to judge.
    layout_is_guess: whether the file does not say which of corners, and corner and size, its numbers are: refused where
        the boxes fit their images either way.
    problems: faults of rows, those included that gave no record.
    unlabelled: names of images that lie among the others and of which the annotations say nothing.
    files: that were read too and lie beside `path`, or elsewhere; see `solobox.data.formats.files`.
    headers: of images that the reader had to open, by `Record.path`, so that the checks need not open them again.
    """

    path: Path
    format: str
    convention: str
    records: tuple[Record, ...]
    layout: Layout = Layout()
    layout_is_certain: bool = False
    layout_is_guess: bool = False
    problems: tuple[Problem, ...] = ()
    unlabelled: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    headers: Mapping[Path, Header] = field(default_factory=dict)
