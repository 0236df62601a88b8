"""What the checks says: one finding for each thing that is wrong, and the diagnosis that holds them all."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.markup import escape
from rich.table import Table
from rich.text import Text

Level: TypeAlias = Literal["error", "warning"]
Box: TypeAlias = tuple[float, float, float, float]

CODES: dict[str, Level] = {
    # about the whole file
    "no-records": "error",
    "no-boxes": "error",
    "no-images": "error",
    "normalised-boxes": "error",
    "not-corners": "error",
    "maybe-not-corners": "warning",
    # about an image
    "missing-file": "error",
    "unreadable-image": "error",
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
    # about rows beside each other
    "duplicate-row": "warning",
    "several-boxes": "warning",
    "conflicting-boxes": "error",
    "leaked-image": "error",
    "leaked-group": "error",
    "same-bytes": "warning",
}
"""Every code a finding can have, and how grave it is. The codes are stable: scripts may rely on them."""

SHOWN = 10
"""How many findings of one code the table lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    code: one of `CODES`. level: ``error`` or ``warning``.
    where: the place for a person, e.g. ``boxes.csv, row 12``; the file alone for a finding about all of it.
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
class Remedy:
    """What `fix` does with one record: give it another box, or (box None) leave it out."""

    index: int
    code: str
    reason: str
    box: Box | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `check` found.

    path, format: of the annotations that were checked.
    findings: first those about the whole file, then in the file's order.
    n_records: records read. n_images: different images among them.
    bad_rows: indices into ``annotations.records`` of the records with an error, ascending.
    remedies: what `fix` will do, in the findings' order.
    """

    path: Path
    format: str
    findings: tuple[Finding, ...]
    n_records: int
    n_images: int
    bad_rows: tuple[int, ...]
    remedies: tuple[Remedy, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that training must not start with."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings worth a look."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def to_json(self) -> dict[str, Any]:
        """Give everything that was found as plain dicts, lists, strings and numbers."""
        counts = Counter(finding.code for finding in self.findings)
        return {
            "path": str(self.path),
            "format": self.format,
            "n_records": self.n_records,
            "n_images": self.n_images,
            "n_errors": len(self.errors),
            "n_warnings": len(self.warnings),
            "n_bad_rows": len(self.bad_rows),
            "counts": {code: counts[code] for code in CODES if counts[code]},
            "findings": [
                {name: getattr(finding, name) for name in Finding.__dataclass_fields__}
                for finding in self.findings
            ],
        }

    def table(self) -> Table | Text:
        """Make a table for a terminal: errors first, a block for each code, at most `SHOWN` lines in it.

        One line that says so when nothing was found.
        """
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
            for finding in block[:SHOWN]:
                # the same advice ten times over hides the one line that differs
                shown = "″" if finding.advice == advice else escape(finding.advice)
                advice = finding.advice
                message = f"[{style}]{block[0].level}:[/] {escape(finding.message)}"
                table.add_row(self._place(finding), escape(finding.image or self.path.name), message, shown)
            if len(block) > SHOWN:
                table.add_row("", "", f"… and {len(block) - SHOWN} more [bold]{code}[/]: see --json", "")
            table.add_section()
        return table

    def _place(self, finding: Finding) -> str:
        if not finding.row:
            return "all"
        return str(finding.row) if self.format in ("csv", "article") else escape(finding.where)
