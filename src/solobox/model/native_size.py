"""Images at their own sizes, undistorted, for models that take any (`--size native`)."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.images.reading import DecodedImage

LONGEST = 1333
"""Longer side in pixels, at most: it bounds memory and time. The usual limit of object detectors."""


def own_size(width: int, height: int, least: int) -> tuple[int, int]:
    """Width and height in pixels at which an image is shown.

    Its own; reduced by one factor to `LONGEST`, or enlarged by one factor until both sides have `least` pixels. Only
    an image too narrow for both is distorted: its shorter side then has `least`.
    """
    factor = min(LONGEST / max(width, height), max(1.0, least / min(width, height)))
    return max(least, round(width * factor)), max(least, round(height * factor))


def at_own_size(image: DecodedImage, least: int) -> npt.NDArray[np.uint8]:
    """The pixels (h, w, 3) uint8 of an image at its `own_size`; it may have been decoded with `LONGEST` at least.

    least: pixels of the shorter side, at least: the backbone's coarsest stride, or it would have nothing to say.
    """
    width, height = own_size(*image.size, least)
    if image.pixels.shape[:2] == (height, width):
        return image.pixels
    return np.array(Image.fromarray(image.pixels).resize((width, height), Image.Resampling.BILINEAR))
