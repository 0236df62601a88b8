"""Where boxes go: a CSV with a row for every input."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from solobox.files import replacing
from solobox.prediction import Prediction

COLUMNS = ("image", "x1", "y1", "x2", "y2", "error")


def cells(prediction: Prediction) -> list[str]:
    """One row, as text; a picture without a box has empty coordinates."""
    numbers = ["" if np.isnan(value) else f"{value:.2f}" for value in prediction.box]
    return [prediction.image, *numbers, prediction.error]


def write_csv(path: Path, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Write ``image,x1,y1,x2,y2,error`` as the predictions go by, and hand each on.

    Pixels of the upright picture, to a hundredth. The file appears under its name when all are written; until
    then what was there before stays.
    """
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for prediction in predictions:
            writer.writerow(cells(prediction))
            yield prediction
