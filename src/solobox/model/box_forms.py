"""The forms that a regression head's four numbers may have, and the way to corners and back.

``corners``: x1, y1, x2, y2. ``center_size``: cx, cy, w, h. ``corner_size``: x1, y1, w, h. All are linear in each other
and differentiable. `solobox.boxes.convert` does the same on arrays.
"""

import torch
from torch import Tensor

from solobox.config.architecture import BoxForm


def to_corners(numbers: Tensor, form: BoxForm) -> Tensor:
    """Four numbers (..., 4) of a form to ``x1, y1, x2, y2``, in the same unit and type.

    A negative size gives corners that are out of order.
    """
    place, size = numbers[..., :2], numbers[..., 2:]
    if form == "center_size":
        return torch.cat([place - size / 2, place + size / 2], dim=-1)
    if form == "corner_size":
        return torch.cat([place, place + size], dim=-1)
    return numbers


def from_corners(boxes: Tensor, form: BoxForm) -> Tensor:
    """The inverse: ``x1, y1, x2, y2`` (..., 4) to four numbers of a form."""
    first, last = boxes[..., :2], boxes[..., 2:]
    if form == "center_size":
        return torch.cat([(first + last) / 2, last - first], dim=-1)
    if form == "corner_size":
        return torch.cat([first, last - first], dim=-1)
    return boxes
