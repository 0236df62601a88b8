"""From the records of a file to one record for each image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from solobox.boxes import area, is_valid
from solobox.config.choices import Keep
from solobox.data.formats import Annotations, Record
from solobox.data.formats.parsing import NOT_A_BOX
from solobox.data.formats.writing import plain
from solobox.data.identity import canonical_paths
from solobox.utils.text import count_of


@dataclass(frozen=True, slots=True)
class ReadNotes:
    """What happened while a dataset was read; all counts are of the whole dataset.

    path: the file or folder; None for data that was not read from one.
    format, convention: as in `Annotations`.
    images, positives, negatives: rows kept, and how many of them have a box and have none.
    reduced: images with several boxes of which one was kept.
    several: names of the images that were left out because they have several boxes.
    duplicates: rows that only repeated another one and were dropped.
    bad: the rows that were left out as unusable, each with its location and the reason.
    auto_groups: what `Dataset.with_auto_groups` found, in a sentence; None where it did not look.
    leaked: what it found of copies in two splits that the data names, in a sentence; empty for nothing.
    """

    path: Path | None = None
    format: str = ""
    convention: str = ""
    images: int = 0
    positives: int = 0
    negatives: int = 0
    reduced: int = 0
    several: tuple[str, ...] = ()
    duplicates: int = 0
    bad: tuple[str, ...] = ()
    auto_groups: str | None = None
    leaked: str = ""

    def left_out(self) -> str:
        """What reading left out or changed, in sentences that begin with a space; empty for nothing."""
        parts = []
        if self.reduced:
            parts.append(f" One box was kept of each of {count_of(self.reduced, 'image')} with several.")
        if self.several:
            parts.append(f" Left out: {count_of(len(self.several), 'image')} with several boxes.")
        if self.duplicates:
            parts.append(f" Dropped: {count_of(self.duplicates, 'duplicate row')}.")
        if self.bad:
            parts.append(f" Left out: {count_of(len(self.bad), 'row')} with errors.")
        return "".join(parts)


def one_per_image(annotations: Annotations, keep: Keep | None) -> tuple[list[Record], ReadNotes]:
    """Choose one record for each image, in the order in which the images first appear, and note what was left out.

    Records of one image with the same box and label are duplicates. Of an image with several boxes the largest or the
    first is kept; without `keep` the image is left out. Records with an invalid box, and images whose records
    contradict each other, are bad.
    """
    records = annotations.records
    boxes = np.array([record.box or NOT_A_BOX for record in records], dtype=np.float64).reshape(-1, 4)
    usable = [ok or record.box is None for ok, record in zip(is_valid(boxes).tolist(), records, strict=True)]
    first_rows: dict[str, int] = {}
    repeated: dict[int, list[int]] = {}
    for row, path in enumerate(canonical_paths([record.path for record in records])):
        first = first_rows.setdefault(str(path), row)
        if first != row:
            repeated.setdefault(first, [first]).append(row)
    bad = {
        row: invalid_box(record.box, record.text)
        for row, record in enumerate(records)
        if record.box and not usable[row]
    }
    kept: list[Record] = []
    several: list[str] = []
    reduced = duplicates = 0
    for first in first_rows.values():
        rows = [row for row in repeated.get(first, (first,)) if usable[row]]
        of_image = [records[row] for row in rows]
        if len(of_image) > 1:
            contradiction = _contradiction(of_image)
            if contradiction:
                bad[rows[0]] = contradiction
                continue
            different = {(record.box, record.label) for record in of_image}
            duplicates += len(of_image) - len(different)
            if len(different) > 1 and keep is None:
                several.append(of_image[0].image)
                continue
            reduced += len(different) > 1
            of_image = [_merged(of_image, largest=keep == "largest")]
        kept.extend(of_image)
    positives = sum(record.box is not None for record in kept)
    notes = ReadNotes(
        path=annotations.path,
        format=annotations.format,
        convention=annotations.convention,
        images=len(kept),
        positives=positives,
        negatives=len(kept) - positives,
        reduced=reduced,
        several=tuple(several),
        duplicates=duplicates,
        bad=tuple(f"{records[row].where}: {records[row].image}: {bad[row]}" for row in sorted(bad)),
    )
    return kept, notes


def invalid_box(box: Sequence[float], text: str = "") -> str:
    """Why a box is not valid; `text` is how the file wrote it."""
    x1, y1, x2, y2 = box
    shown = text or ", ".join(map(plain, box))
    if not all(map(math.isfinite, box)):
        return f"the box is not four numbers: {shown}"
    reasons = [reason for reason, is_so in (("x2 <= x1", x2 <= x1), ("y2 <= y1", y2 <= y1)) if is_so]
    return f"{' and '.join(reasons)} in the box {shown}"


def _contradiction(records: Sequence[Record]) -> str:
    """What the records of one image disagree on that no rule can settle, or ``""``."""
    splits = sorted({record.split for record in records} - {""})
    if len(splits) > 1:
        return f"the image is in the splits {' and '.join(splits)}"
    without_box = [record.where for record in records if record.box is None]
    if without_box and len(without_box) < len(records):
        return f"the image is listed with a box and without one ({without_box[0]})"
    return ""


def _merged(records: Sequence[Record], *, largest: bool) -> Record:
    """The first or the largest record of an image, with the split and the group that any of them names."""
    best = max(records, key=lambda record: float(area(record.box or (0, 0, 0, 0)))) if largest else records[0]
    split = next((record.split for record in records if record.split), "")
    group = best.group or next((record.group for record in records if record.group), "")
    return replace(best, split=split, group=group)
