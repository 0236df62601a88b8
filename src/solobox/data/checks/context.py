"""What the rules work on: the records as arrays, and the findings that they add."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.data.checks.diagnosis import CODES, Diagnosis, Finding, Fix
from solobox.data.checks.image_info import ImageInfo
from solobox.data.formats.records import Annotations, Box, Problem, Record, with_boxes
from solobox.data.identity import canonical_paths
from solobox.data.layouts import CORNERS
from solobox.data.object_size import ObjectSize
from solobox.images.reading import ImageInput

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

    annotations: the annotations to check. in_memory: images that are no files, by `Record.path`.
    keys: the identity of each record's image (its normalized path).
    image_info: what is known of each image by its key; empty when no image was opened.
    has_box: (n,), which records have a box. boxes: (n, 4), NaN for none: the file's numbers, which the rules about the
        layout turn into corners in pixels; a rule that fixes a box writes the fixed one here for the later rules.
    active: (n,), which boxes the later rules still check; a rule that rejects a box clears it.
    size, stored: (n, 2), width and height of the upright and of the stored image, NaN where unknown.
    orientation: (n,), the EXIF orientation, 1 where unknown.
    recorded: (n, 2), width and height as the file records them, NaN where it does not.
    upright_proven: (n,), which boxes are known to be of the upright image.
    auto_groups: which groups training would make, in a sentence, or empty.
    """

    def __init__(self, annotations: Annotations, in_memory: Mapping[Path, ImageInput] | None = None) -> None:
        records = annotations.records
        self.annotations = annotations
        self._in_memory = in_memory or {}
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
        self.recorded: Floats = np.array(
            [record.size or (np.nan, np.nan) for record in records], dtype=np.float64
        ).reshape(-1, 2)
        self.recorded[~(self.recorded > 0).all(axis=-1)] = np.nan  # zeros stand for "unknown" in many files
        self.upright_proven: npt.NDArray[np.bool_] = np.zeros(len(records), dtype=np.bool_)
        self.auto_groups = ""
        self._entries: list[_Entry] = []
        self._in_pixels = self.boxes

    def set_boxes(self, boxes: Floats) -> None:
        """Take boxes in pixels for the file's numbers, as its format says; a later fix does not change these."""
        self.boxes = self._in_pixels = boxes

    def set_negative(self, indices: Sequence[int]) -> None:
        """Take records for images without the object."""
        self.boxes = self.boxes.copy()
        self.boxes[indices] = np.nan
        self.has_box[indices] = self.active[indices] = False

    def active_rows(self) -> list[int]:
        """The indices of the records whose boxes are still checked."""
        return [int(index) for index in np.flatnonzero(self.active)]

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

    def image(self, key: Path) -> ImageInput:
        """The image of a key: one in memory, or the key itself, its file."""
        return self._in_memory.get(key, key)

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

    def add_problem(self, problem: Problem) -> None:
        """Add what the reader found."""
        level = CODES[problem.code]
        finding = Finding(
            problem.code, level, problem.where, problem.row, problem.image, problem.message, problem.advice
        )
        at_fault = (problem.record,) if level == "error" and problem.record is not None else ()
        fixes = tuple(Fix(index, problem.code, problem.message, None) for index in at_fault)
        index = -1 if problem.record is None else problem.record
        self._entries.append(_Entry(index, finding, at_fault, fixes))
        self.active[list(at_fault)] = False

    def resolved(self) -> Annotations:
        """The annotations with boxes in pixels, as the format says, before any fix."""
        changed = self.annotations.layout != CORNERS or any(
            record.box is not None and not has_box
            for record, has_box in zip(self.records, self.has_box.tolist(), strict=True)
        )
        if not changed:
            return self.annotations
        boxes = (
            (box[0], box[1], box[2], box[3]) if has_box else None
            for box, has_box in zip(self._in_pixels.tolist(), self.has_box.tolist(), strict=True)
        )
        records = with_boxes(self.records, boxes)
        return replace(self.annotations, records=records, layout=CORNERS)

    def diagnosis(self) -> Diagnosis:
        """All findings, those about the whole file first, then in the file's order."""
        entries = sorted(self._entries, key=lambda entry: entry.index)
        return Diagnosis(
            annotations=self.resolved(),
            path=self.annotations.path,
            format=self.annotations.format,
            findings=tuple(entry.finding for entry in entries),
            n_records=len(self.records),
            n_images=len(self.images),
            bad_rows=tuple(sorted({index for entry in entries for index in entry.bad})),
            # in the order in which they were added: a later fix of a box starts from the one before it
            fixes=tuple(fix for entry in self._entries for fix in entry.fixes),
            object_size=ObjectSize.of(self.boxes, self.size),
            auto_groups=self.auto_groups,
        )


def to_box(box: Floats) -> Box:
    """Convert an array of four to four floats."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2


def format_box(box: Floats | Box) -> str:
    """Write a box for a person: ``12, 4.5, 80, 60``."""
    return ", ".join(format_number(value) for value in box)


def box_text(context: CheckContext, index: int) -> str:
    """A record's box as the file wrote it."""
    record = context.records[index]
    return record.text or (format_box(record.box) if record.box is not None else "")


def size_text(size: Floats) -> str:
    """Write a width and a height for a person: ``640 x 480``."""
    return f"{size[0]:.0f} x {size[1]:.0f}"


def format_number(value: float) -> str:
    """Write a number for a person, to a tenth (fractions to four digits): ``12``, ``4.5``, ``0.0312``."""
    digits = 1 if abs(value) >= 2 else 4
    text = f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
    return text.rstrip("0").rstrip(".") if "." in text else text
