"""Which four numbers a file holds, judged by all its rows together: corners or sizes, pixels or fractions.

One odd row proves nothing. A file of true corners never has ``x2 < x1`` but for a few slips, and its third
and fourth numbers, read as a width and a height, run out of the image for every object right of or below
the middle. A file of ``x, y, w, h`` has both the other way round.
"""

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Convention, Floats
from solobox.data.formats.records import Layout
from solobox.data.layouts import CORNERS, WHOLE, unit_corners, unit_sizes

Mask = npt.NDArray[np.bool_]

_ORDERS: tuple[Convention, ...] = get_args(Convention)

FRACTION_SLACK = 0.02
TOLERANCE_PX = 2.0
TOLERANCE_SHARE = 0.01
ENOUGH_ROWS = 20

_FEW_ROWS = 5
_SLIPS = 0.05
"""The share of rows that may be wrong in any reading, so that they speak against none."""


_MANY = 0.25
"""The share of rows that do not fit, for which y is thought to be first in another order than the stated one too."""


@dataclass(frozen=True, slots=True)
class BoxConvention:
    """What the four numbers of each box in a file mean.

    layout: of all rows.
    sure: whether it is clear enough to convert the file automatically.
    alternative: another layout that the file may well follow; None where nothing speaks for one.
    corners_proven: the rows together can only be corners, so that swapped corners of a row can be put in order.
    """

    layout: Layout = CORNERS
    sure: bool = True
    alternative: Layout | None = None
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


def detect_convention(
    numbers: Floats, sizes: Floats, stated: Layout = CORNERS, *, order_is_stated: bool = False
) -> BoxConvention:
    """The convention of a file, judged by all its boxes.

    numbers: shape (n, 4), NaN where unreadable. sizes: shape (n, 2), width and height of the upright images
    in pixels, NaN where unknown.
    stated: what the format says; it is kept unless other readings fit clearly better.
    order_is_stated: whether it says corners or sizes; false for a table, whose columns people name as they like.
    """
    finite = finite_rows(numbers)
    numbers, sizes = numbers[finite], sizes[finite]
    if not len(numbers):
        return BoxConvention(stated)
    fractions = fraction_rows(numbers)
    # a few slips among many rows change nothing; among a handful every row must agree
    if fractions.all() or (len(numbers) >= 10 and fractions.mean() >= 0.9):
        numbers = numbers[fractions]
        layout = replace(stated, unit="fractions", first=0)
        return _in_unit(numbers, np.ones((len(numbers), 2)), layout, order_is_stated=order_is_stated)[0]
    known = finite_rows(sizes)
    if known.sum() < 0.5 * len(numbers):
        return _without_sizes(numbers, stated, order_is_stated=order_is_stated)
    numbers, sizes = numbers[known], sizes[known]
    found, misfits = _in_unit(numbers, sizes, stated, order_is_stated=order_is_stated)
    fitting = misfits <= _allowed(len(numbers))
    if fitting and stated.unit == "pixels":
        return _percent(numbers, sizes, found) or found
    if fitting:
        return found
    for unit in ("pixels", "percent", "thousandths"):
        if unit != stated.unit:
            layout = replace(stated, unit=unit, first=0)
            other, other_misfits = _in_unit(numbers, sizes, layout, order_is_stated=order_is_stated)
            if other_misfits <= 0.01 * len(numbers) and _is_better(other_misfits, misfits, len(numbers)):
                best = _percent(numbers, sizes, other) or other
                # Pixels of images that are smaller than this unit's whole always fit, but do not reach its end.
                reach = unit_corners(best.layout, numbers).max() > 0.9 * unit_sizes(best.layout, sizes).max()
                return replace(best, sure=bool(best.sure and reach))
    return found


def corners_and_sizes_fit(numbers: Floats, sizes: Floats, layout: Layout) -> bool:
    """Whether the boxes of a file fit both as corners and as corner and size, in the unit of `layout`.

    numbers, sizes: as in `detect_convention`. Where no image's size is known, whether the numbers can be corners.
    """
    finite = finite_rows(numbers)
    known = finite & finite_rows(sizes)
    if not known.any():
        return bool(finite.any() and not _reversed(numbers[finite]).any())
    numbers, sizes = numbers[known], sizes[known]
    return all(
        _misfits(numbers, sizes, replace(layout, order=order, first=0)) <= _allowed(len(numbers))
        for order in ("xyxy", "xywh")
    )


def _allowed(n: int) -> int:
    return int(_SLIPS * n)


def _is_better(misfits: int, than: int, n: int) -> bool:
    return than - misfits >= max(2, 0.1 * n)


def _slack(layout: Layout, sizes: Floats) -> Floats:
    return tolerance(sizes) if layout.unit == "pixels" else np.full(sizes.shape, FRACTION_SLACK) * sizes


def _misfits(numbers: Floats, sizes: Floats, layout: Layout) -> int:
    sizes = unit_sizes(layout, sizes)
    return len(numbers) - int(fits(unit_corners(layout, numbers), sizes, _slack(layout, sizes)).sum())


def _in_unit(
    numbers: Floats, sizes: Floats, stated: Layout, *, order_is_stated: bool
) -> tuple[BoxConvention, int]:
    """The convention in the unit of `stated`, and how many rows do not fit it.

    That y comes first shows in pixels, by images that are not square; in other units nothing shows it.
    """
    if stated.order == "xyxy" and not order_is_stated:
        in_unit = unit_sizes(stated, sizes)
        usual: Convention = "xywh" if stated.unit == "pixels" else "cxcywh"
        found = _order(numbers, in_unit, _slack(stated, in_unit), usual, stated)
    else:
        found = _order_against(numbers, sizes, stated)
    misfits = _misfits(numbers, sizes, found.layout)
    if misfits > _allowed(len(numbers)):
        turned = {
            order: _misfits(numbers, sizes, _turned(stated, order)) for order in (stated.order, *_ORDERS)
        }
        likely = [
            order
            for order, count in turned.items()
            if count <= 0.01 * len(numbers)
            and _is_better(count, misfits, len(numbers))
            and (order == stated.order or misfits - count >= _MANY * len(numbers))
        ]
        if likely:
            sure = likely[0] == stated.order or len(likely) == 1
            return BoxConvention(_turned(stated, likely[0]), sure=sure), turned[likely[0]]
    return found, misfits


def _turned(stated: Layout, order: Convention) -> Layout:
    first = stated.first if order == stated.order else 0
    return replace(stated, order=order, y_first=not stated.y_first, first=first)


def _order_against(numbers: Floats, sizes: Floats, stated: Layout) -> BoxConvention:
    """The order of a format that states one: another only where that one does not fit, and the other does."""
    n = len(numbers)
    misfits = {order: _misfits(numbers, sizes, replace(stated, order=order)) for order in _ORDERS}
    if misfits[stated.order] > _allowed(n):
        others = [
            order
            for order, count in misfits.items()
            if count <= 0.01 * n and _is_better(count, misfits[stated.order], n)
        ]
        if others:
            # The first that fits is corners, what is usual beside sizes.
            layout = replace(stated, order=others[0], first=stated.first if others[0] == "xyxy" else 0)
            return BoxConvention(layout, sure=len(others) == 1)
    elif stated.order != "xyxy" and n >= _FEW_ROWS and misfits["xyxy"] <= 0.01 * n:
        # Every width is larger than its x, and every height than its y: so are corners, of objects anywhere.
        in_unit = unit_sizes(stated, sizes)
        off = {
            order: _off_middle(unit_corners(replace(stated, order=order), numbers), in_unit)
            for order in (stated.order, "xyxy")
        }
        if off[stated.order] > off["xyxy"] + 0.1:
            return BoxConvention(stated, sure=False, alternative=replace(stated, order="xyxy"))
    return BoxConvention(stated, corners_proven=True)


def _percent(numbers: Floats, sizes: Floats, found: BoxConvention) -> BoxConvention | None:
    """Percent, in a file whose numbers fit as pixels too: none is above 100, in images that are much larger."""
    whole = WHOLE["percent"]
    in_percent = (numbers >= -1) & (numbers <= whole + 1)
    if len(numbers) < _FEW_ROWS or not in_percent.all() or np.median(sizes.min(axis=-1)) < 2 * whole:
        return None
    layout = replace(found.layout, unit="percent", first=0)
    other, misfits = _in_unit(numbers, sizes, layout, order_is_stated=True)
    if misfits > 0.01 * len(numbers):
        return None
    layout = other.layout
    corners = unit_corners(layout, numbers)
    in_unit = unit_sizes(layout, sizes)
    off = _off_middle(corners, in_unit), _off_middle(unit_corners(found.layout, numbers), sizes)
    if off[0] > 0.2 or off[1] < off[0] + 0.1:
        return None
    # Small objects in the upper left are rare, but exist; hardly so that they end where percent would.
    sure = other.sure and len(numbers) >= ENOUGH_ROWS and corners.max() > 0.9 * whole
    return BoxConvention(layout, sure=bool(sure))


def _reversed(numbers: Floats) -> Mask:
    return np.asarray((numbers[:, 2:] < numbers[:, :2]).any(axis=-1), dtype=np.bool_)


def _order(numbers: Floats, sizes: Floats, slack: Floats, usual: Convention, stated: Layout) -> BoxConvention:
    """Find the order of a table; `usual` is the one of the two with sizes that people use with this unit.

    sizes, slack: in the layout's unit.
    """
    n = len(numbers)
    other: Convention = "cxcywh" if usual == "xywh" else "xywh"
    misfits: dict[Convention, int] = {}
    off: dict[Convention, float] = {}
    for order in (usual, other):
        boxes = unit_corners(replace(stated, order=order, first=0), numbers)
        misfits[order] = n - int(fits(boxes, sizes, slack).sum())
        off[order] = _off_middle(boxes, sizes)
    corners = unit_corners(stated, numbers)
    off_as_corners = _off_middle(corners, sizes)
    fewest = min(misfits.values())

    def with_sizes(order: Convention) -> Layout:
        return replace(stated, order=order, first=0)

    if int(_reversed(numbers).sum()) >= max(3, 0.1 * n) and fewest <= 0.05 * n:
        if max(misfits.values()) >= 3 * fewest + 3:
            return BoxConvention(with_sizes(min(misfits, key=lambda order: misfits[order])))
        # Both fit small objects. What people write is believed where the positions of the objects clearly agree.
        margin = 0.03 + 2 * float(np.hypot(*((numbers[:, :2] / sizes).std(axis=0) / np.sqrt(n))))
        return BoxConvention(with_sizes(usual), sure=n >= ENOUGH_ROWS and off[other] > off[usual] + margin)
    # Large objects with sizes read as corners stay in order (w > x), so only two things give them away: no
    # box ever leaves its image, and so read they lie in the middle, where photographers put things.
    # A row that is wrong in any reading (a box without height) speaks for none.
    as_corners = n - int(fits(corners, sizes, slack).sum())
    fitting = [order for order in (usual, other) if misfits[order] <= as_corners + 0.01 * n]
    likely = [order for order in fitting if off[order] < 0.12 and off_as_corners > off[order] + 0.05]
    if likely and n >= ENOUGH_ROWS:
        return BoxConvention(stated, sure=False, alternative=with_sizes(likely[0]))
    in_place = n >= ENOUGH_ROWS and all(off[order] > off_as_corners + 0.05 for order in fitting)
    proven = in_place or (n >= _FEW_ROWS and fewest - as_corners > 0.2 * n)
    return BoxConvention(stated, sure=not fitting or in_place, corners_proven=proven)


def _off_middle(boxes: Floats, sizes: Floats) -> float:
    """How far the mean centre of boxes (n, 4) lies from the middle, as a share of the sides."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    return float(np.hypot(*(centres.mean(axis=0) - 0.5)))


def _without_sizes(numbers: Floats, stated: Layout, *, order_is_stated: bool) -> BoxConvention:
    if order_is_stated or stated.order != "xyxy":
        return BoxConvention(stated, corners_proven=True)
    positive = (numbers[:, 2:] > 0).all(axis=-1)
    if len(numbers) >= 8 and _reversed(numbers).mean() >= 0.25 and positive.all():
        return BoxConvention(replace(stated, order="xywh", first=0), sure=False)
    return BoxConvention(stated)
