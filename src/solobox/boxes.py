"""Geometry of boxes: pure functions on arrays, no state, no images.

A box is ``(x1, y1, x2, y2)`` in continuous pixels of the upright image: x to the right, y down, the
image's own corners at ``(0, 0)`` and ``(W, H)``, so that ``x2 - x1`` is the width (no +1 anywhere).
Functions take anything of shape ``(..., 4)``, broadcast over the leading axes, and give float64.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Convention: TypeAlias = Literal["xyxy", "xywh", "cxcywh"]

OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])
"""The direction out of a box, for each edge."""


def _split(boxes: npt.ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.shape[-1:] != (4,):
        raise ValueError(f"boxes have shape (..., 4), not {array.shape}")
    return array[..., 0], array[..., 1], array[..., 2], array[..., 3]


def convert(boxes: npt.ArrayLike, source: Convention, target: Convention) -> Floats:
    """Change the representation of boxes.

    ``xyxy`` is two corners, ``xywh`` the top left corner and the size (COCO), ``cxcywh`` the centre and the
    size (YOLO). Shape ``(..., 4)`` in and out; the unit (pixels or fractions) is left as it is.
    """
    a, b, c, d = _split(boxes)
    if source == "xywh":
        c, d = a + c, b + d
    elif source == "cxcywh":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    elif source != "xyxy":
        raise ValueError(f"unknown convention {source!r}")
    if target == "xywh":
        c, d = c - a, d - b
    elif target == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    elif target != "xyxy":
        raise ValueError(f"unknown convention {target!r}")
    return np.stack([a, b, c, d], axis=-1)


def area(boxes: npt.ArrayLike) -> Floats:
    """Area of each box, shape ``(...)``; a box whose corners are out of order has none."""
    x1, y1, x2, y2 = _split(boxes)
    return np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)


def object_sides(boxes: npt.ArrayLike, size: npt.ArrayLike) -> Floats:
    """The relative object size: the square root of the box's share of the image's area, shape (...), in [0, 1].

    boxes: shape (..., 4). size: width and height of the images in the unit of the boxes, (..., 2) or (2,).
    """
    return np.asarray(np.sqrt(area(boxes) / np.prod(np.asarray(size, dtype=np.float64), axis=-1)))


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Intersection over union of boxes pair by pair (leading axes broadcast), in [0, 1].

    Two boxes that are both empty have an IoU of 0; NaN in, NaN out.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    ax1, ay1, ax2, ay2 = _split(first)
    bx1, by1, bx2, by2 = _split(second)
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0)
    inter = width * height
    union = area(first) + area(second) - inter
    out = np.zeros(np.shape(union))
    np.divide(inter, union, out=out, where=(union > 0) | np.isnan(union))
    return np.minimum(out, 1.0)


def clip(boxes: npt.ArrayLike, width: npt.ArrayLike, height: npt.ArrayLike) -> Floats:
    """Move each edge into the image ``[0, width] x [0, height]``; sizes broadcast over the leading axes."""
    x1, y1, x2, y2 = _split(boxes)
    w, h = np.asarray(width, dtype=np.float64), np.asarray(height, dtype=np.float64)
    zero = 0.0
    return np.stack(
        [np.clip(x1, zero, w), np.clip(y1, zero, h), np.clip(x2, zero, w), np.clip(y2, zero, h)], axis=-1
    )


def scale(boxes: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
    """Multiply the x coordinates by ``x`` and the y coordinates by ``y`` (pixels to fractions: ``1/W, 1/H``)."""
    x1, y1, x2, y2 = _split(boxes)
    sx, sy = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.stack([x1 * sx, y1 * sy, x2 * sx, y2 * sy], axis=-1)


def flip(boxes: npt.ArrayLike, width: npt.ArrayLike) -> Floats:
    """Mirror boxes left to right in an image ``width`` wide."""
    x1, y1, x2, y2 = _split(boxes)
    w = np.asarray(width, dtype=np.float64)
    return np.stack([w - x2, y1, w - x1, y2], axis=-1)


def is_valid(boxes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which boxes have four finite numbers and ``x1 < x2, y1 < y2``."""
    array = np.asarray(boxes, dtype=np.float64)
    x1, y1, x2, y2 = _split(array)
    result: Any = np.isfinite(array).all(axis=-1) & (x1 < x2) & (y1 < y2)
    return np.asarray(result, dtype=np.bool_)
