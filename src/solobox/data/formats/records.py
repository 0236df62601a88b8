"""What every annotation format is read into: one record for each box, before anything is judged.

Readers translate, they do not decide: a record may hold a box that is upside down, text that is no number, or
an image that does not exist. `solobox.data.dataset` refuses such records and `solobox.data.checks` explains them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One box as a file states it, or one image that a file lists with no box.

    row: line number in a CSV (the first line is 1, the header counts), else the running number of the
        annotation in its file, from 1.
    where: the place for a person, e.g. ``boxes.csv, row 12`` or ``00001.xml, object 2``.
    image: the image as the file names it, with ``/`` between folders.
    path: where that image is looked for.
    box: ``x1, y1, x2, y2`` in continuous pixels of the upright image; NaN for a number that could not be
        read; None when the image is listed without a box (a negative).
    text: the box as the file wrote it, for messages.
    label, split, group, source: the empty string where the file says nothing. `split` is one of `SPLITS`.
    extra: the file's other columns, kept as text.
    """

    row: int
    where: str
    image: str
    path: Path
    box: tuple[float, float, float, float] | None
    text: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    source: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Annotations:
    """All records of one data set, in the order of the file.

    path: the file or folder that was read.
    format: ``csv``, ``article``, ``coco``, ``voc`` or ``yolo``.
    convention: the coordinate convention it came from, in words, for reports.
    """

    path: Path
    format: str
    convention: str
    records: tuple[Record, ...]
