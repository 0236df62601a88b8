"""How large the objects are at the model's input: below some pixels nothing can be learned."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ImageError
from solobox.images.reading import ImageInput, decode, probe
from solobox.utils.sampling import evenly_spaced

DEFAULT_SIZE = 320
"""The `size` of the default recipe."""

MIN_PIXELS = 8
"""Median side at the model's input below which objects are too small to be found."""

_MAX_PROBED = 500
"""Images whose headers `probe_sides` opens."""


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """Sides of objects, the square root of their area, in pixels of the model's input.

    median, smallest: the median, and the 5th percentile. size: the side of the input; None where images keep theirs.
    """

    median: float
    smallest: float
    size: int | None

    @classmethod
    def of(cls, boxes: Floats, sizes: Floats, size: int | None = DEFAULT_SIZE) -> Self | None:
        """Measure boxes in images resized to squares of `size`; None where there is nothing to measure.

        boxes: (n, 4) ``x1, y1, x2, y2`` in pixels. sizes: (n, 2), width and height of the images. NaN: left out.
        """
        extent = boxes[:, 2:] - boxes[:, :2]
        if size is not None:
            extent = extent / sizes * size
        usable = np.isfinite(extent).all(axis=1) & (extent > 0).all(axis=1)
        if not usable.any():
            return None
        sides = np.sqrt(extent[usable].prod(axis=1))
        return cls(float(np.median(sides)), float(np.quantile(sides, 0.05)), size)

    @property
    def is_tiny(self) -> bool:
        """Whether the median object is too small."""
        return self.median < MIN_PIXELS

    def sentence(self) -> str:
        """For a person, such as ``objects at --size 320: ...``."""
        where = "in images of their own size" if self.size is None else f"at --size {self.size}"
        return (
            f"objects {where}: median {self.median:.0f} px, smallest {self.smallest:.0f} px (5th percentile of "
            "the square root of the area)"
        )

    def advice(self) -> str:
        """What to do about tiny objects."""
        if self.size is None:
            return "crop the images around the objects, or cut them into tiles, and label those"
        needed = int(np.ceil(self.size * MIN_PIXELS / self.median / 32) * 32)
        if needed <= 4 * self.size:
            return f"train with --size {needed} or more, or crop the images or cut them into tiles first"
        return (
            f"crop the images around the objects, or cut them into tiles: --size would have to be {needed:,}"
        )


def probe_sides(
    images: tuple[ImageInput, ...], rows: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Some of the rows, evenly from all, and the width and height (n, 2) that their headers say; NaN if unreadable."""
    chosen = rows[evenly_spaced(len(rows), _MAX_PROBED)]
    sizes = [_size(images[row]) for row in chosen.tolist()]
    return chosen, np.array(sizes, dtype=np.float64).reshape(-1, 2)


def _size(image: ImageInput) -> tuple[float, float]:
    try:
        return probe(image).size if isinstance(image, str | Path | bytes) else decode(image).size
    except (ImageError, OSError):
        return np.nan, np.nan
