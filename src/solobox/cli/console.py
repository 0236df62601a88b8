"""What commands share: consoles, progress bars, the table of metrics."""

import logging
import shlex
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from solobox.evaluation.metrics import Evaluation

T = TypeVar("T")

Flag = Parameter(negative="", show_default=False)
"""An option without a value."""

Overwrite: TypeAlias = Annotated[bool, Parameter(help="Replace outputs that exist."), Flag]

Raw: TypeAlias = Annotated[
    bool,
    Parameter(
        help="Write text into CSV files as it is. By default text that a spreadsheet would run as a formula (it begins "
        "with = + - @) gets an apostrophe before it, which Solobox takes off again when it reads the file."
    ),
    Flag,
]

_SPELLED = str.maketrans(
    {"≥": ">=", "–": "-", "−": "-", "″": '"', "…": "...", "×": "x", "→": "->", "±": "+-"}
)
"""Our own signs in ASCII."""


class _Spelled:
    """A text file that gets our signs in ASCII, because its encoding may not have them."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.translate(_SPELLED))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class StandardConsole(Console):
    """Rich's console for any code page, and for a reader that ends first: it then raises BrokenPipeError."""

    @property
    def file(self) -> IO[str]:
        """The stream."""
        file = super().file
        encoding = (getattr(file, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
        return file if encoding.startswith("utf") else cast("IO[str]", _Spelled(file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def on_broken_pipe(self) -> None:
        """Rich would end the program with status 1, which means something else here."""
        self.quiet = True  # whatever is printed on the way out
        raise BrokenPipeError


console = StandardConsole(stderr=True)
"""Standard error: notes, progress bars and errors."""

out = StandardConsole()
"""Standard output: results."""


def say(text: str) -> None:
    """Print a line on standard error, as it is: without markup, colors or line breaks that cut paths."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def say_reading(data: Path) -> None:
    """The first line of a command on labelled images: what it reads, before it imports what reads it."""
    say(f"reading {data}")


def say_loading(model: str | Path | None = None) -> None:
    """Say what is imported and loaded next: the model, an exported file or a run's folder, or PyTorch alone."""
    from solobox.hub.download import is_hub_name

    if model is None:
        say("loading PyTorch, which takes some seconds")
        return
    if is_hub_name(model):
        say(f"loading {model} from the Hugging Face Hub, or from where it was downloaded before")
        return
    needs_torch = not str(model).lower().endswith(".onnx")
    say(f"loading {model}" + " (PyTorch takes some seconds)" * needs_torch)


def say_left_out(left_out: object) -> None:
    """Print what the input folders hold beside images, if anything; see `solobox.predict.inputs.LeftOut`."""
    if text := str(left_out):
        say(f"left out of the folders: {text}")


class Bars:
    """Progress bars, one per stage; implements `solobox.utils.progress.Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None) -> None:
        """Begin a new bar. total: its steps, None if unknown."""
        self._task = self._progress.add_task(stage, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Advance the current bar."""
        if self._task is not None:
            self._progress.update(self._task, advance=steps, note=note)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)


@contextmanager
def bars() -> Iterator[Bars]:
    """Show progress bars on the console while the block runs."""
    quieten()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12, table_column=Column(min_width=8)),
        # In a terminal of 80 columns the description is cut and not the numbers.
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


def counted(rows: Iterable[T], progress: Bars) -> Iterator[T]:
    """Move the bar for each row, and show the rate."""
    start = time.monotonic()
    for count, row in enumerate(rows, 1):
        seconds = time.monotonic() - start
        progress.advance(note=f"{count / seconds:,.1f} images/s" if seconds > 0 else "")
        yield row


def quieten() -> None:
    """Hide the log messages and warnings of libraries that a user cannot act on."""
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities", "timm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning_fabric|lightning|timm|torch)(\..*)?$")


Rows: TypeAlias = Sequence[tuple[str, Mapping[str, object]]]


def metrics_table(title: str, rows: Rows) -> Table:
    """The metrics as a table: a row for all images, and one for each label."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("")
    headers = {
        "n": "images", "mean_iou": "mean IoU", "iou50": "IoU≥.5", "iou75": "IoU≥.75", "iou90": "IoU≥.9",
        "edge_mae_px": "edge error px", "center_mae_px": "center error px",
    }  # fmt: skip
    for header in headers.values():
        table.add_column(header, justify="right")
    for name, metrics in rows:
        cells = []
        for key in headers:
            value = metrics.get(key)
            if isinstance(value, int):
                cells.append(f"{value:,}")
            elif isinstance(value, float):
                cells.append(f"{value:.1f}" if key.endswith("_px") else f"{value:.3f}")
            else:
                cells.append("–")
        table.add_row(Text(name), *cells)
    return table


def metrics_rows(metrics: Mapping[str, object]) -> Rows:
    """The rows of `metrics_table` from `BoxMetrics.to_dict`: all images, then each label."""
    labels = metrics.get("by_label")
    by_label = labels if isinstance(labels, dict) else {}
    return [
        ("all", metrics),
        *((name or "(no label)", row) for name, row in by_label.items()),
    ]


def uncertainty_lines(evaluation: "Evaluation") -> list[str]:
    """Confidence interval, margins, presence and familiarity: one line for each that the evaluation has."""
    n, interval = evaluation.metrics.n, evaluation.intervals.get("mean_iou")
    lines = []
    if interval is not None and interval.lower == interval.lower:  # NaN is unequal to itself
        units = f"{n:,} images" + (f" in {evaluation.n_groups:,} groups" if evaluation.n_groups else "")
        lines.append(
            f"mean IoU: {evaluation.metrics.mean_iou:.3f}, {100 * interval.level:g}% CI {interval.lower:.3f} to "
            f"{interval.upper:.3f} (bootstrap over {units})"
        )
    if margins := evaluation.coverage:
        interval = margins.interval
        confidence = f" ({100 * interval.level:g}% CI {interval.lower:.3f} to {interval.upper:.3f})"
        lines.append(
            f"margins at {margins.level:g}: coverage {margins.share:.3f} of {margins.n:,} images"
            f"{confidence if interval.lower == interval.lower else ''}; the outer box has "
            f"{margins.outer_to_predicted:.2f} times the area of the predicted box"
        )
    if presence := evaluation.presence:
        lines.append(
            f"presence: AUROC {presence.auroc:.3f}, expected calibration error {presence.ece:.3f} "
            f"({presence.n_positives:,} images with the object, {presence.n_negatives:,} without)"
        )
    errors = ((evaluation.n_missed, "missed objects"), (evaluation.n_false_alarms, "false alarms"))
    if counts := [f"{number:,} {what}" for number, what in errors if number is not None]:
        lines.append(f"presence at 0.5: {', '.join(counts)}")
    if familiarity := evaluation.familiarity:
        line = f"familiarity: median {familiarity.median:.2f}"
        if familiarity.share_unfamiliar is not None:
            line += (
                f"; {100 * familiarity.share_unfamiliar:.1f}% of the images are unlike the training images"
            )
        if familiarity.p_value is not None:
            verdict = "unlike" if familiarity.differs else "not significantly unlike"
            line += f"; as a whole they are {verdict} them (p {_p_value(familiarity.p_value)})"
        lines.append(line)
    return lines


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def command_line() -> str:
    """The current command line, quoted for a shell."""
    return shlex.join(["solobox", *sys.argv[1:]])
