"""Images of the predictions, in a folder: drawn boxes, or crops of the objects.

Images are decoded, drawn and saved in threads while the model predicts the next ones. Each is written atomically, and
none replaces another file unless that is asked for.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.errors import ImageError
from solobox.images.drawing import check_size
from solobox.images.reading import probe, read
from solobox.predict.prediction import Prediction
from solobox.utils.atomic import explained, unfinished
from solobox.utils.concurrency import threaded_map
from solobox.utils.json_utils import parse_json

DRAWN_SIDE = 1600
"""Longer side of a drawn image in pixels, at most."""

_LONGEST_STEM = 200  # bytes: most disks allow 255 in a name, and a number and an ending are added

Job: TypeAlias = Callable[[], None]
ImageWriter: TypeAlias = "Callable[[int, Prediction], Job | None]"


def write_images(
    predictions: Iterable[Prediction],
    image_writers: Sequence[ImageWriter],
    say: Callable[[str], None],
    *,
    first: int = 0,
) -> Iterator[Prediction]:
    """Pass the predictions on, in order, each once its images are written.

    image_writers: each returns the job for a row, or None. say: called with a message for each image that could not be
        made, because its source cannot be read any more; the row stays. first: the number of the first row.
    """
    todo = (
        (
            prediction,
            [job for image_writer in image_writers if (job := image_writer(row, prediction)) is not None],
        )
        for row, prediction in enumerate(predictions, first)
    )
    for prediction, messages in threaded_map(_run_jobs, todo):
        for message in messages:
            say(message)
        yield prediction


def _run_jobs(todo: tuple[Prediction, Sequence[Job]]) -> tuple[Prediction, list[str]]:
    prediction, jobs = todo
    messages = []
    for job in jobs:
        try:
            job()
        except ImageError as error:
            messages.append(f"no image of its box: {error}")
    return prediction, messages


class ImageNames:
    """Unique names for the images of rows in one folder: the name of the source, with a number if that exists.

    journal: a file that stores the name of each row, so that a resumed run uses the same names: it replaces its earlier
        images and no other file.
    overwrite: replace files of these names that are there already; links stay.
    """

    def __init__(self, folder: Path, journal: Path | None = None, *, overwrite: bool = False) -> None:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._journal = journal
        self._overwrite = overwrite
        self._next: dict[str, int] = {}
        self._names = _read_journal(journal) if journal is not None else {}
        self._taken = {name.casefold() for name in self._names.values()}
        self._sweep()

    def of(self, row: int, image: str, ending: str) -> Path:
        """The path for the image of a row."""
        name = self._names.get(row)
        if name is None or Path(name).suffix != ending:
            stem = Path(image).stem.encode(errors="ignore")[:_LONGEST_STEM].decode(errors="ignore") or "image"
            name = self._free(stem, ending)
            if self._journal is not None:
                with explained(self._journal), self._journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([row, name]) + "\n")
        return self._folder / name

    def _free(self, stem: str, ending: str) -> str:
        while True:
            # Names that differ in case alone are the same on many disks.
            key = f"{stem}{ending}".casefold()
            number = self._next[key] = self._next.get(key, 0) + 1
            name = f"{stem}-{number}{ending}" if number > 1 else f"{stem}{ending}"
            if name.casefold() not in self._taken and not self._is_kept(self._folder / name):
                self._taken.add(name.casefold())
                return name

    def _is_kept(self, path: Path) -> bool:
        if self._overwrite:
            return path.is_symlink() or path.is_dir()
        return os.path.lexists(path)

    def _sweep(self) -> None:
        """Remove the unfinished images that a killed run left: those whose name is in the journal."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                leftover = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.part", path.name, re.DOTALL)
                if leftover and leftover[1].casefold() in self._taken:
                    path.unlink()


@dataclass(frozen=True, slots=True)
class DrawingWriter:
    """Draws each image with its box and margins, or with a note that there is no object."""

    names: ImageNames

    def __call__(self, row: int, prediction: Prediction) -> Job | None:
        """The job for a row."""
        if prediction.error:
            return None
        path = self.names.of(row, prediction.image, ".jpg")
        return lambda: _draw(prediction, path)


@dataclass(frozen=True, slots=True)
class CropWriter:
    """Crops each object from the upright image at full resolution: JPEG from a JPEG, else PNG.

    pad: added on each side, as a share of the box's width and height. outer: crop the outer box of the margins.
    """

    names: ImageNames
    pad: float = 0.0
    outer: bool = False

    def __call__(self, row: int, prediction: Prediction) -> Job | None:
        """The job for a row; None where there is no box."""
        box = prediction.outer if self.outer else prediction.box
        window = crop_window(box, prediction.size, self.pad)
        if prediction.error or window is None:
            return None
        try:
            ending = ".jpg" if probe(prediction.image).format == "JPEG" else ".png"
        except ImageError as error:
            return _raising(error)
        path = self.names.of(row, prediction.image, ending)
        return lambda: _crop(prediction, window, path)


def crop_window(
    box: npt.ArrayLike, size: tuple[int, int], pad: float = 0.0
) -> tuple[int, int, int, int] | None:
    """The whole pixels that hold a box: left, top, right, bottom, the last two exclusive; None for a box of NaN.

    box: shape (4,), ``x1, y1, x2, y2`` in pixels. size: width and height of the image. pad: share of the box's width
    and height that is added on each side. Within the image, and at least one pixel in each direction.
    """
    x1, y1, x2, y2 = (float(value) for value in np.asarray(box, dtype=np.float64))
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or min(size) < 1:
        return None
    left, right = _span(x1, x2, pad, size[0])
    top, bottom = _span(y1, y2, pad, size[1])
    return left, top, right, bottom


def _span(lower: float, upper: float, pad: float, side: int) -> tuple[int, int]:
    more = pad * (upper - lower)
    start = min(max(math.floor(lower - more), 0), side - 1)
    return start, max(min(math.ceil(upper + more), side), start + 1)


def _draw(prediction: Prediction, path: Path) -> None:
    drawn = prediction.plot(prediction.image, max_side=DRAWN_SIDE)
    _save(drawn, path, "JPEG", quality=90)


def _crop(prediction: Prediction, window: tuple[int, int, int, int], path: Path) -> None:
    left, top, right, bottom = window
    decoded = read(prediction.image)
    check_size(prediction.image, decoded.size, prediction.size)
    crop = Image.fromarray(decoded.pixels[top:bottom, left:right])
    if path.suffix == ".jpg":
        _save(crop, path, "JPEG", quality=95, subsampling=0)
    else:
        _save(crop, path, "PNG")


def _save(image: Image.Image, path: Path, kind: str, **options: Any) -> None:
    temporary = unfinished(path)
    try:
        with explained(path):
            image.save(temporary, kind, **options)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _raising(error: ImageError) -> Job:
    def job() -> None:
        raise error

    return job


def _read_journal(journal: Path) -> dict[int, str]:
    """The names in a journal; a last line that was cut off by a kill does not count."""
    names: dict[int, str] = {}
    if not journal.exists():
        return names
    with explained(journal), journal.open(encoding="utf-8") as file:
        for line in file:
            with suppress(ValueError):
                row, name = parse_json(line)
                names[row] = name
    return names
