"""``solobox predict``: a box for each picture."""

import csv
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox.boxes import scale
from solobox.cli.console import bars, console
from solobox.drawing import draw_reduced, predicted
from solobox.errors import ConfigError, DataError, PictureError
from solobox.files import explained
from solobox.inference.inputs import expand
from solobox.inference.sinks import Columns, write_csv
from solobox.pictures import read
from solobox.prediction import Prediction

_SIDE = 1600
"""Longer side of a drawn picture in pixels, at most: for looking at, not for printing."""


def predict(
    run: Path,
    inputs: Annotated[list[str], Parameter(name="INPUT", negative="")],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    draw: Path | None = None,
    margins: float | None = None,
    outer: float | None = None,
    min_presence: float | None = None,
) -> int:
    """Find the box in each picture.

    Leaves with status 0 when all pictures were read, 1 when some were not: these have a row with their error.

    Parameters
    ----------
    run
        The folder that `solobox train` left.
    inputs
        Pictures, folders (with all below) and glob patterns.
    output
        Write the rows to this CSV; without it they are printed.
    draw
        Write each picture with its box drawn into this folder, and the band of its margins.
    margins
        Also say between what each edge of the true box lies (x1_lo, x1_hi, ...), all four at once with this
        probability, such as 0.9.
    outer
        Also give the box that holds the whole object with this probability (x1_outer, ...): for cropping.
    min_presence
        Give no box for a picture in which the object is with a probability below this.
    """
    pictures = expand(inputs)
    if draw is not None and draw.resolve() in {Path(picture).resolve().parent for picture in pictures}:
        raise DataError(
            f"--draw {draw} holds some of these pictures: give drawn pictures a folder of their own"
        )
    _check(margins, outer, min_presence)
    from solobox.localizer.localizer import Localizer  # heavy to load: bad inputs are told of before

    localizer = Localizer.load(run)
    if min_presence is not None and localizer.presence is None:
        raise ConfigError(
            f"{run} never learned presence: it was trained on no pictures without the object. List some, with empty "
            "coordinates, and train again"
        )
    columns = Columns(
        "both" if margins is not None else "none" if outer is None else "outer",
        presence=localizer.presence is not None,
        familiarity=localizer.familiarity is not None,
    )
    level = outer if margins is None else margins
    predictions = localizer.stream(iter(pictures), level=level, outer=outer is not None)
    if min_presence is not None:
        predictions = _told_apart(predictions, min_presence)
    failed = 0
    rows: list[Prediction] = []
    with bars() as progress:
        progress.start("predicting", len(pictures))
        stream: Iterator[Prediction] = predictions
        if draw is not None:
            stream = _drawn(stream, draw)
        if output is not None:
            stream = write_csv(output, stream, columns)
        for prediction in stream:
            failed += bool(prediction.error)
            progress.advance()
            if output is None:
                rows.append(prediction)
    if output is None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns.names)
        writer.writerows(columns.cells(prediction) for prediction in rows)
    for place, what in ((output, "boxes"), (draw, "drawn pictures")):
        if place is not None:
            console.print(f"{what}: {place}", highlight=False, markup=False)
    if failed:
        console.print(f"{failed} of {len(pictures)} pictures could not be read; their rows say why")
    return 1 if failed else 0


def _check(margins: float | None, outer: float | None, min_presence: float | None) -> None:
    if margins is not None and outer is not None:
        raise ConfigError("--margins and --outer are two kinds of one thing: give one of them")
    if min_presence is not None and not 0 <= min_presence <= 1:
        raise ConfigError(f"--min-presence is a probability from 0 to 1, not {min_presence:g}")


def _told_apart(predictions: Iterator[Prediction], least: float) -> Iterator[Prediction]:
    """Without the boxes of pictures in which the object most likely is not."""
    for prediction in predictions:
        yield prediction.without_object() if prediction.presence < least else prediction


def _drawn(predictions: Iterator[Prediction], folder: Path) -> Iterator[Prediction]:
    """Write each picture with its box, under its own name; a name that is taken gets a number."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for prediction in predictions:
        if not prediction.error:
            stem = Path(prediction.image).stem
            names = (f"{stem}-{number}.jpg" if number > 1 else f"{stem}.jpg" for number in count(1))
            name = next(name for name in names if name not in taken and not (folder / name).exists())
            taken.add(name)
            try:
                _draw_one(prediction, folder / name)
            except PictureError as error:  # it could be read a moment ago: its row stands
                console.print(f"not drawn: {error}", highlight=False, markup=False)
        yield prediction


def _draw_one(prediction: Prediction, path: Path) -> None:
    picture = read(prediction.image, at_least=_SIDE)
    height, width = picture.pixels.shape[:2]
    ratio = width / picture.size[0], height / picture.size[1]
    box, low, high = (scale(edges, *ratio) for edges in (prediction.box, prediction.low, prediction.high))
    drawn = draw_reduced(picture.pixels, [predicted(box, low=low, high=high)], min(max(picture.size), _SIDE))
    with explained(path):
        drawn.save(path, quality=90)
