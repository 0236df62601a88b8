"""Layouts of boxes: from the four numbers that a file has to corners in pixels."""

from typing import get_args

import numpy as np

from solobox import boxes as geometry
from solobox.boxes import Convention, Floats
from solobox.data.formats.records import Layout
from solobox.errors import ConfigError

WHOLE = {"fractions": 1.0, "percent": 100.0, "thousandths": 1000.0}
"""What the image's full width and height are in each unit but pixels."""

CORNERS = Layout()
"""The layout of Solobox itself: corners in pixels."""

_ORDERS = {
    "xyxy": "corners x1, y1, x2, y2",
    "xywh": "x, y, width, height",
    "cxcywh": "centre x, centre y, width, height",
}
_Y_FIRST = {
    "xyxy": "corners y1, x1, y2, x2",
    "xywh": "y, x, height, width",
    "cxcywh": "centre y, centre x, height, width",
}
_NAMES = {"yxyx": "xyxy", "yxhw": "xywh", "cycxhw": "cxcywh"}


def parse_layout(text: str) -> Layout:
    """The layout that a text such as ``xywh`` or ``cxcywh fractions`` names: an order, and a unit if it is not pixels.

    Orders: xyxy, xywh, cxcywh, and with y first yxyx, yxhw, cycxhw. Units: pixels, fractions, percent, thousandths.
    Raises ConfigError: ``unknown-layout``.
    """
    words = text.lower().replace(",", " ").replace(":", " ").replace("-", " ").split()
    order, unit = (*words, "pixels")[:2] if words else ("", "")
    known = get_args(Convention)
    if len(words) > 2 or order not in {*known, *_NAMES} or unit not in {"pixels", *WHOLE}:
        raise ConfigError(
            f"{text!r} is no layout: write an order ({', '.join((*known, *_NAMES))}) and, unless it is pixels, a unit "
            f"({', '.join(WHOLE)}), such as `xywh` or `xyxy-fractions`",
            code="unknown-layout",
        )
    return Layout(_NAMES.get(order, order), unit, y_first=order in _NAMES)  # type: ignore[arg-type]


def layout_name(layout: Layout) -> str:
    """The text that `parse_layout` reads as this layout (pixels counted from 0)."""
    names = {order: name for name, order in _NAMES.items()}
    order = names[layout.order] if layout.y_first else layout.order
    return order if layout.unit == "pixels" else f"{order}-{layout.unit}"


def describe_order(layout: Layout) -> str:
    """The order of the four numbers in words, such as ``x, y, width, height``."""
    return (_Y_FIRST if layout.y_first else _ORDERS)[layout.order]


def describe(layout: Layout) -> str:
    """A layout in words, such as ``corners x1, y1, x2, y2 in pixels``."""
    unit = "pixels" if layout.unit == "pixels" else f"{layout.unit} of the image"
    return f"{describe_order(layout)} in {unit}{', counted from 1' if layout.first else ''}"


def unit_corners(layout: Layout, numbers: Floats) -> Floats:
    """Corners x1, y1, x2, y2 of numbers (n, 4) in the layout's own unit; pixels are counted from 0."""
    if layout.y_first:
        numbers = numbers[:, [1, 0, 3, 2]]
    corners = geometry.convert(numbers, layout.order, "xyxy")
    if layout.first:
        # The last pixel of an object ends one further on, which brings the second corner back to its number.
        corners[:, :2] -= layout.first
    return corners


def unit_sizes(layout: Layout, sizes: Floats) -> Floats:
    """Width and height of images (n, 2) in the layout's unit."""
    return sizes if layout.unit == "pixels" else np.full(sizes.shape, WHOLE[layout.unit])


def to_pixels(layout: Layout, numbers: Floats, sizes: Floats) -> Floats:
    """Convert numbers (n, 4) of a layout to boxes ``x1, y1, x2, y2`` in continuous pixels of the upright image.

    sizes: (n, 2), width and height of the upright images in pixels. Where they are NaN, boxes in other units are too.
    """
    corners = unit_corners(layout, numbers)
    if layout.unit == "pixels":
        return corners
    return geometry.scale(corners, sizes[:, 0] / WHOLE[layout.unit], sizes[:, 1] / WHOLE[layout.unit])
