"""`fix`: a clean copy of annotations, and beside it a list of what was left out or changed and why."""

from dataclasses import dataclass, replace
from pathlib import Path

from solobox.data.checks.context import say
from solobox.data.checks.findings import Box, Diagnosis, Remedy
from solobox.data.formats import csv as csv_format
from solobox.data.formats.records import Annotations, Record
from solobox.errors import DataError
from solobox.utils.atomic import CsvLines, replacing

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


def fix(annotations: Annotations, diagnosis: Diagnosis, out: Path) -> FixReport:
    """Write a clean CSV copy of the annotations that `diagnosis` is about.

    Left out: records with an error that has no safe cure, repeated rows but for the first, and rows that only
    a person can judge. Changed: boxes in another layout, with swapped corners, a little over the edge, or
    drawn on the un-rotated image. All else is kept as it is, other columns included; image names become
    relative to the copy's folder. ``OUT.left-out.csv`` beside it tells the story.

    ``DataError`` when `out` is not a ``.csv``, would replace the file that was checked, or would be empty.
    The original and the images are never touched, and nothing is half written.
    """
    if len(annotations.records) != diagnosis.n_records or annotations.path != diagnosis.path:
        raise ValueError("the diagnosis is of other annotations")
    left_out = out.with_name(f"{out.stem}.left-out.csv")
    _refuse_to_replace(annotations, out, left_out)
    story = _story(diagnosis)
    kept = [
        replace(record, box=_last_box(story.get(index, []), record.box))
        for index, record in enumerate(annotations.records)
        if not _is_gone(story.get(index, []))
    ]
    if not kept:
        raise DataError(
            f"{annotations.path}: nothing would be left of {diagnosis.n_records} records; "
            "mend what the check lists by hand"
        )
    with replacing(left_out) as file:
        writer = CsvLines(file)
        writer.put(LEFT_OUT_COLUMNS)
        for index in sorted(story):
            writer.put(_line(annotations.records[index], story[index]))
        # inside, so that the story appears only once the copy it tells of is there
        csv_format.write(out, kept)
    n_left_out = diagnosis.n_records - len(kept)
    return FixReport(out, left_out, len(kept), n_left_out, len(story) - n_left_out)


def _refuse_to_replace(annotations: Annotations, out: Path, left_out: Path) -> None:
    if out.suffix.lower() != ".csv":
        raise DataError(f"{out}: the clean copy is a CSV; give it a name that ends in .csv")
    originals = {annotations.path, *(record.path for record in annotations.records)}
    taken = {path.resolve() for path in originals}
    for target in (out, left_out):
        same_file = target.exists() and annotations.path.exists() and target.samefile(annotations.path)
        if same_file or target.resolve() in taken:
            raise DataError(f"{target}: is the original; name another file for the clean copy")


def _story(diagnosis: Diagnosis) -> dict[int, list[Remedy]]:
    """Gather the remedies of each record that has any, in their order."""
    story: dict[int, list[Remedy]] = {}
    for remedy in diagnosis.remedies:
        story.setdefault(remedy.index, []).append(remedy)
    return story


def _is_gone(remedies: list[Remedy]) -> bool:
    return any(remedy.box is None for remedy in remedies)


def _last_box(remedies: list[Remedy], box: Box | None) -> Box | None:
    for remedy in remedies:
        box = remedy.box
    return box


def _line(record: Record, remedies: list[Remedy]) -> list[str]:
    gone = _is_gone(remedies)
    box = _last_box(remedies, record.box)
    told = [remedy for remedy in remedies if remedy.box is None] if gone else remedies
    return [
        str(record.row),
        record.where,
        record.image,
        "left out" if gone else "changed",
        "; ".join(remedy.code for remedy in told),
        "; ".join(remedy.reason for remedy in told),
        record.text or (say(record.box) if record.box is not None else ""),
        "" if gone or box is None else say(box),
    ]
