"""The second look: the box of the first one, refined in a crop around it.

On an image that is resized to the network's input, a small object has few pixels. The same backbone sees a crop around
the first box at more detail, and a second head finds the box in it: coarse to fine, as in Cascade R-CNN (Cai &
Vasconcelos, 2018, "Cascade R-CNN: Delving into High Quality Object Detection"). A crop is cut by RoIAlign (He et al.,
2017, "Mask R-CNN"), which every runtime has and which averages as many samples as a pixel of the crop covers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from solobox.config.architecture import Architecture
from solobox.model.heads import DistributionHead, Output
from solobox.model.vectorizer import Edges

ZOOM = 3.0
"""Side of a crop in longer sides of the box that it is around. See bench/LOG.md."""

DOUBT = 0.1
"""Share of the first look's standard deviations in those of a refined box.

A second look at a wrong place is sure of what it finds there. With this share of the first look's doubt a lost box has
wider margins; those of the others hardly change (bench/LOG.md).
"""

_DOUBTFUL = 0.1
"""Standard deviation of an edge, as a fraction of the side, of a first look that did not find the object."""

_SIDE_SHARE = 0.7
"""Side of the network's input for a crop, in sides of its input for the image."""

_GREY = 127.0
_MIN_SIDE = 0.004
"""Smallest side of a box, as a fraction of the image, that a crop is made for."""


class Refiner(nn.Module):
    """Vectorizer and head of the second look.

    It has the parts of a `Localizer` after its backbone, and trains as they do. side: of the crops that it sees, in
    pixels. cells: see `Architecture.cells`, for a crop.
    """

    def __init__(self, channels: Sequence[int], architecture: Architecture) -> None:
        super().__init__()
        self.side = crop_side(architecture)
        self.cells = self.side // architecture.strides[1]
        self.extra = nn.Identity()
        self.vectorizer = Edges(channels, width=architecture.width)
        self.head = DistributionHead(
            self.vectorizer.kind,
            self.vectorizer.features,
            cells=self.cells,
            bins=architecture.bins,
            width=architecture.width,
        )
        self.presence = None

    def forward(self, maps: Sequence[Tensor]) -> Output:
        """From the backbone's maps of crops to boxes as fractions of the crops' sides."""
        output: Output = self.head(self.vectorizer(maps))
        return output


def crop_side(architecture: Architecture) -> int:
    """Side in pixels of the network's input for a crop: a multiple of the coarsest stride."""
    coarsest = architecture.strides[-1]
    return max(round(architecture.side * _SIDE_SHARE / coarsest), 1) * coarsest


def regions_around(boxes: Tensor) -> Tensor:
    """The crops around boxes: (B, 4) to (B, 4), ``x1, y1, x2, y2`` as fractions; they may leave the image.

    Squares of what the first look sees, so that the object has the proportions there that it has here.
    """
    first, last = boxes[:, :2], boxes[:, 2:]
    longer = (last - first).abs().amax(dim=1, keepdim=True).clamp(min=_MIN_SIDE)
    middle, half = (first + last) / 2, longer * (ZOOM / 2)
    return torch.cat([middle - half, middle + half], dim=1)


def worthwhile(regions: Tensor, std: Tensor, architecture: Architecture) -> Tensor:
    """Which images to look at again, (B,) bool: where the crop shows more detail than the first look, or that doubted.

    regions: (B, 4) as fractions. std: standard deviations (B, 4) of the first look.
    """
    share = (regions[:, 2:] - regions[:, :2]).prod(dim=1)
    return (share < (crop_side(architecture) / architecture.side) ** 2) | (std.amax(dim=1) > _DOUBTFUL)


def crop_squares(pixels: Tensor, regions: Tensor, side: int) -> Tensor:
    """Cut one crop from each image: (B, 3, side, side) whole numbers in 0..255; grey outside the image.

    pixels: (B, 3, h, w) RGB in 0..255, float32. regions: (B, 4) as fractions of the sides.
    """
    height, width = pixels.shape[2:]
    x1, y1, x2, y2 = regions.unbind(dim=1)
    rows = torch.arange(regions.shape[0], device=regions.device, dtype=regions.dtype)
    rois = torch.stack([rows, x1 * width, y1 * height, x2 * width, y2 * height], dim=1)
    crops: Tensor = roi_align(pixels - _GREY, rois, (side, side), 1.0, sampling_ratio=-1, aligned=True)
    return (crops + _GREY).round().clamp(0, 255)


def reduce_squares(pixels: Tensor, detail: int) -> Tensor:
    """What the first look sees: (B, 3, detail * s, detail * s) to (B, 3, s, s), whole numbers in 0..255."""
    if detail == 1:
        return pixels
    # Average pooling, exactly, in a third of PyTorch's time for it and a fifth of ONNX Runtime's.
    side = pixels.shape[2] // detail
    rows = pixels.reshape(-1, 3, side, detail, side * detail).sum(dim=3)
    total = rows[..., ::detail]
    for start in range(1, detail):
        total = total + rows[..., start::detail]
    return (total / detail**2).round()


def to_crop(boxes: Tensor, regions: Tensor) -> Tensor:
    """Boxes (B, 4) as fractions of the image to fractions of crops (B, 4)."""
    start, sides = regions[:, :2].repeat(1, 2), (regions[:, 2:] - regions[:, :2]).repeat(1, 2)
    return (boxes - start) / sides


def from_crop(boxes: Tensor, regions: Tensor) -> Tensor:
    """The inverse: boxes as fractions of crops to fractions of the image."""
    start, sides = regions[:, :2].repeat(1, 2), (regions[:, 2:] - regions[:, :2]).repeat(1, 2)
    return boxes * sides + start
