"""Images whose object is small."""

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats


def bright_rectangles(count: int = 24) -> tuple[list[npt.NDArray[np.uint8]], Floats]:
    """Bright rectangles of 6 to 9% of the side on noise, 256 x 192 pixels; and their boxes (count, 4) in pixels."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for _ in range(count):
        pixels = rng.integers(0, 60, (192, 256, 3), dtype=np.uint8)
        width, height = rng.integers(16, 24), rng.integers(12, 18)
        x, y = rng.integers(20, 256 - 44), rng.integers(20, 192 - 38)
        pixels[y : y + height, x : x + width] = (230, 90, 40)
        images.append(pixels)
        boxes.append([x, y, x + width, y + height])
    return images, np.array(boxes, dtype=float)
