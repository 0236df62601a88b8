"""Images at their native sizes, undistorted (`--size native`)."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.images.reading import DecodedImage

LONGEST = 1333
"""Longer side in pixels, at most: it bounds memory and time. The usual limit of object detectors."""


def native_size(width: int, height: int, min_side: int) -> tuple[int, int]:
    """Width and height in pixels of the network's input for an image.

    Those of the image, but reduced to `LONGEST` or enlarged until both sides have `min_side` pixels. Only an image too
    narrow for both is distorted: its shorter side then has `min_side`.
    """
    factor = min(LONGEST / max(width, height), max(1.0, min_side / min(width, height)))
    return max(min_side, round(width * factor)), max(min_side, round(height * factor))


def resize_native(image: DecodedImage, min_side: int) -> npt.NDArray[np.uint8]:
    """The pixels (h, w, 3) uint8 of an image at its `native_size`; it may have been decoded with `at_least` `LONGEST`.

    min_side: the backbone's coarsest stride in pixels, so that every map has a cell.
    """
    width, height = native_size(*image.size, min_side)
    if image.pixels.shape[:2] == (height, width):
        return image.pixels
    return np.array(Image.fromarray(image.pixels).resize((width, height), Image.Resampling.BILINEAR))
