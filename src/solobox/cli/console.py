"""What commands share: the console, progress bars, the table of metrics."""

import logging
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from solobox.evaluation.metrics import Evaluation

console = Console(stderr=True)
"""For remarks, bars and errors."""

out = Console()
"""For what a command was asked for: tables."""


class Bars:
    """Progress bars of a run's stages; a `solobox.utils.progress.Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None) -> None:
        """Leave the last bar full and begin another; None where nobody knows how long it takes."""
        self._task = self._progress.add_task(stage, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, advance=steps, note=note)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on the console while the block runs."""
    quieten()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12, table_column=Column(min_width=8)),
        # In a terminal of 80 columns it is the words that give way, not the figures.
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


def quieten() -> None:
    """Keep libraries' remarks, which no user of this program can act on, off the screen."""
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities", "timm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning_fabric|lightning|timm|torch)(\..*)?$")


Rows: TypeAlias = Sequence[tuple[str, Mapping[str, object]]]


def metrics_table(title: str, rows: Rows) -> Table:
    """Metrics as a table: a row for each set of images (all, then each label)."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("")
    heads = {
        "n": "images", "mean_iou": "mean IoU", "iou50": "IoU≥.5", "iou75": "IoU≥.75", "iou90": "IoU≥.9",
        "edge_mae_px": "edge error px", "center_mae_px": "centre error px",
    }  # fmt: skip
    for head in heads.values():
        table.add_column(head, justify="right")
    for name, metrics in rows:
        cells = []
        for key in heads:
            value = metrics.get(key)
            if isinstance(value, int):
                cells.append(f"{value:,}")
            elif isinstance(value, float):
                cells.append(f"{value:.1f}" if key.endswith("_px") else f"{value:.3f}")
            else:
                cells.append("–")
        table.add_row(Text(name), *cells)
    return table


def as_rows(metrics: Mapping[str, object]) -> Rows:
    """The rows of `metrics_table` from metrics as JSON: all images, then each label."""
    labels = metrics.get("by_label")
    by_label = labels if isinstance(labels, dict) else {}
    return [
        ("all", metrics),
        *((name or "(no label)", row) for name, row in by_label.items()),
    ]


def trust_lines(evaluation: "Evaluation") -> list[str]:
    """How far the figures and the model can be trusted, a line for each thing that is known."""
    n, found = evaluation.metrics.n, evaluation.intervals.get("mean_iou")
    lines = []
    if found is not None and found.lower == found.lower:  # NaN is unequal to itself
        by = f"{n:,} images" + (f" in {evaluation.n_groups:,} groups" if evaluation.n_groups else "")
        lines.append(
            f"mean IoU: {evaluation.metrics.mean_iou:.3f}, {100 * found.level:g}% confidence {found.lower:.3f} to "
            f"{found.upper:.3f} (bootstrap over {by})"
        )
    if margins := evaluation.coverage:
        between = margins.interval
        known = f" ({100 * between.level:g}% confidence {between.lower:.3f} to {between.upper:.3f})"
        lines.append(
            f"margins at {margins.level:g}: they hold the whole true box in {margins.share:.3f} of {margins.n:,} "
            f"images{known if between.lower == between.lower else ''}; outer box "
            f"{margins.outer_to_predicted:.2f} times the predicted one's area"
        )
    if presence := evaluation.presence:
        lines.append(
            f"presence: AUROC {presence.auroc:.3f}, expected calibration error {presence.ece:.3f} "
            f"({presence.n_positives:,} images with the object, {presence.n_negatives:,} without)"
        )
    wrong = ((evaluation.n_missed, "missed objects"), (evaluation.n_false_alarms, "false alarms"))
    if counts := [f"{number:,} {what}" for number, what in wrong if number is not None]:
        lines.append(f"presence at 0.5: {', '.join(counts)}")
    if familiar := evaluation.familiarity:
        lines.append(
            f"familiarity: median {familiar.median:.2f}; {100 * familiar.strange:.1f}% of the images are like hardly "
            "any of training"
        )
    return lines


def command_line() -> str:
    """The command that runs now, as a person would type it."""
    return shlex.join(["solobox", *sys.argv[1:]])
