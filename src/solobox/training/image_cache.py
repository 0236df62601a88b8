"""Images for stages that show them to the model again and again: where they can be, squashed to squares and kept."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.errors import DataError, ImageError
from solobox.images.reading import DecodedImage, read, to_square
from solobox.model import native_size
from solobox.training.augment import Pixels
from solobox.training.distributed import Ranks
from solobox.training.tensor_store import Store
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import Progress


class Squares:
    """Images of `side` x `side` pixels in a `Store`, each decoded once on each host.

    dataset: those without a box are without the object. Those that can be read are what `self.samples` holds; row
        numbers are theirs.
    unreadable: what was wrong with the others.
    boxes: (N, 4) as fractions of the sides, NaN without the object.
    budget, folder: see `Store`.

    Raises DataError for an image that cannot be read, unless `skip_bad`.
    """

    def __init__(
        self,
        dataset: Dataset,
        side: int,
        *,
        budget: float,
        folder: Path,
        progress: Progress,
        stage: str,
        skip_bad: bool,
        ranks: Ranks,
    ) -> None:
        self.side = side
        self.store = Store(
            len(dataset), [(side, side, 3)], torch.uint8, budget=budget, folder=folder, ranks=ranks
        )
        boxes = torch.full((len(dataset), 4), -torch.inf, dtype=torch.float64)
        bad = Unreadable(dataset, ranks, skip_bad=skip_bad)
        own = ranks.on_this_host(range(len(dataset)))
        progress.start(stage, len(own))
        found_in_turn = threaded_map(
            lambda row: _square(dataset.images[row], side), own, beside=ranks.local_size
        )
        with ranks.agreeing():
            for row, found in zip(own, found_in_turn, strict=True):
                progress.advance()
                if isinstance(found, ImageError):
                    bad.add(row, found)
                    continue
                self.store.put(row, [torch.from_numpy(found.pixels).unsqueeze(0)])
                width, height = found.size
                boxes[row] = without(torch.from_numpy(dataset.boxes[row] / [width, height, width, height]))
        bad.share()
        boxes = ranks.greatest(boxes)  # of an image that nobody could read it is still minus infinity
        self._rows = rows_of(boxes, stage)
        self.unreadable = bad.remarks
        self.boxes = with_nan(boxes[self._rows]).numpy()
        self.dataset = dataset.select(self._rows.numpy())

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, rows: np.ndarray) -> Pixels:
        """(n, side, side, 3) uint8."""
        return self.store.get(self._rows[torch.from_numpy(np.asarray(rows))])[0].numpy()

    @property
    def place(self) -> str:
        """Where the pixels are, and how many, in words."""
        return self.store.place

    def image(self, row: int) -> tuple[DecodedImage, Floats]:
        """One of them, and its box (4,) in pixels of the square."""
        return DecodedImage(self.pixels(np.array([row]))[0], (self.side, self.side)), self.boxes[
            row
        ] * self.side


class Originals:
    """Images at their own sizes, which are too different to be kept: decoded each time they are shown.

    least: pixels of a side, at least, see `native.own_size`. Otherwise as `Squares`.
    """

    place = "decoded in each epoch"

    def __init__(
        self, dataset: Dataset, least: int, *, progress: Progress, stage: str, skip_bad: bool
    ) -> None:
        progress.start(stage, len(dataset))
        self.least = least
        self.unreadable: list[str] = []
        boxes: list[Floats] = []
        rows: list[int] = []
        for row, found in enumerate(threaded_map(_size, dataset.images)):
            progress.advance()
            if isinstance(found, ImageError):
                if not skip_bad:
                    raise DataError(unreadable(dataset.where[row], found)) from found
                self.unreadable.append(str(found))
                continue
            boxes.append(dataset.boxes[row] / [*found, *found])
            rows.append(row)
        if not rows:
            raise DataError(f"{stage}: none of the images can be read; `solobox check` lists what is wrong")
        self.boxes, self.dataset = np.stack(boxes), dataset.select(np.array(rows))

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, rows: np.ndarray) -> Pixels:
        """(1, h, w, 3) uint8 of a single row, as prediction sees it."""
        (row,) = rows
        return native_size.at_own_size(self.image(row)[0], self.least)[np.newaxis]

    def image(self, row: int) -> tuple[DecodedImage, Floats]:
        """One of them, and its box (4,) in its own pixels."""
        image = read(self.dataset.images[row], at_least=native_size.LONGEST)
        return image, self.boxes[row] * np.array(image.size * 2)


def _size(path: Path) -> tuple[int, int] | ImageError:
    """Width and height of an image that can be decoded to its end."""
    try:
        return read(path, at_least=1).size
    except ImageError as error:
        return error


class Unreadable:
    """Images that could not be read: an error, or remarks where they are left out."""

    def __init__(self, dataset: Dataset, ranks: Ranks, *, skip_bad: bool) -> None:
        self._samples, self._ranks, self._skip_bad = dataset, ranks, skip_bad
        self._found: dict[int, str] = {}

    def add(self, row: int, error: ImageError) -> None:
        """Note one. Raises DataError unless such images are left out."""
        if not self._skip_bad:
            raise DataError(unreadable(self._samples.where[row], error)) from error
        self._found[row] = str(error)

    def share(self) -> None:
        """Tell the other ranks; hosts find the same."""
        for found in self._ranks.gathered(dict(self._found)):
            self._found |= found

    @property
    def remarks(self) -> list[str]:
        """What was wrong with each, in the images' order."""
        return [self._found[row] for row in sorted(self._found)]


def rows_of(values: Tensor, stage: str) -> Tensor:
    """The rows of (N, 4) that some rank has filled, (n,) int64. Raises DataError where there are none."""
    rows = (values > -torch.inf).all(dim=1).nonzero().flatten()
    if not len(rows):
        raise DataError(f"{stage}: none of the images can be read; `solobox check` lists what is wrong")
    return rows


def without(boxes: Tensor) -> Tensor:
    """Boxes that ranks can take the greatest of: infinity where there is no object, above what nobody has filled."""
    return torch.nan_to_num(boxes, nan=torch.inf)


def with_nan(boxes: Tensor) -> Tensor:
    """The inverse of `without`."""
    return torch.where(torch.isposinf(boxes), torch.nan, boxes)


def unreadable(where: str, error: ImageError) -> str:
    """What a person is told who has not asked to leave bad images out."""
    return f"{where}: {error} Mend it, or leave such images out with --skip-bad."


def _square(path: Path, side: int) -> DecodedImage | ImageError:
    """The image's pixels as a square, and its true size."""
    try:
        image = read(path, at_least=side)
    except ImageError as error:
        return error
    return DecodedImage(to_square(image.pixels, side), image.size)
