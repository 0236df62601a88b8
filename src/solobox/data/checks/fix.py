"""`fix`: a clean copy of annotations, and a list of what was left out or changed, and why."""

from dataclasses import dataclass, replace
from pathlib import Path

from solobox.data import formats
from solobox.data.checks.context import format_box
from solobox.data.checks.diagnosis import Diagnosis, Fix
from solobox.data.formats import csv as csv_format
from solobox.data.formats.records import Box, Record
from solobox.errors import DataError
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs
from solobox.utils.text import CsvLines, printable

LEFT_OUT_COLUMNS = ("row", "where", "image", "done", "code", "why", "box_before", "box_after")


@dataclass(frozen=True, slots=True)
class FixReport:
    """What `fix` wrote.

    out: the clean CSV. left_out: the CSV beside it that lists each record left out or changed, and why.
    n_kept: records in `out`, the changed ones included. n_left_out, n_changed: records.
    """

    out: Path
    left_out: Path
    n_kept: int
    n_left_out: int
    n_changed: int


def fix(diagnosis: Diagnosis, out: Path, *, raw: bool = False) -> FixReport:
    """Write a clean CSV copy of the annotations that `diagnosis` is about.

    Left out: records with an error that has no safe fix, repeated rows except the first, and rows that only a person
    can decide. Changed: boxes in another convention, with swapped corners, a little over the edge, or drawn on the
    unrotated image. Everything else is kept, other columns included; ``image`` becomes relative to the copy's folder,
    and ``original_image`` keeps the name where that differs: the copy is read with the same ``images`` or without, and
    its splits are the same.
    ``OUT.left-out.csv`` beside it lists what was left out or changed, and why. raw: as in `CsvLines`, of both.

    Raises DataError: ``not-csv`` for another suffix, ``output-is-input``, ``nothing-left``.
    The original and the images are never touched, and nothing is half written.
    """
    annotations = diagnosis.annotations
    left_out = left_out_path(out)
    check_outputs({"the copy": out, "its list": left_out}, formats.files(annotations), overwrite=True)
    fixes_of = _fixes_by_record(diagnosis)
    kept = [
        replace(record, box=_last_box(fixes_of.get(index, []), record.box))
        for index, record in enumerate(annotations.records)
        if not _is_gone(fixes_of.get(index, []))
    ]
    if not kept:
        raise DataError(
            f"{annotations.path}: nothing would be left of {diagnosis.n_records} records: correct by hand "
            "what the check lists",
            code="nothing-left",
        )
    with replacing(left_out) as file:
        writer = CsvLines(file, raw=raw)
        writer.put(LEFT_OUT_COLUMNS)
        for index in sorted(fixes_of):
            writer.put(_line(annotations.records[index], fixes_of[index]))
        # inside, so that the list appears only once the copy exists
        csv_format.write(out, kept, raw=raw)
    n_left_out = diagnosis.n_records - len(kept)
    return FixReport(out, left_out, len(kept), n_left_out, len(fixes_of) - n_left_out)


def left_out_path(out: Path) -> Path:
    """The list beside a corrected copy: ``clean.left-out.csv`` for ``clean.csv``.

    Raises DataError, ``not-csv``, for another suffix.
    """
    if out.suffix.lower() != ".csv":
        raise DataError(f"{out}: the clean copy is a CSV: give it a name that ends in .csv", code="not-csv")
    return out.with_name(f"{out.stem}.left-out.csv")


def _fixes_by_record(diagnosis: Diagnosis) -> dict[int, list[Fix]]:
    """The fixes of each record that has any, in their order."""
    fixes_of: dict[int, list[Fix]] = {}
    for fix in diagnosis.fixes:
        fixes_of.setdefault(fix.index, []).append(fix)
    return fixes_of


def _is_gone(fixes: list[Fix]) -> bool:
    return any(fix.box is None for fix in fixes)


def _last_box(fixes: list[Fix], box: Box | None) -> Box | None:
    for fix in fixes:
        box = fix.box
    return box


def _line(record: Record, fixes: list[Fix]) -> list[str]:
    gone = _is_gone(fixes)
    box = _last_box(fixes, record.box)
    shown = [fix for fix in fixes if fix.box is None] if gone else fixes
    return [
        str(record.row),
        printable(record.where),
        printable(record.image),
        "left out" if gone else "changed",
        "; ".join(fix.code for fix in shown),
        "; ".join(fix.reason for fix in shown),
        record.text or (format_box(record.box) if record.box is not None else ""),
        "" if gone or box is None else format_box(box),
    ]
