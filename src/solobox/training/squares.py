"""Pictures for stages that show them to the model again and again: where they can be, squashed to squares and kept."""

from pathlib import Path

import numpy as np
import torch

from solobox.boxes import Floats
from solobox.errors import DataError, PictureError
from solobox.localizer import native
from solobox.pictures import Picture, read, to_square
from solobox.samples import Samples
from solobox.training.progress import Progress
from solobox.training.store import Store
from solobox.training.views import in_threads
from solobox.training.windows import Pixels


class Squares:
    """Pictures of `side` x `side` pixels in a `Store`, each decoded once.

    samples: all with a box. Those that can be read are what `self.samples` holds, in the same order as the rows.
    unreadable: what was wrong with the others.
    boxes: (N, 4) as fractions of the sides.
    budget, folder: see `Store`.

    Raises DataError for a picture that cannot be read, unless `skip_bad`.
    """

    def __init__(
        self,
        samples: Samples,
        side: int,
        *,
        budget: float,
        folder: Path,
        progress: Progress,
        stage: str,
        skip_bad: bool,
    ) -> None:
        progress.start(stage, len(samples))
        self.side = side
        self.unreadable: list[str] = []
        self.store = Store(len(samples), [(side, side, 3)], torch.uint8, budget=budget, folder=folder)
        boxes: list[Floats] = []
        rows: list[int] = []
        for row, found in enumerate(in_threads(lambda path: _square(path, side), samples.images)):
            progress.advance()
            if isinstance(found, PictureError):
                if not skip_bad:
                    raise DataError(unreadable(samples.where[row], found)) from found
                self.unreadable.append(str(found))
                continue
            self.store.put(len(rows), [torch.from_numpy(found.pixels).unsqueeze(0)])
            width, height = found.size
            boxes.append(samples.boxes[row] / [width, height, width, height])
            rows.append(row)
        if not rows:
            raise DataError(f"{stage}: none of the pictures can be read; `solobox check` lists what is wrong")
        self.boxes, self.samples = np.stack(boxes), samples.select(np.array(rows))

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, rows: np.ndarray) -> Pixels:
        """(n, side, side, 3) uint8."""
        return self.store.get(torch.from_numpy(np.asarray(rows)))[0].numpy()

    @property
    def place(self) -> str:
        """Where the pixels are, and how many, in words."""
        return self.store.place

    def picture(self, row: int) -> tuple[Picture, Floats]:
        """One of them, and its box (4,) in pixels of the square."""
        return Picture(self.pixels(np.array([row]))[0], (self.side, self.side)), self.boxes[row] * self.side


class Originals:
    """Pictures at their own sizes, which are too different to be kept: decoded each time they are shown.

    least: pixels of a side, at least, see `native.own_size`. Otherwise as `Squares`.
    """

    place = "decoded in each epoch"

    def __init__(
        self, samples: Samples, least: int, *, progress: Progress, stage: str, skip_bad: bool
    ) -> None:
        progress.start(stage, len(samples))
        self.least = least
        self.unreadable: list[str] = []
        boxes: list[Floats] = []
        rows: list[int] = []
        for row, found in enumerate(in_threads(_size, samples.images)):
            progress.advance()
            if isinstance(found, PictureError):
                if not skip_bad:
                    raise DataError(unreadable(samples.where[row], found)) from found
                self.unreadable.append(str(found))
                continue
            boxes.append(samples.boxes[row] / [*found, *found])
            rows.append(row)
        if not rows:
            raise DataError(f"{stage}: none of the pictures can be read; `solobox check` lists what is wrong")
        self.boxes, self.samples = np.stack(boxes), samples.select(np.array(rows))

    def __len__(self) -> int:
        return len(self.samples)

    def pixels(self, rows: np.ndarray) -> Pixels:
        """(1, h, w, 3) uint8 of a single row, as prediction sees it."""
        (row,) = rows
        return native.at_own_size(self.picture(row)[0], self.least)[np.newaxis]

    def picture(self, row: int) -> tuple[Picture, Floats]:
        """One of them, and its box (4,) in its own pixels."""
        picture = read(self.samples.images[row], at_least=native.LONGEST)
        return picture, self.boxes[row] * np.array(picture.size * 2)


def _size(path: Path) -> tuple[int, int] | PictureError:
    """Width and height of a picture that can be decoded to its end."""
    try:
        return read(path, at_least=1).size
    except PictureError as error:
        return error


def unreadable(where: str, error: PictureError) -> str:
    """What a person is told who has not asked to leave bad pictures out."""
    return f"{where}: {error} Mend it, or leave such pictures out with --skip-bad."


def _square(path: Path, side: int) -> Picture | PictureError:
    """The picture's pixels as a square, and its true size."""
    try:
        picture = read(path, at_least=side)
    except PictureError as error:
        return error
    return Picture(to_square(picture.pixels, side), picture.size)
