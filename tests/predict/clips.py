"""Small clips for tests."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.predict.video.clip_writer import write_clip
from stand_in_predictor import StandIn

SIZE = (96, 64)


def image(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A red square on grey that goes to the right by a pixel an image, and a blue corner at the top left."""
    width, height = size
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    pixels[20:40, 10 + number : 30 + number] = (220, 30, 30)
    pixels[:12, :12] = (20, 20, 240)
    return pixels


def write(path: Path, count: int = 30, rate: int = 25, size: tuple[int, int] = SIZE) -> Path:
    with write_clip(path, Fraction(rate), Fraction(1, 512 * rate)) as writer:
        for number in range(count):
            writer.add(image(number, size), number / rate)
    return path


class Finder(StandIn):
    """Finds the red square; reads some images ahead, as models do."""

    def __init__(self, ahead: int = 4, presence: float = np.nan) -> None:
        self.ahead, self.presence = ahead, presence

    def rows(self, images: Iterable[Any], options: PredictOptions) -> Iterator[Prediction]:
        held: list[np.ndarray] = []
        for pixels in images:
            held.append(pixels)
            if len(held) == self.ahead:
                yield from map(self.found, held)
                held.clear()
        yield from map(self.found, held)

    def found(self, pixels: np.ndarray) -> Prediction:
        red = (pixels[..., 0] > 160) & (pixels[..., 2] < 120)
        y, x = np.nonzero(red)
        box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=np.float64)
        size = pixels.shape[1], pixels.shape[0]
        return Prediction("<pixels>", box, size, lower=box - 3, upper=box + 3, presence=self.presence)
