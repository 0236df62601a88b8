"""One check in progress: the records as arrays, the rules' common ground, and the notes that they take."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.data.checks.findings import CODES, Box, Diagnosis, Finding, Remedy
from solobox.data.checks.image_info import Look
from solobox.data.formats.records import Annotations, Record

PIXEL_FORMATS = ("csv", "article")
"""Formats in which a row is an image and its four numbers carry no word on what they mean."""


@dataclass(frozen=True, slots=True)
class _Note:
    index: int
    finding: Finding
    bad: tuple[int, ...]
    remedies: tuple[Remedy, ...]


class Case:
    """What the rules read and write.

    annotations: what is judged. keys: an image's identity for each record (its path, tidied).
    looks: what was seen of each image by its key, empty when none was looked at.
    has_box: which records state a box. boxes: (n, 4), the boxes as corners in pixels, NaN for none; rules
        that mend a box write the mended one here for the rules after them.
    judged: which boxes are still worth judging; a rule that condemns a box takes it out.
    size, stored: (n, 2), width and height of the upright and of the stored image, NaN where unknown.
    orientation: (n,), the EXIF orientation, 1 where unknown.
    """

    def __init__(self, annotations: Annotations) -> None:
        records = annotations.records
        self.annotations = annotations
        self.keys: list[Path] = tidy([record.path for record in records])
        self.looks: dict[Path, Look] = {}
        self.has_box: npt.NDArray[np.bool_] = np.array(
            [record.box is not None for record in records], dtype=np.bool_
        )
        nothing = (np.nan,) * 4
        self.boxes: Floats = np.array(
            [nothing if record.box is None else record.box for record in records], dtype=np.float64
        ).reshape(-1, 4)
        self.judged: npt.NDArray[np.bool_] = self.has_box.copy()
        self.size: Floats = np.full((len(records), 2), np.nan)
        self.stored: Floats = np.full((len(records), 2), np.nan)
        self.orientation: npt.NDArray[np.int64] = np.ones(len(records), dtype=np.int64)
        self._notes: list[_Note] = []

    @property
    def records(self) -> tuple[Record, ...]:
        """The records that are judged."""
        return self.annotations.records

    @cached_property
    def images(self) -> dict[Path, list[int]]:
        """The indices of each image's records, images in the file's order."""
        found: dict[Path, list[int]] = {}
        for index, key in enumerate(self.keys):
            found.setdefault(key, []).append(index)
        return found

    def see(self, looks: dict[Path, Look]) -> None:
        """Take in what was seen of the images."""
        self.looks = looks
        for index, key in enumerate(self.keys):
            header = looks[key].header
            if header is not None:
                self.size[index] = header.size
                self.stored[index] = header.stored_size
                self.orientation[index] = header.orientation

    def note(
        self,
        code: str,
        index: int,
        message: str,
        advice: str,
        *,
        bad: Collection[int] | None = None,
        mends: Sequence[tuple[int, Floats]] = (),
        leave_out: Collection[int] = (),
    ) -> None:
        """Take down one finding about record `index` (-1: about the whole file).

        bad: the records that an error condemns, by default the record itself. mends: records and the boxes
        that cure them; what is condemned and not cured is left out by `fix`, and so is `leave_out`.
        """
        level = CODES[code]
        if index < 0:
            finding = Finding(code, level, str(self.annotations.path.name), 0, "", message, advice)
        else:
            record = self.records[index]
            finding = Finding(code, level, record.where, record.row, record.image, message, advice)
        if bad is None:
            bad = (index,) if index >= 0 else ()
        at_fault = tuple(sorted(bad)) if level == "error" else ()
        cured = {i: as_box(box) for i, box in mends}
        gone = (set(at_fault) | set(leave_out)) - set(cured)
        remedies = [Remedy(i, code, message, cured.get(i)) for i in sorted(gone | set(cured))]
        self._notes.append(_Note(index, finding, at_fault, tuple(remedies)))

    def diagnosis(self) -> Diagnosis:
        """All notes, those about the whole file first, then in the file's order."""
        notes = sorted(self._notes, key=lambda note: note.index)
        return Diagnosis(
            path=self.annotations.path,
            format=self.annotations.format,
            findings=tuple(note.finding for note in notes),
            n_records=len(self.records),
            n_images=len(self.images),
            bad_rows=tuple(sorted({index for note in notes for index in note.bad})),
            # in the order in which they were taken: a later mend of a box starts from the one before it
            remedies=tuple(remedy for note in self._notes for remedy in note.remedies),
        )


def tidy(paths: Sequence[Path]) -> list[Path]:
    """Take ``.`` and ``..`` out of paths, so that two ways to write one path are one image."""
    return [Path(os.path.normpath(path)) for path in paths]


def as_box(box: Floats) -> Box:
    """Make four plain floats of an array of four."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def say(box: Floats | Box) -> str:
    """Write a box for a person: ``12, 4.5, 80, 60``."""
    return ", ".join(number(value) for value in box)


def number(value: float) -> str:
    """Write a number for a person, to a tenth (fractions to four digits): ``12``, ``4.5``, ``0.0312``."""
    digits = 1 if abs(value) >= 2 else 4
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
    return text.rstrip("0").rstrip(".") if "." in text else text
