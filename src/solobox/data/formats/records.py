"""What every annotation format is read into: one record for each box, unchecked.

Readers only convert: a record may have a box with swapped corners, text that is no number, or an image that does not
exist. `solobox.data.checks` finds such records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One box of a file, or one image that a file lists without a box.

    row: line number in a CSV (the first line is 1, the header counts), else the running number of the
        annotation in its file, from 1.
    where: the location for people, e.g. ``boxes.csv, row 12`` or ``00001.xml, object 2``.
    image: the image as the file names it, with ``/`` between folders; in a copy, as the original named it. Splits are
        hashes of it, so a copy keeps it.
    path: where that image should be.
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
    """All records of one dataset, in the order of the file.

    path: the file or folder that was read.
    format: ``csv``, ``article``, ``coco``, ``voc`` or ``yolo``; ``arrays`` for data that was not read from a file.
    convention: the coordinate convention of the file, in words, for reports.
    """

    path: Path
    format: str
    convention: str
    records: tuple[Record, ...]
