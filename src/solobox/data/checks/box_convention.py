"""Which four numbers a file holds, judged by all its rows together: corners or sizes, pixels or fractions.

One odd row proves nothing. A file of true corners never has ``x2 < x1`` but for a few slips, and its third
and fourth numbers, read as a width and a height, run out of the image for every object right of or below
the middle. A file of ``x, y, w, h`` has both the other way round.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Convention, Floats

Mask = npt.NDArray[np.bool_]

FRACTION_SLACK = 0.02
TOLERANCE_PX = 2.0
TOLERANCE_SHARE = 0.01
ENOUGH_ROWS = 20


@dataclass(frozen=True, slots=True)
class BoxConvention:
    """What the four numbers of each box in a file mean.

    unit: ``pixels`` or ``fractions`` (of the image's width and height).
    order: the convention that the numbers follow.
    sure: whether `order` is clear enough to convert the file automatically.
    alternative: another order that a file taken as corners may well follow; None where nothing speaks for one.
    corners_proven: the rows together can only be corners, so that swapped corners of a row can be put in order.
    """

    unit: Literal["pixels", "fractions"] = "pixels"
    order: Convention = "xyxy"
    sure: bool = True
    alternative: Convention | None = None
    corners_proven: bool = False


def tolerance(sizes: Floats) -> Floats:
    """How far an edge may lie outside and still be a slip, in pixels: (n, 2) for sizes (n, 2)."""
    return np.maximum(TOLERANCE_PX, TOLERANCE_SHARE * sizes)


def overhang(boxes: Floats, sizes: Floats) -> Floats:
    """How far boxes (n, 4) reach out of images of sizes (n, 2): (n, 2), negative inside."""
    return np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes)


def fits(boxes: Floats, sizes: Floats, slack: Floats) -> Mask:
    """Which boxes have their corners in order and, but for `slack` (n, 2), lie in their images."""
    inside = (overhang(boxes, sizes) <= slack).all(axis=-1)
    return np.asarray(geometry.is_valid(boxes) & inside, dtype=np.bool_)


def finite_rows(values: Floats) -> Mask:
    """Which rows hold finite numbers only."""
    return np.asarray(np.isfinite(values).all(axis=-1), dtype=np.bool_)


def fraction_rows(numbers: Floats) -> Mask:
    """Which rows of (n, 4) can be fractions of an image: all four numbers about 0 to 1."""
    return np.asarray(
        ((numbers >= -FRACTION_SLACK) & (numbers <= 1 + FRACTION_SLACK)).all(axis=-1), dtype=np.bool_
    )


def detect_convention(numbers: Floats, sizes: Floats) -> BoxConvention:
    """The convention of a file, judged by all its boxes.

    numbers: shape (n, 4), NaN where unreadable. sizes: shape (n, 2), width and height of the upright images
    in pixels, NaN where unknown.
    """
    finite = finite_rows(numbers)
    numbers, sizes = numbers[finite], sizes[finite]
    if not len(numbers):
        return BoxConvention()
    fractions = fraction_rows(numbers)
    # a few slips among many rows change nothing; among a handful every row must agree
    if fractions.all() or (len(numbers) >= 10 and fractions.mean() >= 0.9):
        numbers = numbers[fractions]
        unit = np.ones((len(numbers), 2))
        order = _order(numbers, unit, FRACTION_SLACK * unit, usual="cxcywh")
        return replace(order, unit="fractions")
    known = finite_rows(sizes)
    if known.sum() < 0.5 * len(numbers):
        return _order_without_sizes(numbers)
    return _order(numbers[known], sizes[known], tolerance(sizes[known]), usual="xywh")


def _reversed(numbers: Floats) -> Mask:
    return np.asarray((numbers[:, 2:] < numbers[:, :2]).any(axis=-1), dtype=np.bool_)


def _order(numbers: Floats, sizes: Floats, slack: Floats, usual: Convention) -> BoxConvention:
    """Find the order; `usual` is the one of the two with sizes that people use with this unit."""
    n = len(numbers)
    other: Convention = "cxcywh" if usual == "xywh" else "xywh"
    misfits: dict[Convention, int] = {}
    off: dict[Convention, float] = {}
    for order in (usual, other):
        boxes = geometry.convert(numbers, order, "xyxy")
        misfits[order] = n - int(fits(boxes, sizes, slack).sum())
        off[order] = _off_middle(boxes, sizes)
    off_as_corners = _off_middle(numbers, sizes)
    fewest = min(misfits.values())
    if int(_reversed(numbers).sum()) >= max(3, 0.1 * n) and fewest <= 0.05 * n:
        if max(misfits.values()) >= 3 * fewest + 3:
            return BoxConvention(order=min(misfits, key=lambda order: misfits[order]))
        # Both fit small objects. What people write is believed where the positions of the objects clearly agree.
        margin = 0.03 + 2 * float(np.hypot(*((numbers[:, :2] / sizes).std(axis=0) / np.sqrt(n))))
        return BoxConvention(order=usual, sure=n >= ENOUGH_ROWS and off[other] > off[usual] + margin)
    # Large objects with sizes read as corners stay in order (w > x), so only two things give them away: no
    # box ever leaves its image, and so read they lie in the middle, where photographers put things.
    # A row that is wrong in any reading (a box without height) speaks for none.
    as_corners = n - int(fits(numbers, sizes, slack).sum())
    fitting = [order for order in (usual, other) if misfits[order] <= as_corners + 0.01 * n]
    likely = [order for order in fitting if off[order] < 0.12 and off_as_corners > off[order] + 0.05]
    if likely and n >= ENOUGH_ROWS:
        return BoxConvention(sure=False, alternative=likely[0])
    in_place = n >= ENOUGH_ROWS and all(off[order] > off_as_corners + 0.05 for order in fitting)
    proven = in_place or (n >= 5 and fewest - as_corners > 0.2 * n)
    return BoxConvention(sure=not fitting or in_place, corners_proven=proven)


def _off_middle(boxes: Floats, sizes: Floats) -> float:
    """How far the mean centre of boxes (n, 4) lies from the middle, as a share of the sides."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    return float(np.hypot(*(centres.mean(axis=0) - 0.5)))


def _order_without_sizes(numbers: Floats) -> BoxConvention:
    positive = (numbers[:, 2:] > 0).all(axis=-1)
    if len(numbers) >= 8 and _reversed(numbers).mean() >= 0.25 and positive.all():
        return BoxConvention(order="xywh", sure=False)
    return BoxConvention()


def to_pixels(convention: BoxConvention, numbers: Floats, sizes: Floats) -> Floats:
    """Convert numbers (n, 4) of this convention to boxes ``x1, y1, x2, y2`` in pixels.

    In a file of fractions, rows that cannot be fractions and rows whose image size is unknown become NaN.
    """
    boxes = geometry.convert(numbers, convention.order, "xyxy")
    if convention.unit == "fractions":
        boxes = geometry.scale(boxes, sizes[:, 0], sizes[:, 1])
        boxes[~fraction_rows(numbers)] = np.nan
    return boxes
