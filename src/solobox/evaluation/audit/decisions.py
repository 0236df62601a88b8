"""Decisions about the labels of an audit, by a person or a rule, and a corrected copy of the data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from solobox.boxes import Floats, is_valid
from solobox.data.checks import left_out_path
from solobox.data.dataset import Dataset
from solobox.data.formats import csv as csv_format
from solobox.data.formats.writing import plain
from solobox.errors import DataError
from solobox.evaluation.audit.label_audit import Audit
from solobox.utils.atomic import replacing
from solobox.utils.json_utils import parse_json
from solobox.utils.outputs import check_outputs
from solobox.utils.text import CsvLines, printable

FORMAT = "solobox audit decisions 1"
"""The value of ``format`` in a file of decisions."""

AUDIT_COLUMNS = (
    "image", "rank", "score", "flagged", "kind", "iou", "x1", "y1", "x2", "y2", "model_x1", "model_y1", "model_x2",
    "model_y2", "why",
)  # fmt: skip

_DECIMALS = 2  # of a predicted box, as in the columns of predictions

LEFT_OUT_COLUMNS = ("where", "image", "done", "kind", "why", "box_before", "box_after")


class Choice(StrEnum):
    """What to do with a label."""

    ACCEPT = "accept"
    MODEL = "model"
    DROP = "drop"
    EMPTY = "empty"


_REASONS = {
    Choice.ACCEPT: "accepted",
    Choice.MODEL: "replaced by the predicted box",
    Choice.DROP: "image dropped",
    Choice.EMPTY: "marked as an image without the object",
}


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What to do with the label of one image.

    image: name of the image in the dataset. choice: accept the label, replace it by the predicted box, drop the image,
        or mark the image as one without the object.
    label: shape (4,), the label that was reviewed; NaN if there was none. predicted: shape (4,), the predicted box, for
        `Choice.MODEL`; NaN if there is none.
    kind: of the label error. why: explanation in one sentence.
    """

    image: str
    choice: Choice
    label: Floats
    predicted: Floats
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class AppliedDecisions:
    """The files that `apply_decisions` wrote, and its counts of rows."""

    out: Path
    left_out: Path
    n_kept: int
    n_dropped: int
    n_changed: int


def drop_flagged(audit: Audit, dataset: Dataset) -> list[Decision]:
    """Decisions without a person: drop every flagged image.

    Labels are not replaced by predicted boxes: a systematic error of the model would then be learned from them, and
    training on the remaining images measured as good (bench/LOG.md).
    """
    return [
        Decision(
            image=dataset.names[finding.row],
            choice=Choice.DROP,
            label=finding.label,
            predicted=finding.predicted,
            kind=finding.kind.value,
            why=finding.why,
        )
        for finding in audit.flagged
    ]


def read_decisions(path: Path) -> list[Decision]:
    """Read the file of decisions that the audit page saves.

    Raises DataError ``decisions-unreadable`` for a file that is not JSON or not a file of decisions, and
    ``decision-invalid``, naming the entry, for an entry without an image, an unknown decision, an invalid box, or two
    decisions for one image.
    """
    try:
        tree = parse_json(path.read_text(encoding="utf-8"), allow_nan=True)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", code="decisions-unreadable"
        ) from None
    except ValueError as error:
        raise DataError(
            f"{path}: is not JSON ({error}); save the decisions again from the audit page",
            code="decisions-unreadable",
        ) from None
    entries = tree.get("decisions") if isinstance(tree, dict) and tree.get("format") == FORMAT else None
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: is not a file of decisions saved by an audit page (format {FORMAT!r})",
            code="decisions-unreadable",
        )
    decisions: dict[str, Decision] = {}
    for number, entry in enumerate(entries, 1):
        image = entry.get("image") if isinstance(entry, dict) else None
        where = f"{path}, entry {number}" + (f" ({image})" if isinstance(image, str) else "")
        if not isinstance(entry, dict) or not isinstance(image, str) or not image:
            raise _invalid(f"{where}: has no image; an entry has image, decision, label and model")
        if image in decisions:
            raise _invalid(f"{where}: there is a decision for this image already; remove one of the entries")
        decisions[image] = _decision(entry, image, where)
    return list(decisions.values())


def _decision(entry: Mapping[str, Any], image: str, where: str) -> Decision:
    word = entry.get("decision")
    if word not in tuple(Choice):
        raise _invalid(f"{where}: the decision is {word!r}, not one of {', '.join(Choice)}")
    label, predicted = (_box(entry, name, where) for name in ("label", "model"))
    choice = Choice(word)
    if choice is Choice.MODEL and np.isnan(predicted).any():
        raise _invalid(f"{where}: takes the predicted box, but there is none")
    return Decision(
        image,
        choice,
        label,
        predicted,
        str(entry.get("kind", "")),
        f"reviewed by a person: {_REASONS[choice]}",
    )


def _box(entry: Mapping[str, Any], name: str, where: str) -> Floats:
    value = entry.get(name)
    if value is None:
        return np.full(4, np.nan)
    numbers = isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in value
    )
    if not numbers or len(value) != 4 or not is_valid(value):
        raise _invalid(
            f"{where}: {name} must be four numbers x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {value!r}"
        )
    return np.array(value, dtype=np.float64)


def _invalid(text: str) -> DataError:
    return DataError(text, code="decision-invalid")


def apply_decisions(
    dataset: Dataset,
    decisions: Sequence[Decision],
    out: Path,
    *,
    protected: Sequence[Path] = (),
    raw: bool = False,
) -> AppliedDecisions:
    """Write the dataset with the decisions applied to a new CSV, and all changes to ``OUT.left-out.csv`` beside it.

    Images without a decision keep their labels. A predicted box becomes a label with the two decimals that it has
    elsewhere, and a decision is about the label that it names to within such a rounding. The copy keeps image names,
    see `Dataset.write`. protected: files that must not be overwritten, beside the data and the images. raw: as in
    `CsvLines`. Both files are written completely or not at all.

    Raises DataError ``not-csv`` if `out` does not end in ``.csv``, ``output-is-input`` if it would overwrite the
    data, an image or a protected file, ``decision-outdated`` for a decision about an image that is not in the dataset
    or whose label has changed, and ``nothing-left`` if no image would remain.
    """
    left_out = left_out_path(out)
    inputs = [*([dataset.notes.path] if dataset.notes.path is not None else []), *protected]
    inputs += [image for image in dataset.images if isinstance(image, Path)]
    check_outputs({"the copy": out, "its list": left_out}, inputs, overwrite=True)
    row_of = {name: row for row, name in enumerate(dataset.names)}
    boxes, keep, changes = dataset.boxes.copy(), np.ones(len(dataset), dtype=np.bool_), []
    for number, decision in enumerate(decisions, 1):
        row = row_of.get(decision.image)
        if row is None:
            raise DataError(
                f"decision {number} ({decision.image}): the data has no such image", code="decision-outdated"
            )
        before = dataset.boxes[row]
        if not np.allclose(before, decision.label, rtol=0, atol=0.51 * 10**-_DECIMALS, equal_nan=True):
            raise DataError(
                f"decision {number} ({decision.image}): was made for the label {_text(decision.label)}, which is "
                f"{_text(before)} now; audit the data again",
                code="decision-outdated",
            )
        if decision.choice is Choice.ACCEPT:
            continue
        keep[row] = decision.choice is not Choice.DROP
        if keep[row]:
            boxes[row] = _rounded(decision.predicted) if decision.choice is Choice.MODEL else np.nan
        where = dataset.where[row] or f"row {row + 1}"
        done = "changed" if keep[row] else "left out"
        after = _text(boxes[row]) if keep[row] else ""
        names = printable(where), printable(decision.image)
        changes.append((row, (*names, done, decision.kind, decision.why, _text(before), after)))
    if not keep.any():
        raise DataError(
            f"{out}: none of {len(dataset):,} images would remain; accept some of the labels",
            code="nothing-left",
        )
    corrected = Dataset(
        dataset.images, boxes, dataset.split, dataset.group, dataset.label, dataset.source, dataset.extra,
        dataset.names, dataset.where, dataset.notes,
    ).select(keep)  # fmt: skip
    with replacing(left_out) as file:
        writer = CsvLines(file, raw=raw)
        writer.put(LEFT_OUT_COLUMNS)
        for _, line in sorted(changes):
            writer.put(line)
        _ = corrected.paths  # only files can be named
        # inside, so that the list of changes appears only if the copy does
        csv_format.write(out, corrected.annotations().records, raw=raw)
    dropped = len(dataset) - len(corrected)
    return AppliedDecisions(out, left_out, len(corrected), dropped, len(changes) - dropped)


def write_audit(path: Path, audit: Audit, dataset: Dataset, *, raw: bool = False) -> None:
    """Write the findings as a CSV, worst first, with image names as in the dataset; completely or not at all.

    raw: as in `CsvLines`.
    """
    with replacing(path) as file:
        writer = CsvLines(file, raw=raw)
        writer.put(AUDIT_COLUMNS)
        for rank, finding in enumerate(audit.findings, 1):
            writer.put(
                [
                    printable(dataset.names[finding.row]), rank,
                    f"{finding.score:.3f}" if math.isfinite(finding.score) else "inf",
                    "yes" if finding.flagged else "no", finding.kind.value,
                    "" if math.isnan(finding.iou) else f"{finding.iou:.4f}",
                    *_cells(finding.label), *_cells(_rounded(finding.predicted)), printable(finding.why),
                ]
            )  # fmt: skip


def _rounded(box: Floats) -> Floats:
    """A box with `_DECIMALS`, or as it is where it would have no area then, or is NaN."""
    rounded = np.round(box, _DECIMALS)
    return rounded if is_valid(rounded) else box


def _cells(box: Floats) -> list[str]:
    return [""] * 4 if np.isnan(box).any() else [plain(value) for value in box.tolist()]


def _text(box: Floats) -> str:
    return ", ".join(map(plain, box.tolist())) if not np.isnan(box).any() else "none"
