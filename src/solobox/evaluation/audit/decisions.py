"""From an audit to clean labels: decisions, made by a person or by rule, and a new CSV; the data is never changed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from solobox.boxes import Floats, is_valid
from solobox.data.dataset import Dataset
from solobox.data.formats.writing import plain
from solobox.errors import DataError
from solobox.evaluation.audit.findings import Audit
from solobox.utils.atomic import CsvLines, replacing

FORMAT = "solobox audit decisions 1"
"""What a file of decisions says it is."""

STORY_COLUMNS = ("where", "image", "done", "kind", "why", "box_before", "box_after")


class Choice(StrEnum):
    """What becomes of a label."""

    ACCEPT = "accept"
    MODEL = "model"
    DROP = "drop"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What becomes of one image's label.

    image: the image as its data names it. choice: accept the label, take the model's box, drop the image, or
        list the image as one without the object.
    label: shape (4,), the label that was judged; NaN where there was none. model: shape (4,), the model's box, which
        `Choice.MODEL` takes; NaN where there is none.
    kind: what the audit found. why: a sentence for the story.
    """

    image: str
    choice: Choice
    label: Floats
    model: Floats
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` wrote: the new data, the story beside it, and counts of rows."""

    out: Path
    story: Path
    n_kept: int
    n_dropped: int
    n_changed: int


def by_rule(audit: Audit, dataset: Dataset) -> list[Decision]:
    """Decisions without a person: every flagged image is dropped.

    The model's boxes are not taken in place of labels: where it errs with all its kind it would teach itself the
    error, and measured training on what is left is as good (bench/LOG.md).
    """
    return [
        Decision(
            dataset.names[finding.row],
            Choice.DROP,
            finding.label,
            finding.model,
            finding.kind.value,
            finding.why,
        )
        for finding in audit.flagged
    ]


def read_decisions(path: Path) -> list[Decision]:
    """Read the file that the audit's page saves.

    ``DataError``, naming the entry, for what is not such a file: no JSON, an entry without an image, an unknown
    decision, a box that is none, two decisions about one image.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(
            f"{path}: is no JSON ({error}); save the decisions anew from the audit's page"
        ) from None
    if (
        not isinstance(tree, dict)
        or tree.get("format") != FORMAT
        or not isinstance(tree.get("decisions"), list)
    ):
        raise DataError(f"{path}: is no file of decisions that an audit's page saved ({FORMAT!r})")
    found: dict[str, Decision] = {}
    for number, entry in enumerate(tree["decisions"], 1):
        image = entry.get("image") if isinstance(entry, dict) else None
        where = f"{path}, entry {number}" + (f" ({image})" if isinstance(image, str) else "")
        if not isinstance(entry, dict) or not isinstance(image, str) or not image:
            raise DataError(f"{where}: names no image; an entry has image, decision, label and model")
        if image in found:
            raise DataError(f"{where}: this image was decided on already; leave one of the entries")
        found[image] = _decision(entry, image, where)
    return list(found.values())


def _decision(entry: Mapping[str, Any], image: str, where: str) -> Decision:
    word = entry.get("decision")
    if word not in tuple(Choice):
        raise DataError(f"{where}: the decision {word!r} is none of {', '.join(Choice)}")
    label, model = (_box(entry, name, where) for name in ("label", "model"))
    if word == Choice.MODEL and np.isnan(model).any():
        raise DataError(f"{where}: takes the model's box, and there is none")
    kind = str(entry.get("kind", ""))
    said = {
        Choice.ACCEPT: "accepted as it is",
        Choice.MODEL: "the model's box was taken",
        Choice.DROP: "the image was dropped",
        Choice.EMPTY: "listed as an image without the object",
    }
    return Decision(image, Choice(word), label, model, kind, f"decided by a person: {said[Choice(word)]}")


def _box(entry: Mapping[str, Any], name: str, where: str) -> Floats:
    value = entry.get(name)
    if value is None:
        return np.full(4, np.nan)
    numbers = isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in value
    )
    if not numbers or len(value) != 4 or not is_valid(value):
        raise DataError(
            f"{where}: {name} is four numbers x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {value!r}"
        )
    return np.array(value, dtype=np.float64)


def apply(
    dataset: Dataset, decisions: Sequence[Decision], out: Path, *, never: Sequence[Path] = ()
) -> Applied:
    """Write a new CSV of the samples by some decisions, and ``OUT.left-out.csv`` beside it, which tells the story.

    Images without a decision keep their rows as they are. never: other files that must not be replaced.

    ``DataError`` when `out` is not a ``.csv``, would replace the data, an image or one of `never`, or would be
    empty; and for a decision about an image that is not there or whose label is another one now. Nothing is half
    written.
    """
    story = out.with_name(f"{out.stem}.left-out.csv")
    if out.suffix.lower() != ".csv":
        raise DataError(f"{out}: the clean copy is a CSV; give it a name that ends in .csv")
    for target in (out, story):
        refuse_to_replace(target, dataset, never)
    row_of = {name: row for row, name in enumerate(dataset.names)}
    boxes, keep, lines = dataset.boxes.copy(), np.ones(len(dataset), dtype=np.bool_), []
    for number, decision in enumerate(decisions, 1):
        row = row_of.get(decision.image)
        if row is None:
            raise DataError(f"decision {number} ({decision.image}): the data lists no such image")
        before = dataset.boxes[row]
        if not np.allclose(before, decision.label, rtol=0, atol=1e-6, equal_nan=True):
            raise DataError(
                f"decision {number} ({decision.image}): was about the label {_said(decision.label)}, which is "
                f"{_said(before)} now; audit the data anew"
            )
        if decision.choice is Choice.ACCEPT:
            continue
        keep[row] = decision.choice is not Choice.DROP
        if keep[row]:
            boxes[row] = decision.model if decision.choice is Choice.MODEL else np.nan
        where = dataset.where[row] or f"row {row + 1}"
        done = "changed" if keep[row] else "left out"
        after = _said(boxes[row]) if keep[row] else ""
        lines.append((row, (where, decision.image, done, decision.kind, decision.why, _said(before), after)))
    if not keep.any():
        raise DataError(f"{out}: nothing would be left of {len(dataset):,} images; accept some of the labels")
    clean = Dataset(
        dataset.images, boxes, dataset.split, dataset.group, dataset.label, dataset.source, dataset.extra,
        dataset.names, dataset.where, dataset.notes,
    ).select(keep)  # fmt: skip
    with replacing(story) as file:
        writer = CsvLines(file)
        writer.put(STORY_COLUMNS)
        for _, line in sorted(lines):
            writer.put(line)
        clean.write(out)  # inside, so that the story appears only once the copy it tells of is there
    dropped = len(dataset) - len(clean)
    return Applied(out, story, len(clean), dropped, len(lines) - dropped)


def refuse_to_replace(target: Path, dataset: Dataset, never: Sequence[Path] = ()) -> None:
    """``DataError`` where `target` is the data that the samples were read from, one of its images or of `never`."""
    data = [dataset.notes.path] if dataset.notes.path is not None else []
    for path in (*data, *never):
        if target.resolve() == path.resolve() or (
            target.exists() and path.exists() and target.samefile(path)
        ):
            raise DataError(f"{target}: is one of the files that are read; name another one to write to")
    if target.resolve() in {image.resolve() for image in dataset.images if isinstance(image, Path)}:
        raise DataError(f"{target}: is one of the images; name another file")


def write_audit(path: Path, audit: Audit, dataset: Dataset) -> None:
    """Write the findings as a CSV, worst first, images as the data names them. Whole or not at all."""
    with replacing(path) as file:
        writer = CsvLines(file)
        writer.put(AUDIT_COLUMNS)
        for rank, finding in enumerate(audit.findings, 1):
            writer.put(
                [
                    dataset.names[finding.row], rank,
                    f"{finding.score:.3f}" if math.isfinite(finding.score) else "inf",
                    "yes" if finding.flagged else "no", finding.kind.value,
                    "" if math.isnan(finding.iou) else f"{finding.iou:.4f}",
                    *_cells(finding.label), *_cells(np.round(finding.model, 2)), finding.why,
                ]
            )  # fmt: skip


AUDIT_COLUMNS = (
    "image", "rank", "score", "flagged", "kind", "iou", "x1", "y1", "x2", "y2", "model_x1", "model_y1", "model_x2",
    "model_y2", "why",
)  # fmt: skip


def _cells(box: Floats) -> list[str]:
    return [""] * 4 if np.isnan(box).any() else [plain(value) for value in box.tolist()]


def _said(box: Floats) -> str:
    return ", ".join(plain(round(value, 2)) for value in box.tolist()) if not np.isnan(box).any() else "none"
