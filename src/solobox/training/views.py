"""From image files to views: each file is decoded once, in threads that run ahead of the model."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import numpy as np

from solobox.boxes import Floats
from solobox.images.reading import DecodedImage, read, to_square
from solobox.training.augment import Pixels, Window, cut, random_window, recolour, stand_in, whole

_SHARP = 1.5
"""Pixels kept for each of the model's, so that a window of two thirds of an image is still sharp. More are given up
before the windows are cut, most of them by the JPEG decoder."""


Fit: TypeAlias = Callable[[int, int], tuple[int, int]]
"""From a window's width and height to those of its view."""


@dataclass(frozen=True, slots=True)
class Views:
    """What one image becomes: K views of (3, side, side) uint8 and targets (K, 4) in fractions of each view.

    Targets are NaN where the image is without the object.
    """

    pixels: list[Pixels]
    targets: Floats


def generator(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The generator for one image in one epoch: a function of these alone, whatever ran before."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest, "big")])


def load(path: Path, side: int) -> DecodedImage:
    """An image with about the pixels that views of `side` pixels can use."""
    image = read(path, at_least=round(side * _SHARP))
    height, width = image.pixels.shape[:2]
    limit = round(side * _SHARP)
    small = min(width, limit), min(height, limit)
    if small == (width, height):
        return image
    return DecodedImage(_resize(image.pixels, *small), image.size)


def as_predicted(path: Path, box: Floats, side: int) -> Views:
    """The whole image as one view, to the pixel as prediction sees it. `box`: as for `views`."""
    image = read(path, at_least=side)
    pixels = to_square(image.pixels, side).transpose(2, 0, 1)
    return Views([pixels], (box / np.array(image.size * 2))[np.newaxis])


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def views(
    image: DecodedImage,
    box: Floats,
    count: int,
    side: int | Fit,
    rng: np.random.Generator,
    *,
    first_whole: bool = True,
) -> Views:
    """`count` views of an image: the whole one as it is (unless told otherwise), then random ones.

    box: ``x1, y1, x2, y2`` in pixels of the full image (`image.size`); NaN where there is no object.
    side: of all views, or what gives each window's view its size; then there can be but one.
    """
    height, width = image.pixels.shape[:2]
    own = box * np.array([width / image.size[0], height / image.size[1]] * 2)
    aim = own if np.isfinite(own).all() else stand_in(rng) * np.array([width, height] * 2)
    crops: list[Window] = [whole(width, height)] if first_whole else []
    crops += [random_window(rng, aim, width, height) for _ in range(count - len(crops))]
    shown = [
        cut(image.pixels, w, side if isinstance(side, int) else side(w.x2 - w.x1, w.y2 - w.y1)) for w in crops
    ]
    for index in range(1 if first_whole else 0, count):
        shown[index] = recolour(rng, shown[index])
    return Views(shown, np.stack([window.to_window(own) for window in crops]))
