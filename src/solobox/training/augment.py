"""Windows: the part of an image that a model is shown, and what that does to the box.

A window is an axis-aligned rectangle on the whole pixels of a decoded image; it may reach past the image,
where it is grey. It is squashed to a square like any image, and may be mirrored. All randomness comes from
the generator that the caller gives.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from solobox.boxes import Floats

Pixels = npt.NDArray[np.uint8]

CLOSE_SHARE = 0.25
"""Of the random windows, how many are close ones."""

WIDE = (0.75, 1.15)
"""Side of a wide window, in sides of the image."""

ASPECT = 0.15
"""How far the logarithm of a wide window's aspect ratio is from the image's, at most."""

CLOSE = (0.4, 0.85)
"""What the box fills of a close window along an axis."""

PLACE = (0.5, 0.2)
"""Where in a close window the box is along an axis, 0 at its beginning and 1 at its end: mean and deviation."""

SLACK = 0.05
"""Share of the box that a wide window may leave out on a side, and of the image by which it may leave that."""

LEAST = 8
"""Pixels of a window's side, at least: with fewer there would be nothing to see."""

CONTRAST = (0.7, 1.3)
BRIGHTNESS = (-51, 51)
TINT = (0.9, 1.1)
"""What the distance of a level from the middle, and each channel, is multiplied by; brightness is added."""

GREY = 127
"""What lies outside an image: about the mean that backbones subtract."""


@dataclass(frozen=True, slots=True)
class Window:
    """``x1, y1, x2, y2`` in whole pixels of an image, and whether it is mirrored left to right."""

    x1: int
    y1: int
    x2: int
    y2: int
    mirrored: bool = False

    def to_window(self, box: npt.ArrayLike) -> Floats:
        """Boxes (..., 4) in pixels of the image to fractions of the window's sides."""
        x1, y1, x2, y2 = np.moveaxis(np.asarray(box, dtype=np.float64), -1, 0)
        width, height = self.x2 - self.x1, self.y2 - self.y1
        left, right = (x1 - self.x1) / width, (x2 - self.x1) / width
        if self.mirrored:
            left, right = 1 - right, 1 - left
        return np.stack([left, (y1 - self.y1) / height, right, (y2 - self.y1) / height], axis=-1)

    def from_window(self, box: npt.ArrayLike) -> Floats:
        """Boxes (..., 4) in fractions of the window's sides to pixels of the image: the inverse."""
        left, top, right, bottom = np.moveaxis(np.asarray(box, dtype=np.float64), -1, 0)
        width, height = self.x2 - self.x1, self.y2 - self.y1
        if self.mirrored:
            left, right = 1 - right, 1 - left
        return np.stack(
            [
                self.x1 + left * width,
                self.y1 + top * height,
                self.x1 + right * width,
                self.y1 + bottom * height,
            ],
            axis=-1,
        )


def stand_in(rng: np.random.Generator) -> Floats:
    """A box (4,), as fractions of the sides, where an image without the object might have it.

    Windows of such an image are drawn around it, so that they are of the same kinds as those of the others: else the
    window and not what is in it would tell the two apart.
    """
    sides = rng.uniform(0.3, 0.8, 2)
    corner = rng.uniform(0, 1, 2) * (1 - sides)
    return np.concatenate([corner, corner + sides])


def whole(width: int, height: int) -> Window:
    """The window that is the image."""
    return Window(0, 0, width, height)


def random_window(rng: np.random.Generator, box: npt.ArrayLike, width: int, height: int) -> Window:
    """A random window of an image that shows (nearly) the whole box, half of the time mirrored.

    box: ``x1, y1, x2, y2`` in pixels of the image, whose size is `width` x `height`. Three windows in four are
    wide ones, about the image's size; the fourth is a close one, of which the box fills from 40 to 85% along each
    axis, so that objects of every size are learnt from any set.
    """
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box, dtype=np.float64))
    if rng.random() < CLOSE_SHARE:
        sides = (x2 - x1) / rng.uniform(*CLOSE), (y2 - y1) / rng.uniform(*CLOSE)
        places = np.clip(rng.normal(*PLACE, 2), 0, 1)
        left, top = x1 - places[0] * (sides[0] - (x2 - x1)), y1 - places[1] * (sides[1] - (y2 - y1))
    else:
        scale, aspect = (
            np.exp(rng.uniform(np.log(WIDE[0]), np.log(WIDE[1]))),
            np.exp(rng.uniform(-ASPECT, ASPECT)),
        )
        # an object that fills the frame stays in it: an edge that cannot be seen teaches nothing
        least = (1 - SLACK) * (x2 - x1), (1 - SLACK) * (y2 - y1)
        sides = max(width * scale * aspect, least[0]), max(height * scale / aspect, least[1])
        left = _place(rng, x1, x2, sides[0], width)
        top = _place(rng, y1, y2, sides[1], height)
    right, bottom = left + max(sides[0], LEAST), top + max(sides[1], LEAST)
    return Window(round(left), round(top), round(right), round(bottom), bool(rng.random() < 0.5))


def _place(rng: np.random.Generator, lower: float, upper: float, side: float, length: float) -> float:
    """Where a window of `side` begins, so that it keeps all but 5% of ``low..high`` in an image of `length`."""
    if side >= length:
        return rng.uniform(length - side, 0)
    slack = SLACK * (upper - lower)
    first, last = max(upper - slack - side, -SLACK * length), min(lower + slack, (1 + SLACK) * length - side)
    return rng.uniform(min(first, last), max(first, last))


def cut(pixels: Pixels, window: Window, side: int | tuple[int, int]) -> Pixels:
    """A window of (h, w, 3) pixels, squashed to (3, side, side) with antialiasing; grey where it leaves the image.

    side: or a width and a height, for (3, height, width).

    Planes rather than pixels, because that is how PyTorch's kernel leaves them: turning them costs as much again.
    """
    height, width = pixels.shape[:2]
    x1, y1 = max(window.x1, 0), max(window.y1, 0)
    x2, y2 = max(min(window.x2, width), 0), max(min(window.y2, height), 0)
    part = pixels[y1:y2, x1:x2]
    if (x1, y1, x2, y2) != (window.x1, window.y1, window.x2, window.y2):
        canvas = np.full((window.y2 - window.y1, window.x2 - window.x1, 3), GREY, dtype=np.uint8)
        if part.size:
            canvas[y1 - window.y1 : y2 - window.y1, x1 - window.x1 : x2 - window.x1] = part
        part = canvas
    part = np.array(part, order="C")  # a copy: PyTorch wants memory that may be written to
    # PyTorch's uint8 kernel gives Pillow's result to one level, in a third of the time.
    tensor = torch.from_numpy(part).permute(2, 0, 1).unsqueeze(0)
    shape = (side, side) if isinstance(side, int) else side[::-1]
    resized = F.interpolate(tensor, size=shape, mode="bilinear", antialias=True)
    planes = resized[0].numpy()
    # Turned after it is small; and only read backwards, since who stacks these copies them anyway.
    return planes[..., ::-1] if window.mirrored else planes


def recolour(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """A random brightness, contrast and tint of (3, h, w) pixels: one table of 256 values for each channel."""
    level = np.arange(256, dtype=np.float32)
    contrast, brightness = rng.uniform(*CONTRAST), rng.uniform(*BRIGHTNESS)
    tint = rng.uniform(*TINT, 3)
    tables = np.stack([((level - 127.5) * contrast + 127.5) * t + brightness for t in tint])
    tables = np.clip(np.rint(tables), 0, 255).astype(np.uint8)
    # Bytes have the fastest look-up there is.
    made = [plane.tobytes().translate(table.tobytes()) for table, plane in zip(tables, pixels, strict=True)]
    return np.frombuffer(b"".join(made), np.uint8).reshape(pixels.shape)
