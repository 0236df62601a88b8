"""Training images that lie on a GPU, and their windows and colours made there, a batch at a time.

What `crops` does to one image in NumPy is done here to a batch of tensors, without Python for each image: the
same windows from the same numbers, and pixels that differ by a level. It runs on any device and is tested on a CPU
against `crops`; it is used on CUDA alone, where it has not been run yet.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from solobox.training.augment import (
    ASPECT,
    BRIGHTNESS,
    CLOSE,
    CLOSE_SHARE,
    CONTRAST,
    GREY,
    LEAST,
    PLACE,
    SLACK,
    TINT,
    WIDE,
    stand_in,
)
from solobox.training.distributed import Ranks
from solobox.training.image_cache import Originals, Squares
from solobox.training.views import generator

NUMBERS = 11
"""Random numbers that a view takes: which kind of window, its sides (2), its place (2), mirrored; then contrast,
brightness and tint (3)."""

_SHARE = 0.25
"""Of a GPU's free memory, what data may take: the rest is for the network and its gradients."""

_TOGETHER = 256
"""Images that are uploaded at once."""


def has_room(nbytes: int, device: torch.device) -> bool:
    """Whether `device` is a GPU with so much free memory that data of so many bytes may stay there."""
    return device.type == "cuda" and nbytes <= _SHARE * torch.cuda.mem_get_info(device)[0]


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; to a GPU without waiting until it is there."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, slots=True)
class Resident:
    """Square images on a device.

    pixels: (N, S, 3, S) uint8 RGB: rows, channels, columns, the order in which `cut` needs no copies.
    boxes: (N, 4) float32 as fractions of the sides, NaN without the object.
    aims: (N, 4) the same with `windows.stand_in` for a box that is not there: what windows are drawn around.
    """

    pixels: Tensor
    boxes: Tensor
    aims: Tensor

    @classmethod
    def of(cls, squares: Squares, device: torch.device) -> "Resident":
        """Upload all of `squares`, whatever the room; see `fit_on`."""
        count, side = len(squares), squares.side
        pixels = torch.empty(count, side, 3, side, dtype=torch.uint8, device=device)
        for rows in np.split(np.arange(count), range(_TOGETHER, count, _TOGETHER)):
            part = uploaded(torch.from_numpy(squares.pixels(rows)), device)
            pixels[rows[0] : rows[-1] + 1] = part.permute(0, 1, 3, 2)
        aims = [
            box if np.isfinite(box).all() else stand_in(generator(0, 0, name))
            for box, name in zip(squares.boxes, squares.dataset.names, strict=True)
        ]
        boxes, around = (
            uploaded(torch.from_numpy(own).float(), device) for own in (squares.boxes, np.stack(aims))
        )
        return cls(pixels, boxes, around)

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Tensor, side: int, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
        """Views of some images: pixels (B, 3, side, side) float32 in 0..255 channels last, and boxes (B, 4) in them.

        rows: (B,) on the device. numbers: (N, NUMBERS) of an epoch, see `draws`, on the device, a row for each of
        all the images; or None for whole images in their own colours.
        """
        pixels, boxes = self.pixels[rows], self.boxes[rows]
        length = pixels.shape[-1]
        if numbers is None:
            whole = torch.zeros_like(boxes)
            whole[:, 2:] = length
            return cut(pixels, whole, torch.zeros_like(rows, dtype=torch.bool), side), boxes
        own, boxes = numbers[rows], boxes * length
        crops, mirrored = random_windows(own, self.aims[rows] * length, length)
        shown = recolour(own, cut(pixels, crops, mirrored, side))
        return shown, to_windows(boxes, crops, mirrored)


def fit_on(images: Squares | Originals, device: torch.device, ranks: Ranks | None = None) -> Resident | None:
    """The images on `device`, where that is a GPU on which they take no more than a quarter of the free memory.

    None elsewhere, and for images that keep their own sizes. Of several ranks all have them there or none has: the
    windows are drawn from other numbers there.
    """
    if not isinstance(images, Squares):
        return None
    fits = has_room(len(images) * images.side**2 * 3, device)
    if (ranks or Ranks()).any(not fits):
        return None
    return Resident.of(images, device)


def draws(seed: int, epoch: int, count: int) -> Tensor:
    """The random numbers of `count` images in an epoch: (count, NUMBERS) float32 in [0, 1), on the CPU.

    An image's own are a function of seed, epoch and its row alone, not of how many there are.
    """
    return torch.from_numpy(np.random.default_rng([seed, epoch, 2]).random((count, NUMBERS), np.float32))


def random_windows(numbers: Tensor, boxes: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """What `windows.random_window` draws, for a batch.

    numbers: (B, NUMBERS) in [0, 1). boxes: (B, 4) in pixels of squares of `length` pixels. Gives the windows (B, 4),
    ``x1, y1, x2, y2`` in whole pixels of the image as floats, and whether they are mirrored, (B,).
    """
    lower, upper = boxes[:, :2], boxes[:, 2:]
    extent, drawn, placed = upper - lower, numbers[:, 1:3], numbers[:, 3:5]

    close = extent / _between(drawn, *CLOSE)
    beginning = (PLACE[0] + PLACE[1] * torch.special.ndtri(placed)).clamp(0, 1)
    close_low = lower - beginning * (close - extent)

    scale = _between(drawn[:, :1], math.log(WIDE[0]), math.log(WIDE[1])).exp()
    aspect = _between(drawn[:, 1:], -ASPECT, ASPECT).exp()
    wide = torch.maximum(length * scale * torch.cat([aspect, 1 / aspect], dim=1), (1 - SLACK) * extent)
    slack = SLACK * extent
    first = (upper - slack - wide).clamp(min=-SLACK * length)
    last = torch.minimum(lower + slack, (1 + SLACK) * length - wide)
    least, most = torch.minimum(first, last), torch.maximum(first, last)
    within = least + (most - least) * placed
    wide_low = torch.where(wide >= length, (length - wide) * (1 - placed), within)

    is_close = numbers[:, :1] < CLOSE_SHARE
    start = torch.where(is_close, close_low, wide_low)
    end = start + torch.where(is_close, close, wide).clamp(min=LEAST)
    return torch.cat([start.round(), end.round()], dim=1), numbers[:, 5] < 0.5


def to_windows(boxes: Tensor, crops: Tensor, mirrored: Tensor) -> Tensor:
    """Boxes (B, 4) in pixels of the image to fractions of the windows (B, 4) of `random_windows`."""
    start, size = crops[:, :2], crops[:, 2:] - crops[:, :2]
    x1, y1, x2, y2 = ((boxes - start.repeat(1, 2)) / size.repeat(1, 2)).unbind(1)
    left, right = torch.where(mirrored, 1 - x2, x1), torch.where(mirrored, 1 - x1, x2)
    return torch.stack([left, y1, right, y2], dim=1)


def cut(pixels: Tensor, crops: Tensor, mirrored: Tensor, side: int) -> Tensor:
    """What `windows.cut` cuts, for a batch: whole levels (B, 3, side, side) float32 in 0..255, channels last.

    pixels: (B, S, 3, S) uint8, see `Resident`. windows, mirrored: see `random_windows`; in whole pixels, and no wider
    than the widest that it gives, 2.5 S.

    Antialiased bilinear resampling is linear and separable: two batched matrix products with weights for each image.
    """
    count, length = len(pixels), pixels.shape[-1]
    x1, y1, x2, y2 = crops.unbind(1)
    down = _weights(y1, y2, torch.zeros_like(mirrored), length, side)
    across = _weights(x1, x2, mirrored, length, side)
    # As distances from grey, what lies outside of the image is zero and need not be there.
    levels = (pixels.float() - GREY).reshape(count, length, 3 * length)
    rows = torch.bmm(down, levels).reshape(count, side * 3, length)
    shown = torch.bmm(rows, across.transpose(1, 2)).reshape(count, side, 3, side).permute(0, 2, 1, 3)
    return (shown + GREY).round().contiguous(memory_format=torch.channels_last)


def recolour(numbers: Tensor, pixels: Tensor) -> Tensor:
    """What `windows.recolour` does, for a batch (B, 3, h, w) of levels; numbers: (B, NUMBERS) in [0, 1)."""
    contrast, brightness = _between(numbers[:, 6:7], *CONTRAST), _between(numbers[:, 7:8], *BRIGHTNESS)
    tint = _between(numbers[:, 8:11], *TINT)
    gain, offset = tint * contrast, tint * (127.5 - 127.5 * contrast) + brightness
    shown = torch.addcmul(offset[:, :, None, None], pixels, gain[:, :, None, None])
    return shown.round().clamp(0, 255)


def _between(numbers: Tensor, lower: float, upper: float) -> Tensor:
    """From [0, 1) to [low, high)."""
    return lower + (upper - lower) * numbers


def _weights(lower: Tensor, upper: Tensor, backwards: Tensor, length: int, side: int) -> Tensor:
    """How much each of `length` pixels counts in each of `side` cells of the windows `low..high`: (B, side, length).

    Triangles about the middles of the cells, as wide as two cells or two pixels, whichever is more, over the pixels of
    the window; so do Pillow and PyTorch. Those of pixels outside of the image count in the sum, which is 1, and are
    left out of the result.
    """
    lower, size = lower[:, None, None], (upper - lower)[:, None, None]
    cell = size / side
    support = cell.clamp(min=1)
    place = torch.arange(side, device=lower.device).unsqueeze(1)
    middle = (torch.where(backwards[:, None, None], side - 1 - place, place) + 0.5) * cell

    def counts(pixel: Tensor) -> Tensor:
        """Of pixels counted from the beginning of the window."""
        triangle = (1 - ((pixel + 0.5 - middle) / support).abs()).clamp(min=0)
        return triangle * ((pixel >= 0) & (pixel < size))

    widest = math.ceil(max(1.0, max(length / CLOSE[0], LEAST) / side))
    taps = (middle - support).floor() + torch.arange(2 * widest + 2, device=lower.device)
    inside = torch.arange(length, device=lower.device) - lower
    return counts(inside) / counts(taps).sum(dim=2, keepdim=True)
