"""The rows of `solobox predict`: kept as they are found, then written; or printed."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np

from solobox.cli.console import Bars, console
from solobox.predict.prediction import Prediction
from solobox.predict.writers import Columns, ImageIds, Parts, Plan, fingerprint, writing
from solobox.predict.writers.files import CsvRows

T = TypeVar("T")

_MANY = 20_000
"""Rows whose writing takes long enough to be watched."""


@dataclass(slots=True)
class Tally:
    """How many rows there are, how many of images that could not be read, and of such where the object is not."""

    rows: int = 0
    failed: int = 0
    absent: int = 0

    def add(self, prediction: Prediction) -> None:
        """Count one more."""
        self.rows += 1
        self.failed += bool(prediction.error)
        self.absent += not prediction.error and bool(np.isnan(prediction.box).any())


def plan_of(images: Sequence[str], model: str, options: Plan) -> Plan:
    """What decides the rows: a run that goes on has to be of the same."""
    return {
        "the list of images": fingerprint(text for one in images for text in (one, os.path.abspath(one))),  # noqa: PTH100
        "the model": model,
        "Solobox's version": version("solobox"),
        **options,
    }


@contextlib.contextmanager
def kept(output: Path, plan: Plan, count: int, *, resume: bool) -> Iterator[Parts]:
    """The rows found so far; where the block is left before the end, what to do is said."""
    parts = None
    try:
        with Parts.opened(output, plan, count, resume=resume) as parts:
            if parts.done:
                console.print(f"going on after {parts.done:,} of {count:,} images", highlight=False)
            yield parts
    except BaseException:
        if parts is not None and parts.done:
            said = f"{parts.done:,} of {count:,} rows are kept: the same command with --resume goes on"
            console.print(said, highlight=False)
        raise


def written(parts: Parts, output: Path, columns: Columns, ids: ImageIds, progress: Bars) -> Tally:
    """Write all rows that were kept into the output, and be done with the parts."""
    tally = Tally()
    with writing(output, columns, ids) as put:
        for prediction in parts:
            if tally.rows % _MANY == 0 and parts.done >= _MANY:
                progress.advance(_MANY) if tally.rows else progress.start("writing", parts.done)
            put(prediction)
            tally.add(prediction)
    parts.remove()
    return tally


def printed(predictions: Iterable[Prediction], columns: Columns) -> Iterator[Prediction]:
    """Print the rows as a CSV and hand each prediction on.

    Where they go to a terminal, where the progress bar is, they are printed at the end.
    """
    out = sys.stdout
    rows = None if out.isatty() else CsvRows(out, columns)
    held: list[Prediction] = []
    for prediction in predictions:
        if rows is None:
            held.append(prediction)
        else:
            rows.put(prediction)
        yield prediction
    if rows is None:
        rows = CsvRows(out, columns)
        for prediction in held:
            rows.put(prediction)


def watched(rows: Iterable[T], progress: Bars) -> Iterator[T]:
    """Move the bar for each, and say how many there are in a second."""
    start = time.monotonic()
    for count, row in enumerate(rows, 1):
        seconds = time.monotonic() - start
        progress.advance(note=f"{count / seconds:,.1f} images/s" if seconds > 0 else "")
        yield row
