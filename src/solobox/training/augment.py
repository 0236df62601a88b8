"""Augmentation: random crops and colors of a training image, and the box in them.

A crop is an axis-aligned rectangle in whole pixels of a decoded image. It may reach past the image, where it is grey.
It is resized to the network's input, and may be flipped. All random numbers come from the caller's generator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from solobox.boxes import Floats

Pixels = npt.NDArray[np.uint8]
Fit: TypeAlias = Callable[[int, int], tuple[int, int]]
"""From a crop's width and height to those of the network's input."""

CLOSE_SHARE = 0.25
"""Share of random crops that are close-ups of the object."""

WIDE_SCALE = (0.75, 1.15)
"""Side of a wide crop, in sides of the image."""

ASPECT = 0.15
"""Largest difference of the logarithms of a wide crop's and the image's aspect ratio."""

CLOSE_FILL = (0.4, 0.85)
"""Share of a close-up that the box fills along an axis."""

CLOSE_POSITION = (0.5, 0.2)
"""Position of the box in a close-up along an axis, 0 at the start and 1 at the end: mean and standard deviation."""

SLACK = 0.05
"""Share of the box that a wide crop may cut off on a side, and of the image by which it may reach past it."""

MIN_SIDE = 8
"""Smallest side of a crop in pixels."""

CONTRAST = (0.7, 1.3)
BRIGHTNESS = (-51, 51)
TINT = (0.9, 1.1)
"""Factors of the distance from middle grey and of each channel; brightness is added."""

GREY = 127
"""Fills what lies outside an image: about the mean that backbones subtract."""


@dataclass(frozen=True, slots=True)
class Crop:
    """``x1, y1, x2, y2`` in whole pixels of an image, and whether it is flipped left to right."""

    x1: int
    y1: int
    x2: int
    y2: int
    flipped: bool = False

    def to_crop(self, box: npt.ArrayLike) -> Floats:
        """Boxes (..., 4) in pixels of the image to fractions of the crop's sides."""
        x1, y1, x2, y2 = np.moveaxis(np.asarray(box, dtype=np.float64), -1, 0)
        width, height = self.x2 - self.x1, self.y2 - self.y1
        left, right = (x1 - self.x1) / width, (x2 - self.x1) / width
        if self.flipped:
            left, right = 1 - right, 1 - left
        return np.stack([left, (y1 - self.y1) / height, right, (y2 - self.y1) / height], axis=-1)

    def from_crop(self, box: npt.ArrayLike) -> Floats:
        """The inverse: boxes (..., 4) in fractions of the crop's sides to pixels of the image."""
        left, top, right, bottom = np.moveaxis(np.asarray(box, dtype=np.float64), -1, 0)
        width, height = self.x2 - self.x1, self.y2 - self.y1
        if self.flipped:
            left, right = 1 - right, 1 - left
        edges = [
            self.x1 + left * width,
            self.y1 + top * height,
            self.x1 + right * width,
            self.y1 + bottom * height,
        ]
        return np.stack(edges, axis=-1)


@dataclass(frozen=True, slots=True)
class CropBatch:
    """K crops of one image as network inputs.

    pixels: K arrays (3, h, w) uint8 RGB. boxes: (K, 4) ``x1, y1, x2, y2`` as fractions of each crop's sides, NaN for an
    image without the object.
    """

    pixels: list[Pixels]
    boxes: Floats


def image_rng(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The random generator of one image in one epoch: it depends only on these three."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest, "big")])


def augment(
    pixels: Pixels,
    box: Floats,
    count: int,
    size: int | Fit,
    rng: np.random.Generator,
    *,
    first_full: bool = True,
) -> CropBatch:
    """`count` crops of an image: first the full image with its true colors, then random ones.

    pixels: (h, w, 3) uint8 RGB. box: (4,) ``x1, y1, x2, y2`` as fractions of its sides, NaN without the object.
    size: side of the square that every crop is resized to, or a function of the crop's width and height (then `count`
        is 1). first_full: False makes the first crop random too.
    """
    height, width = pixels.shape[:2]
    scale = np.array([width, height] * 2)
    target = box * scale
    center = target if np.isfinite(box).all() else random_box(rng) * scale
    crops = [full_crop(width, height)] if first_full else []
    crops += [random_crop(rng, center, width, height) for _ in range(count - len(crops))]
    pixels_of_crops = []
    for index, crop in enumerate(crops):
        shape = size if isinstance(size, int) else size(crop.x2 - crop.x1, crop.y2 - crop.y1)
        pixels_of_crops.append(crop_resize(pixels, crop, shape))
        if index or not first_full:
            pixels_of_crops[index] = color_jitter(rng, pixels_of_crops[index])
    return CropBatch(pixels_of_crops, np.stack([crop.to_crop(target) for crop in crops]))


def random_box(rng: np.random.Generator) -> Floats:
    """A box (4,) as fractions of the sides, to crop an image without the object around.

    Its crops then have the same distribution as those of images with the object, so that only their content differs.
    """
    sides = rng.uniform(0.3, 0.8, 2)
    corner = rng.uniform(0, 1, 2) * (1 - sides)
    return np.concatenate([corner, corner + sides])


def full_crop(width: int, height: int) -> Crop:
    """The crop that is the image."""
    return Crop(0, 0, width, height)


def random_crop(rng: np.random.Generator, box: npt.ArrayLike, width: int, height: int) -> Crop:
    """A random crop that shows (nearly) the whole box, flipped half of the time.

    box: ``x1, y1, x2, y2`` in pixels of the image, whose size is `width` x `height`. Three crops in four are wide,
    about the size of the image. The fourth is a close-up that the box fills from 40 to 85% along each axis, so that
    objects of every size are learned from any data set.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box, dtype=np.float64))
    if rng.random() < CLOSE_SHARE:
        sides = (x2 - x1) / rng.uniform(*CLOSE_FILL), (y2 - y1) / rng.uniform(*CLOSE_FILL)
        position = np.clip(rng.normal(*CLOSE_POSITION, 2), 0, 1)
        left, top = x1 - position[0] * (sides[0] - (x2 - x1)), y1 - position[1] * (sides[1] - (y2 - y1))
    else:
        scale = np.exp(rng.uniform(np.log(WIDE_SCALE[0]), np.log(WIDE_SCALE[1])))
        aspect = np.exp(rng.uniform(-ASPECT, ASPECT))
        # An object that fills the frame stays in the crop: nothing can be learned from an edge outside.
        min_sides = (1 - SLACK) * (x2 - x1), (1 - SLACK) * (y2 - y1)
        sides = max(width * scale * aspect, min_sides[0]), max(height * scale / aspect, min_sides[1])
        left = _wide_start(rng, x1, x2, sides[0], width)
        top = _wide_start(rng, y1, y2, sides[1], height)
    right, bottom = left + max(sides[0], MIN_SIDE), top + max(sides[1], MIN_SIDE)
    return Crop(round(left), round(top), round(right), round(bottom), bool(rng.random() < 0.5))


def _wide_start(rng: np.random.Generator, lower: float, upper: float, side: float, length: float) -> float:
    """Where a crop of `side` starts, so that it keeps all but 5% of ``lower..upper`` in an image of `length`."""
    if side >= length:
        return rng.uniform(length - side, 0)
    slack = SLACK * (upper - lower)
    first, last = max(upper - slack - side, -SLACK * length), min(lower + slack, (1 + SLACK) * length - side)
    return rng.uniform(min(first, last), max(first, last))


def crop_resize(pixels: Pixels, crop: Crop, size: int | tuple[int, int]) -> Pixels:
    """Resize a crop of (h, w, 3) pixels to (3, size, size) with antialiasing; grey where it leaves the image.

    size: a side, or a width and a height for (3, height, width).
    """
    height, width = pixels.shape[:2]
    shape = (size, size) if isinstance(size, int) else size[::-1]
    if crop == full_crop(width, height) and shape == (height, width):
        return pixels.transpose(2, 0, 1)
    x1, y1 = max(crop.x1, 0), max(crop.y1, 0)
    x2, y2 = max(min(crop.x2, width), 0), max(min(crop.y2, height), 0)
    patch = pixels[y1:y2, x1:x2]
    if (x1, y1, x2, y2) != (crop.x1, crop.y1, crop.x2, crop.y2):
        canvas = np.full((crop.y2 - crop.y1, crop.x2 - crop.x1, 3), GREY, dtype=np.uint8)
        if patch.size:
            canvas[y1 - crop.y1 : y2 - crop.y1, x1 - crop.x1 : x2 - crop.x1] = patch
        patch = canvas
    patch = np.array(patch, order="C")  # a copy: PyTorch needs writable memory
    # PyTorch's uint8 kernel agrees with Pillow to one level, in a third of the time.
    tensor = torch.from_numpy(patch).permute(2, 0, 1).unsqueeze(0)
    planes = F.interpolate(tensor, size=shape, mode="bilinear", antialias=True)[0].numpy()
    return planes[..., ::-1] if crop.flipped else planes


def color_jitter(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """A random brightness, contrast and tint of (3, h, w) pixels: one table of 256 values for each channel."""
    level = np.arange(256, dtype=np.float32)
    contrast, brightness = rng.uniform(*CONTRAST), rng.uniform(*BRIGHTNESS)
    tint = rng.uniform(*TINT, 3)
    tables = np.stack([((level - 127.5) * contrast + 127.5) * t + brightness for t in tint])
    tables = np.clip(np.rint(tables), 0, 255).astype(np.uint8)
    # `bytes.translate` is the fastest look-up.
    planes = [plane.tobytes().translate(table.tobytes()) for table, plane in zip(tables, pixels, strict=True)]
    return np.frombuffer(b"".join(planes), np.uint8).reshape(pixels.shape)
