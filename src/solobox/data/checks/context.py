"""What the rules work on: the records as arrays, and the findings that they add."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.data.checks.diagnosis import CODES, Box, Diagnosis, Finding, Fix
from solobox.data.checks.image_info import ImageInfo
from solobox.data.formats.records import Annotations, Record
from solobox.data.identity import canonical_paths
from solobox.data.object_size import ObjectSize

TABLE_FORMATS = ("csv", "article", "arrays")
"""Formats in which a row is an image and nothing says what its four numbers mean."""


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    finding: Finding
    bad: tuple[int, ...]
    fixes: tuple[Fix, ...]


class CheckContext:
    """What the rules read and write.

    annotations: the annotations to check. keys: the identity of each record's image (its normalized path).
    image_info: what is known of each image by its key; empty when no image was opened.
    has_box: (n,), which records have a box. boxes: (n, 4), the boxes as corners in pixels, NaN for none; a rule that
        fixes a box writes the fixed one here for the later rules.
    active: (n,), which boxes the later rules still check; a rule that rejects a box clears it.
    size, stored: (n, 2), width and height of the upright and of the stored image, NaN where unknown.
    orientation: (n,), the EXIF orientation, 1 where unknown.
    """

    def __init__(self, annotations: Annotations) -> None:
        records = annotations.records
        self.annotations = annotations
        self.keys: list[Path] = canonical_paths([record.path for record in records])
        self.image_info: dict[Path, ImageInfo] = {}
        self.has_box: npt.NDArray[np.bool_] = np.array(
            [record.box is not None for record in records], dtype=np.bool_
        )
        nothing = (np.nan,) * 4
        self.boxes: Floats = np.array(
            [nothing if record.box is None else record.box for record in records], dtype=np.float64
        ).reshape(-1, 4)
        self.active: npt.NDArray[np.bool_] = self.has_box.copy()
        self.size: Floats = np.full((len(records), 2), np.nan)
        self.stored: Floats = np.full((len(records), 2), np.nan)
        self.orientation: npt.NDArray[np.int64] = np.ones(len(records), dtype=np.int64)
        self._entries: list[_Entry] = []

    @property
    def records(self) -> tuple[Record, ...]:
        """The records to check."""
        return self.annotations.records

    @cached_property
    def images(self) -> dict[Path, list[int]]:
        """The indices of each image's records, images in the file's order."""
        indices: dict[Path, list[int]] = {}
        for index, key in enumerate(self.keys):
            indices.setdefault(key, []).append(index)
        return indices

    def add_image_info(self, image_info: dict[Path, ImageInfo]) -> None:
        """Take over what is known of the images."""
        self.image_info = image_info
        for index, key in enumerate(self.keys):
            header = image_info[key].header
            if header is not None:
                self.size[index] = header.size
                self.stored[index] = header.stored_size
                self.orientation[index] = header.orientation

    def add(
        self,
        code: str,
        index: int,
        message: str,
        advice: str,
        *,
        bad: Collection[int] | None = None,
        fixed_boxes: Sequence[tuple[int, Floats]] = (),
        leave_out: Collection[int] = (),
    ) -> None:
        """Add one finding about record `index` (-1: about the whole file).

        bad: the records that an error makes unusable, by default the record itself. fixed_boxes: records and the boxes
        that make them usable. `fix` leaves out the bad records without a fixed box, and those in `leave_out`.
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
        fixed = {i: to_box(box) for i, box in fixed_boxes}
        removed = (set(at_fault) | set(leave_out)) - set(fixed)
        fixes = [Fix(i, code, message, fixed.get(i)) for i in sorted(removed | set(fixed))]
        self._entries.append(_Entry(index, finding, at_fault, tuple(fixes)))

    def diagnosis(self) -> Diagnosis:
        """All findings, those about the whole file first, then in the file's order."""
        entries = sorted(self._entries, key=lambda entry: entry.index)
        return Diagnosis(
            path=self.annotations.path,
            format=self.annotations.format,
            findings=tuple(entry.finding for entry in entries),
            n_records=len(self.records),
            n_images=len(self.images),
            bad_rows=tuple(sorted({index for entry in entries for index in entry.bad})),
            # in the order in which they were added: a later fix of a box starts from the one before it
            fixes=tuple(fix for entry in self._entries for fix in entry.fixes),
            object_size=ObjectSize.of(self.boxes, self.size),
        )


def to_box(box: Floats) -> Box:
    """Convert an array of four to four floats."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def format_box(box: Floats | Box) -> str:
    """Write a box for a person: ``12, 4.5, 80, 60``."""
    return ", ".join(format_number(value) for value in box)


def format_number(value: float) -> str:
    """Write a number for a person, to a tenth (fractions to four digits): ``12``, ``4.5``, ``0.0312``."""
    digits = 1 if abs(value) >= 2 else 4
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
    return text.rstrip("0").rstrip(".") if "." in text else text
