"""Decode an image of any type that a program may have to upright RGB pixels."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from solobox.errors import ImageError
from solobox.images.reading import MAX_BYTES, MAX_PIXELS, DecodedImage, EncodedImage, read, to_rgb

ImageInput: TypeAlias = EncodedImage | Image.Image | npt.NDArray[Any]
"""A path, an image file's bytes, a PIL image, or RGB pixels (h, w, 3) uint8; also a PyTorch tensor (h, w, 3) or
(3, h, w) uint8."""

ACCEPTED = (
    "a path, an image file's bytes, a PIL image, or RGB pixels as an array or tensor (h, w, 3) of uint8"
)


def decode(
    image: ImageInput,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> DecodedImage:
    """Decode an image, perhaps at reduced size; see `reading.read` for the options.

    A PIL image is turned upright by its EXIF orientation; an array or a tensor is upright already.

    Raises ImageError for an image that cannot be read, ``image-wrong-array`` for an array of another shape or dtype;
    TypeError for any other type.
    """
    if isinstance(image, str | Path | bytes):
        return read(image, at_least=at_least, max_pixels=max_pixels, max_bytes=max_bytes)
    if isinstance(image, Image.Image):
        upright = np.array(to_rgb(ImageOps.exif_transpose(image)))
        return DecodedImage(upright, (upright.shape[1], upright.shape[0]))
    pixels: Any = image
    if type(pixels).__module__.split(".")[0] == "torch":
        pixels = pixels.detach().cpu().numpy()
        if pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.shape[2] != 3:
            pixels = pixels.transpose(1, 2, 0)
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"an image is {ACCEPTED}, not {type(pixels).__name__}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ImageError(
            f"pixels are (h, w, 3) uint8 RGB, not {pixels.shape} {pixels.dtype}", code="image-wrong-array"
        )
    return DecodedImage(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))
