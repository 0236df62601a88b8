"""Which records become rows of a dataset: those without errors, one for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats, is_valid
from solobox.config.choices import Keep
from solobox.data import checks, in_memory
from solobox.data.checks import CheckLevel, Diagnosis
from solobox.data.formats import SPLITS, Annotations, Record
from solobox.data.formats.records import Problem
from solobox.data.one_per_image import ReadNotes, invalid_box, one_per_image
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.utils.progress import Progress
from solobox.utils.text import count_of

Check: TypeAlias = Literal["off"] | CheckLevel

_MAX_LISTED = 5
"""Errors that a message lists before it counts the rest."""


def usable_records(
    annotations: Annotations,
    *,
    keep: Keep | None,
    check: Check,
    skip_bad: bool,
    sources: Mapping[Path, ImageInput] | None,
    progress: Progress | None,
) -> tuple[list[Record], ReadNotes]:
    """Check the records and reduce them to one for each image, in the order in which the images first appear.

    The arguments are those of `Dataset.from_annotations`. Raises DataError: ``data-errors``, ``nothing-left``;
    ConfigError: ``unknown-choice``.
    """
    if keep not in {None, "largest", "first"}:
        raise ConfigError(f"keep is 'largest' or 'first', not {keep!r}", code="unknown-choice")
    if check not in {"off", "numbers", "headers", "pixels"}:
        raise ConfigError(
            f"check is 'off', 'numbers', 'headers' or 'pixels', not {check!r}", code="unknown-choice"
        )
    left_out: tuple[str, ...] = ()
    if check != "off":
        diagnosis = checks.check(annotations, check, in_memory=sources, progress=progress)
        annotations, left_out = _without_bad_rows(diagnosis, skip_bad=skip_bad)
    else:
        annotations = checks.in_pixels(annotations, in_memory=sources, progress=progress)
    kept, notes = one_per_image(annotations, keep)
    if notes.bad and not skip_bad:
        raise DataError(_refusal(annotations, notes.bad, len(notes.bad)), code="data-errors")
    notes = replace(notes, bad=(*left_out, *notes.bad))
    if annotations.format == in_memory.FORMAT:
        notes = replace(notes, path=None)
    if not kept:
        raise DataError(_nothing_left(annotations.path, notes), code="nothing-left")
    return kept, notes


def box_table(boxes: npt.ArrayLike, count: int) -> Floats:
    """A read-only copy (count, 4) of boxes, which cannot change after it was checked. Raises ValueError."""
    table = np.array(boxes, dtype=np.float64)
    if count == 0 and table.size == 0:
        table = table.reshape(0, 4)
    if table.shape != (count, 4):
        raise ValueError(f"{count} images go with boxes of shape ({count}, 4), not {table.shape}")
    table.flags.writeable = False
    return table


def check_rows(boxes: Floats, names: Sequence[str], split: Sequence[str], where: Sequence[str]) -> None:
    """Raise DataError for a box that is neither valid nor all NaN (``invalid-box``) and for ``unknown-split``."""
    invalid = np.flatnonzero(~(is_valid(boxes) | np.isnan(boxes).all(axis=-1))).tolist()
    if invalid:
        rows = [
            f"{where[row] or f'row {row + 1}'}: {names[row]}: {invalid_box(boxes[row].tolist())}"
            for row in invalid
        ]
        raise DataError(f"{count_of(len(rows), 'row')} cannot be used:{_list(rows)}", code="invalid-box")
    unknown = sorted(set(split) - {"", *SPLITS})
    if unknown:
        raise DataError(
            f"the split {unknown[0]!r} is unknown; the splits are {', '.join(SPLITS)}", code="unknown-split"
        )


def _without_bad_rows(diagnosis: Diagnosis, *, skip_bad: bool) -> tuple[Annotations, tuple[str, ...]]:
    """The annotations without the rows with errors, and those rows in words. Raises DataError unless `skip_bad`."""
    annotations = diagnosis.annotations
    if not diagnosis.errors:
        return annotations, ()
    bad = set(diagnosis.bad_rows)
    # What a reader found of a row that gave no record is left out already.
    rows = [each for each in diagnosis.errors if each.row]
    if not skip_bad or not (bad or len(rows) == len(diagnosis.errors)):
        errors = [
            f"{each.where}: {f'{each.image}: ' if each.image else ''}{each.message}: {each.advice}"
            for each in diagnosis.errors
        ]
        raise DataError(_refusal(annotations, errors, len(bad)), code="data-errors")
    message = {fix.index: fix.reason for fix in diagnosis.fixes if fix.index in bad}
    records = annotations.records
    left_out = tuple(
        f"{each.where}: {each.image}: {each.message}"
        for each in annotations.problems
        if _gave_no_record(each)
    )
    left_out += tuple(f"{records[row].where}: {records[row].image}: {message[row]}" for row in sorted(bad))
    rest = tuple(record for row, record in enumerate(records) if row not in bad)
    return replace(annotations, records=rest), left_out


def _gave_no_record(problem: Problem) -> bool:
    return problem.record is None and problem.row > 0 and checks.CODES[problem.code] == "error"


def _refusal(annotations: Annotations, errors: Sequence[str], bad_rows: int) -> str:
    advice = []
    if annotations.format != in_memory.FORMAT:
        advice.append(
            f"`solobox check {annotations.path}` lists all of them, and with --fix CLEAN.csv writes a clean copy."
        )
    if 0 < bad_rows < len(annotations.records):
        advice.append("--skip-bad (skip_bad=True) leaves the rows with errors out.")
    return (
        f"{annotations.path}: {count_of(len(errors), 'error')}:{_list(errors)}\n{' '.join(advice)}".rstrip()
    )


def _nothing_left(path: Path, notes: ReadNotes) -> str:
    reasons = []
    if notes.several:
        reasons.append(f"{count_of(len(notes.several), 'image')} with several boxes (keep takes one of them)")
    if notes.bad:
        reasons.append(f"{count_of(len(notes.bad), 'bad row')}:{_list(notes.bad)}")
    return f"{path}: no image is left to use: {', '.join(reasons) or 'it lists none'}"


def _list(rows: Sequence[str]) -> str:
    more = f"\n  and {len(rows) - _MAX_LISTED:,} more" if len(rows) > _MAX_LISTED else ""
    return "".join(f"\n  {row}" for row in rows[:_MAX_LISTED]) + more
