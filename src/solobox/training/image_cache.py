"""Decoded images of a split: pixels, size, fingerprint or error of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import fingerprint
from solobox.data.identity import Signatures, no_signatures, signature_of
from solobox.errors import DataError, ImageError
from solobox.images.reading import DecodedImage, ImageInput, decode, read, read_bytes, to_square
from solobox.model import native_size
from solobox.training.augment import Pixels
from solobox.training.distributed import Distributed
from solobox.training.tensor_store import TensorStore
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import Progress

OVERSAMPLING = 1.5
"""Side of a cached training image in sides of the network's input, so that crops of two thirds of it are sharp."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An opened image file: its fingerprint, signature (1,), size or error.

    size: width and height of the upright image in pixels; None where it cannot be decoded, and `error` says why.
    """

    fingerprint: int
    size: tuple[int, int] | None = None
    error: str = ""
    signature: Signatures = field(default_factory=lambda: no_signatures(1))


class ImageSource(ABC):
    """The images of one split. Row numbers are those of `dataset`. Threads may read different rows at once.

    skip_bad: leave out images that cannot be decoded, rather than raise DataError.
    group: the processes that train together; those of a host share the work.
    """

    description: str
    """Where the pixels are, in words."""

    def __init__(self, dataset: Dataset, *, skip_bad: bool, group: Distributed) -> None:
        self.dataset, self.group = dataset, group
        self._skip_bad = skip_bad
        self._records: dict[int, ImageRecord] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def pixels(self, row: int) -> Pixels | None:
        """(h, w, 3) uint8 RGB, larger than the network's input where crops need it; None for an image that is left out.

        Raises DataError for an image that cannot be decoded, unless `skip_bad`.
        """
        record = self._records.get(row)
        return self._cached(row) if record and record.size else None if record else self._decoded(row)

    def _decoded(self, row: int) -> Pixels | None:
        source = self.dataset.images[row]
        try:
            image, record = self._read(source)
            pixels = self._resized(image)
        except ImageError as error:
            if not self._skip_bad:
                raise DataError(
                    f"{self.dataset.where[row]}: {error} Or leave such images out with --skip-bad.",
                    code="image-unreadable",
                ) from error
            self._records[row] = ImageRecord(fingerprint(source), error=str(error))
            return None
        self._keep(row, pixels)
        self._records[row] = record
        return pixels

    def _read(self, source: ImageInput) -> tuple[DecodedImage, ImageRecord]:
        if isinstance(source, Path):
            data = read_bytes(source)  # read once, for pixels and fingerprint
            image = read(data, at_least=self._min_side, name=str(source))
            return image, ImageRecord(fingerprint(data), image.size, signature=signature_of(image))
        image = decode(source, at_least=self._min_side)
        return image, ImageRecord(fingerprint(source), image.size, signature=signature_of(image))

    @property
    @abstractmethod
    def _min_side(self) -> int:
        """The smallest side to decode, in pixels."""

    @abstractmethod
    def _resized(self, image: DecodedImage) -> Pixels:
        """The pixels to keep."""

    @abstractmethod
    def _cached(self, row: int) -> Pixels:
        """The pixels of an image that was decoded before."""

    @abstractmethod
    def _keep(self, row: int, pixels: Pixels) -> None:
        """Remember the pixels."""

    @abstractmethod
    def as_predicted(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Pixels:
        """(n, h, w, 3) uint8 RGB of some rows, exactly as prediction resizes them."""

    def fill(self, progress: Progress, stage: str) -> None:
        """Decode the images that are not decoded yet."""
        rows = [row for row in self.group.local_share(range(len(self))) if row not in self._records]
        progress.start(stage, len(rows))
        with self.group.raise_together():
            for _ in threaded_map(self.pixels, rows, processes=self.group.local_size):
                progress.advance()
        self.share(stage)

    def share(self, stage: str) -> None:
        """Exchange the records of all processes. Raises DataError where no image could be decoded."""
        for records in self.group.all_gather(dict(self._records)):
            self._records |= records
        if not len(self.rows):
            raise DataError(
                f"{stage}: no image can be read; `solobox check` lists what is wrong", code="no-images"
            )

    # Available once all images are decoded --------------------------------------------------------------

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """Whether each image could be decoded, (N,)."""
        return np.array([self._records[row].size is not None for row in range(len(self))], dtype=np.bool_)

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """The rows of the images that could be decoded, ascending."""
        return np.flatnonzero(self.readable)

    @property
    def errors(self) -> list[str]:
        """The error of each image (N), or the empty string."""
        return [self._records[row].error for row in range(len(self))]

    @property
    def unreadable(self) -> list[str]:
        """The errors of the images that are left out."""
        return [error for error in self.errors if error]

    @property
    def fingerprints(self) -> npt.NDArray[np.int64]:
        """(N,) sorted; see `data.fingerprints`."""
        return np.sort(np.array([self._records[row].fingerprint for row in range(len(self))], dtype=np.int64))

    @property
    def signatures(self) -> Signatures:
        """(N,) of the rows; see `data.identity`."""
        return np.concatenate([self._records[row].signature for row in range(len(self))])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Width and height of each upright image (N) in pixels, (0, 0) for those that were left out."""
        return [self._records[row].size or (0, 0) for row in range(len(self))]

    def box(self, row: int) -> Floats:
        """(4,) ``x1, y1, x2, y2`` as fractions of the image's sides, NaN without the object."""
        size = self._records[row].size
        if size is None:
            raise ValueError(f"row {row} could not be decoded")
        return np.asarray(self.dataset.boxes[row] / np.array(size * 2), dtype=np.float64)

    def boxes(self, rows: npt.NDArray[np.intp]) -> Floats:
        """(n, 4), see `box`."""
        return np.stack([self.box(row) for row in rows.tolist()])


class ImageCache(ImageSource):
    """Images as squares of `side` pixels, or of at most that many on a side where they are not kept.

    network_side: side of the network's input; images of validation have this `side` too.
    keep: whether pixels are kept, in memory within `budget` bytes or else in a file in `folder`. If not, `pixels` works
        once for each row.
    """

    def __init__(
        self,
        dataset: Dataset,
        side: int,
        *,
        network_side: int,
        keep: bool,
        budget: float,
        folder: Path,
        skip_bad: bool,
        group: Distributed,
    ) -> None:
        super().__init__(dataset, skip_bad=skip_bad, group=group)
        self.side, self._network_side = side, network_side
        self._store = (
            TensorStore(
                len(dataset), [(side, side, 3)], torch.uint8, budget=budget, folder=folder, group=group
            )
            if keep
            else None
        )
        self.description = self._store.description if self._store else "decoded once"

    @property
    def _min_side(self) -> int:
        return self.side

    def _resized(self, image: DecodedImage) -> Pixels:
        if self._store is not None:
            return to_square(image.pixels, self.side)
        return shrink(image.pixels, self.side)  # pixels that are used at once need not be square

    def _keep(self, row: int, pixels: Pixels) -> None:
        if self._store is not None:
            self._store.put(row, [torch.from_numpy(pixels).unsqueeze(0)])

    def _cached(self, row: int) -> Pixels:
        if self._store is None:
            raise ValueError(f"the pixels of row {row} were not kept")
        return np.asarray(self._store.get(torch.tensor([row]))[0][0].numpy())

    def as_predicted(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Pixels:
        """See `ImageSource`; exact where `side` is the network's, else resized once more."""
        squares = [self._cached(int(row)) for row in rows]
        if self.side != self._network_side:
            squares = [to_square(square, self._network_side) for square in squares]
        return np.stack(squares)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """Pixels (h, w, 3) with each side resized to `side`, unless it is shorter already."""
    height, width = pixels.shape[:2]
    size = min(width, side), min(height, side)
    if size == (width, height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


class NativeImages(ImageSource):
    """Images at their native sizes. Each is decoded every time it is used.

    min_side: see `native_size.native_size`.
    """

    description = "decoded in each epoch"

    def __init__(self, dataset: Dataset, min_side: int, *, skip_bad: bool, group: Distributed) -> None:
        super().__init__(dataset, skip_bad=skip_bad, group=group)
        self._network_min_side = min_side

    @property
    def _min_side(self) -> int:
        return native_size.LONGEST

    def _resized(self, image: DecodedImage) -> Pixels:
        return image.pixels

    def _keep(self, row: int, pixels: Pixels) -> None:
        """Not kept: their sizes differ."""

    def _cached(self, row: int) -> Pixels:
        return self._read(self.dataset.images[row])[0].pixels

    def as_predicted(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Pixels:
        """See `ImageSource`; a single row."""
        (row,) = rows
        image, _ = self._read(self.dataset.images[row])
        return native_size.resize_native(image, self._network_min_side)[np.newaxis]
