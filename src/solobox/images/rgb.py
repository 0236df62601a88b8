"""Every mode of Pillow's images as 8-bit RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from solobox.errors import ImageError
from solobox.images.headers import SUPPORTED

_PIXELS_AT_ONCE = 1_000_000


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to 8-bit RGB, see `solobox.images.reading.read`."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        values = np.asarray(image)
        grey = _wide_to_8_bits(values, mode)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if mode == "LAB":
        raise ImageError(
            f"its colours are Lab, which is not supported. Convert it to RGB, as {SUPPORTED}.",
            code="image-unsupported-format",
        )
    if mode == "La":
        image = image.convert("LA")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if mode == "RGB" else image.convert("RGB")


def _wide_to_8_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits, shape (h, w), to uint8 by the ranges that `reading.read` names."""
    # A few rows at a time: as doubles the whole image would take eight times its memory.
    rows = max(1, _PIXELS_AT_ONCE // values.shape[1])
    blocks = [values[top : top + rows] for top in range(0, len(values), rows)]
    lower = min(float(_doubles(block).min()) for block in blocks)
    upper = max(float(_doubles(block).max()) for block in blocks)
    factor = 1.0
    if mode.startswith("I;16"):
        lower, upper = 0.0, 65535.0
    elif lower >= 0 and upper <= 65535:
        ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        lower, upper = 0.0, next(top for top in ranges if upper <= top)
    elif not np.isfinite(upper - lower):  # the span itself would overflow
        factor = 0.25
        lower, upper = lower * factor, upper * factor
    span = upper - lower
    grey = np.zeros(values.shape, np.uint8)
    if span > 0:
        for number, block in enumerate(blocks):
            top = number * rows
            grey[top : top + rows] = np.rint((_doubles(block) * factor - lower) / span * 255)
    return grey


def _doubles(values: NDArray[np.generic]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # signalling NaN, which a damaged TIFF may hold
        return np.nan_to_num(values.astype(np.float64))
