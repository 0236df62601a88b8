"""What the checks report: one finding for each thing that is wrong, and the diagnosis that holds them all."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from solobox.data.formats.records import SPLITS, Annotations, Box
from solobox.data.object_size import ObjectSize

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Level: TypeAlias = Literal["error", "warning"]

CODES: dict[str, Level] = {
    # about the whole file
    "no-records": "error",
    "no-boxes": "error",
    "no-images": "error",
    "normalised-boxes": "error",
    "not-corners": "error",
    "maybe-not-corners": "warning",
    "other-layout": "error",
    "maybe-other-layout": "warning",
    "ambiguous-layout": "error",
    "scaled-images": "error",
    "unrotated-size": "error",
    "recorded-size": "warning",
    "placeholder-box": "warning",
    # what readers found
    "bad-reference": "error",
    "duplicate-id": "error",
    "missing-key": "error",
    "maybe-pose": "error",
    "labels-missing": "error",
    "ambiguous-image": "error",
    "images-collide": "error",
    "image-in-other-folder": "error",
    "images-found-elsewhere": "warning",
    "image-name-differs": "warning",
    "missing-folder": "warning",
    "unknown-class": "warning",
    "empty-image-name": "error",
    "unknown-split": "error",
    "bad-json": "error",
    "no-box": "error",
    "mask-size": "error",
    "unlabelled-images": "warning",
    "two-images": "error",
    "two-names": "warning",
    # about an image
    "missing-file": "error",
    "unreadable-image": "error",
    "other-size": "error",
    "wrong-extension": "warning",
    # about a box
    "box-not-numbers": "error",
    "corners-swapped": "error",
    "empty-box": "error",
    "box-off-image": "error",
    "box-outside": "error",
    "box-over-edge": "warning",
    "unrotated-box": "error",
    "maybe-unrotated": "warning",
    "whole-frame": "warning",
    "tiny-box": "warning",
    "odd-aspect": "warning",
    # about several rows
    "duplicate-row": "warning",
    "several-boxes": "warning",
    "conflicting-boxes": "error",
    "leaked-image": "error",
    "leaked-group": "error",
    "tiny-objects": "warning",
    "same-bytes": "warning",
    "same-image": "warning",
    "similar-images": "warning",
}
"""Every code that a finding can have, and its level. The codes are stable: scripts may rely on them."""

MAX_ROWS_PER_CODE = 10
"""How many findings of one code the table lists before it counts the rest."""


class ImageCounts(NamedTuple):
    """Different images: all of them, and those with one box, without a box, and with several."""

    images: int
    positives: int
    negatives: int
    several: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    code: one of `CODES`. level: ``error`` or ``warning``.
    where: the location for people, e.g. ``boxes.csv, row 12``; the file alone for a finding about all of it.
    row: the record's row (see `solobox.data.formats.records.Record`); 0 for a finding about the whole file.
    image: the image as the file names it; empty for a finding about the whole file.
    message: what is wrong. advice: what to do about it.
    """

    code: str
    level: Level
    where: str
    row: int
    image: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What `fix` does with one record: replace its box, or (box None) leave it out."""

    index: int
    code: str
    reason: str
    box: Box | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `check` found.

    annotations: what was checked, with boxes in pixels as the format says, before any fix.
    path, format: of them.
    findings: first those about the whole file, then in the file's order.
    n_records: records read. n_images: different images among them.
    bad_rows: indices into ``annotations.records`` of the records with an error, ascending.
    fixes: what `fix` will do, in the order of the rules.
    object_size: at the input of a model of the default size; None where no image was opened.
    auto_groups: which copies and frames training would keep together, in a sentence; empty for none, or where no image
        was decoded.
    """

    annotations: Annotations
    path: Path
    format: str
    findings: tuple[Finding, ...]
    n_records: int
    n_images: int
    bad_rows: tuple[int, ...]
    fixes: tuple[Fix, ...]
    object_size: ObjectSize | None = None
    auto_groups: str = ""

    def __str__(self) -> str:
        """One line for each finding, errors first."""
        lines = [
            f"{each.level} {each.code}: {each.where}: {f'{each.image}: ' if each.image else ''}{each.message}"
            for each in (*self.errors, *self.warnings)
        ]
        summary = (
            f"{self.path}: {self.n_images:,} images, {self.n_records:,} records; {len(self.errors)} errors, "
            f"{len(self.warnings)} warnings"
        )
        return "\n".join([summary, *lines])

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that training refuses."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that may be right: check them by eye."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def counts(self) -> dict[str, ImageCounts]:
        """The images of each split that is named (``no split`` where none is), and of all, before any fix."""
        boxes_of: dict[tuple[str, Path], set[Box]] = {}
        for record in self.annotations.records:
            boxes = boxes_of.setdefault((record.split, record.path), set())
            if record.box is not None:
                boxes.add(record.box)
        rows: dict[str, ImageCounts] = {}
        for split in (*SPLITS, ""):
            numbers = [len(boxes) for (name, _), boxes in boxes_of.items() if name == split]
            if numbers:
                rows[split or "no split"] = ImageCounts(
                    len(numbers), numbers.count(1), numbers.count(0), sum(number > 1 for number in numbers)
                )
        if len(rows) != 1:
            rows["in all"] = (
                ImageCounts(*map(sum, zip(*rows.values(), strict=True))) if rows else ImageCounts(0, 0, 0, 0)
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """All findings as plain dicts, lists, strings and numbers."""
        counts = Counter(finding.code for finding in self.findings)
        return {
            "path": str(self.path),
            "format": self.format,
            "n_records": self.n_records,
            "n_images": self.n_images,
            "n_errors": len(self.errors),
            "n_warnings": len(self.warnings),
            "n_bad_rows": len(self.bad_rows),
            "images": {name: count._asdict() for name, count in self.counts().items()},
            "n_unlabelled": len(self.annotations.unlabelled),
            "counts": {code: counts[code] for code in CODES if counts[code]},
            "findings": [
                {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
                for finding in self.findings
            ],
        }

    def table(self) -> "Table | Text":
        """A table for the terminal (rich): errors first, grouped by code, at most `MAX_ROWS_PER_CODE` lines of each.

        One line of text when nothing is wrong.
        """
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        if not self.findings:
            return Text(f"Nothing is wrong with the {self.n_records} records of {self.path.name}.", "green")
        table = Table(show_lines=False, pad_edge=False, header_style="bold")
        table.add_column("row", justify="right", no_wrap=self.format in ("csv", "article"))
        table.add_column("file", overflow="fold")
        table.add_column("what is wrong", overflow="fold", ratio=3)
        table.add_column("what to do", overflow="fold", ratio=2)
        blocks: dict[str, list[Finding]] = {}
        for finding in (*self.errors, *self.warnings):
            blocks.setdefault(finding.code, []).append(finding)
        for code, block in blocks.items():
            style = "red" if block[0].level == "error" else "yellow"
            advice = ""
            for finding in block[:MAX_ROWS_PER_CODE]:
                # the same advice ten times over hides the one line that differs
                shown = "″" if finding.advice == advice else escape(finding.advice)
                advice = finding.advice
                message = f"[{style}]{block[0].level}:[/] {escape(finding.message)}"
                table.add_row(
                    escape(self._location(finding)), escape(finding.image or self.path.name), message, shown
                )
            if len(block) > MAX_ROWS_PER_CODE:
                table.add_row(
                    "", "", f"… and {len(block) - MAX_ROWS_PER_CODE} more [bold]{code}[/]: see --json", ""
                )
            table.add_section()
        return table

    def _location(self, finding: Finding) -> str:
        if not finding.row:
            return "all"
        return str(finding.row) if self.format in ("csv", "article") else finding.where
