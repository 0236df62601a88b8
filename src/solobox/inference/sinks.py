"""Where boxes go: a CSV with a row for every input."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from solobox.boxes import Floats
from solobox.files import replacing
from solobox.prediction import Prediction

Margins: TypeAlias = Literal["none", "both", "outer"]

_EDGES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row says of a picture beside its name, its box and what was wrong with it.

    margins: ``both``: between what each edge lies (``x1_lo,x1_hi,y1_lo,...``); ``outer``: the box that holds the whole
        object (``x1_outer,...``).
    presence, familiarity: as in `Prediction`.
    """

    margins: Margins = "none"
    presence: bool = False
    familiarity: bool = False

    @property
    def names(self) -> list[str]:
        """The header. The first and the last are the same whatever is between."""
        between: list[str] = []
        if self.margins == "both":
            between = [f"{edge}_{end}" for edge in _EDGES for end in ("lo", "hi")]
        elif self.margins == "outer":
            between = [f"{edge}_outer" for edge in _EDGES]
        between += [name for name in ("presence", "familiarity") if getattr(self, name)]
        return ["image", *_EDGES, *between, "error"]

    def cells(self, prediction: Prediction) -> list[str]:
        """One row, as text; a picture without a box has empty coordinates."""
        between: list[str] = []
        if self.margins == "both":
            between = _pixels(np.stack([prediction.low, prediction.high], axis=1).ravel())
        elif self.margins == "outer":
            between = _pixels(prediction.outer)
        for name in ("presence", "familiarity"):
            if getattr(self, name):
                value = getattr(prediction, name)
                between.append("" if np.isnan(value) else f"{value:.4f}")
        return [prediction.image, *_pixels(prediction.box), *between, prediction.error]


def write_csv(
    path: Path, predictions: Iterable[Prediction], columns: Columns | None = None
) -> Iterator[Prediction]:
    """Write a row for each of the predictions as they go by, and hand each on.

    Pixels of the upright picture, to a hundredth. The file appears under its name when all are written; until
    then what was there before stays.
    """
    columns = columns or Columns()
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.names)
        for prediction in predictions:
            writer.writerow(columns.cells(prediction))
            yield prediction


def _pixels(values: Floats) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.2f}" for value in values]
