"""Rules about one box and its image. Each rule works on the whole file at once.

The order matters: a rule that rejects a box hides it from the later rules, and a rule that fixes a box passes the
fixed box on to them.
"""

import numpy as np

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.data.checks import box_convention
from solobox.data.checks.box_convention import BoxConvention, Mask, finite_rows
from solobox.data.checks.context import CheckContext, box_text, format_number, size_text
from solobox.data.checks.layout_rules import check_layout, rotate

WHOLE_FRAME_SHARE = 0.005
TINY_PX = 4.0
TINY_SHARE = 0.01
NEGLIGIBLE_PX = 0.5
ASPECT_MIN_ROWS = 20
ASPECT_MAX_Z = 6.0
ASPECT_MIN_SPREAD = 0.15


def check_boxes(context: CheckContext) -> None:
    """Every rule about boxes, in order."""
    _numbers(context)
    convention = check_layout(context)
    _order(context, convention)
    _rotation(context)
    _frame(context)
    _size(context)
    _aspect(context)


def _rows(context: CheckContext, mask: Mask) -> list[int]:
    return [int(index) for index in np.flatnonzero(mask & context.active)]


def _numbers(context: CheckContext) -> None:
    told = {problem.record for problem in context.annotations.problems}
    for index in _rows(context, ~finite_rows(context.boxes)):
        context.active[index] = False
        if index in told:
            continue
        context.add(
            "box-not-numbers",
            index,
            f"the box is not four finite numbers: {box_text(context, index) or 'empty'}",
            "write four numbers, or leave all four empty for an image without the object",
        )


def _order(context: CheckContext, convention: BoxConvention) -> None:
    x1, y1, x2, y2 = context.boxes.T
    for index in _rows(context, (x1 == x2) | (y1 == y2)):
        side = "width" if x1[index] == x2[index] else "height"
        context.add(
            "empty-box",
            index,
            f"the box has no {side}: {box_text(context, index)}",
            "draw the box again, or remove the row",
        )
        context.active[index] = False
    swapped = (x2 < x1) | (y2 < y1)
    if not swapped.any():
        return
    ordered = np.concatenate(
        [
            np.minimum(context.boxes[:, :2], context.boxes[:, 2:]),
            np.maximum(context.boxes[:, :2], context.boxes[:, 2:]),
        ],
        axis=-1,
    )
    # where the rows are few, "x, y, w, h" is as good a reading of such a row, and only a person can tell
    as_sizes = box_convention.fits(
        geometry.convert(context.boxes, "xywh", "xyxy"), context.size, box_convention.tolerance(context.size)
    )
    fixable = box_convention.fits(ordered, context.size, box_convention.tolerance(context.size))
    if not convention.corners_proven:
        fixable &= ~as_sizes
    for index in _rows(context, swapped):
        axis = " and ".join(
            name
            for name, is_off in (("x2 < x1", x2[index] < x1[index]), ("y2 < y1", y2[index] < y1[index]))
            if is_off
        )
        if fixable[index]:
            advice = "swap the corners; --fix does it"
            fixed_boxes = [(index, ordered[index])]
        else:
            advice = "swap the corners, or add x and y if the last two are a width and a height"
            fixed_boxes = []
        context.add(
            "corners-swapped", index, f"{axis}: {box_text(context, index)}", advice, fixed_boxes=fixed_boxes
        )
        if fixed_boxes:
            context.boxes[index] = ordered[index]
        else:
            context.active[index] = False


def _rotation(context: CheckContext) -> None:
    turned = (context.orientation > 1) & (context.orientation <= 8) & context.active & ~context.upright_proven
    if not turned.any():
        return
    upright = box_convention.fits(context.boxes, context.size, box_convention.tolerance(context.size))
    unrotated = box_convention.fits(context.boxes, context.stored, box_convention.tolerance(context.stored))
    proof = _rows(context, turned & unrotated & ~upright)
    for index in proof:
        context.add(
            "unrotated-box",
            index,
            f"the box {box_text(context, index)} fits the image as stored ({size_text(context.stored[index])}), not "
            f"upright ({size_text(context.size[index])}): its EXIF orientation is {context.orientation[index]}",
            "give the box in the upright image; --fix turns it",
            fixed_boxes=[
                (index, rotate(context.boxes[index], int(context.orientation[index]), context.stored[index]))
            ],
        )
        context.active[index] = False
    # who drew one box on an un-rotated image drew the others so too, unless one of them says otherwise
    if proof and not (turned & upright & ~unrotated).any():
        for index in _rows(context, turned & upright):
            context.add(
                "maybe-unrotated",
                index,
                "the box fits the image both upright and as stored (EXIF orientation "
                f"{context.orientation[index]}); other boxes of this file fit such images only as stored",
                "check it by eye; --fix leaves it out",
                leave_out=(index,),
            )


def _frame(context: CheckContext) -> None:
    known = finite_rows(context.size)
    x1, y1, x2, y2 = context.boxes.T
    width, height = context.size.T
    with np.errstate(invalid="ignore"):
        off = known & ((x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0))
        reach = box_convention.overhang(context.boxes, context.size)
        far = known & (reach > box_convention.tolerance(context.size)).any(axis=-1) & ~off
        over = known & (reach > NEGLIGIBLE_PX).any(axis=-1) & ~off & ~far
    for index in _rows(context, off):
        context.add(
            "box-off-image",
            index,
            f"the box {box_text(context, index)} lies wholly outside the image ({size_text(context.size[index])})",
            "draw the box again; does it belong to another image, or to another size of this one?",
        )
    for index in _rows(context, far):
        context.add(
            "box-outside",
            index,
            f"the box {box_text(context, index)} reaches {format_number(reach[index].max())} px out of the image "
            f"({size_text(context.size[index])})",
            "draw the box again; does it belong to another image, or to another size of this one?",
        )
    clipped = geometry.clip(context.boxes, width, height)
    for index in _rows(context, over):
        context.add(
            "box-over-edge",
            index,
            f"the box {box_text(context, index)} reaches {format_number(reach[index].max())} px over the edge of the "
            f"image ({size_text(context.size[index])})",
            "end it at the edge; --fix does it",
            fixed_boxes=[(index, clipped[index])],
        )
    context.active &= ~(off | far)
    context.boxes = np.where((known & context.active)[:, None], clipped, context.boxes)


def _size(context: CheckContext) -> None:
    known = finite_rows(context.size)
    sides = context.boxes[:, 2:] - context.boxes[:, :2]
    with np.errstate(invalid="ignore"):
        slack = np.maximum(1.0, WHOLE_FRAME_SHARE * context.size)
        at_frame = (context.boxes[:, :2] <= slack) & (context.boxes[:, 2:] >= context.size - slack)
        least = np.fmax(TINY_PX, TINY_SHARE * context.size)
        tiny: Mask = np.asarray((sides < least).any(axis=-1), dtype=np.bool_)
        whole: Mask = np.asarray(at_frame.all(axis=-1), dtype=np.bool_) & known & ~tiny
    for index in _rows(context, whole):
        context.add(
            "whole-frame",
            index,
            f"the box is the whole image ({size_text(context.size[index])})",
            "right if the object fills the image; else draw the box",
        )
    fraction = box_convention.fraction_rows(context.boxes)
    for index in _rows(context, tiny):
        image = f" of an image of {size_text(context.size[index])}" if known[index] else ""
        if fraction[index]:
            advice = "the numbers look like fractions: multiply by the image's width and height"
        else:
            advice = "was it a slip of the mouse? Then draw it again, or remove the row"
        size = f"{format_number(sides[index, 0])} x {format_number(sides[index, 1])} px"
        context.add("tiny-box", index, f"the box is only {size}{image}", advice)
    context.active &= ~(tiny & context.active)


def _aspect(context: CheckContext) -> None:
    labels = np.array([record.label for record in context.records], dtype=object)
    for label in dict.fromkeys(labels[context.active]):
        rows = np.flatnonzero(context.active & (labels == label))
        if len(rows) < ASPECT_MIN_ROWS:
            continue
        width, height = (context.boxes[rows, 2:] - context.boxes[rows, :2]).T
        aspect = np.log(width / height)
        odd, usual = _outliers(aspect)
        # an upright image of an upright object is rare, not wrong: its box is usual for the image's shape
        of_image = np.log(context.size[rows, 0] / context.size[rows, 1])
        known = np.isfinite(of_image)
        if known.sum() >= ASPECT_MIN_ROWS:
            odd[known] &= _outliers((aspect - of_image)[known])[0]
        of_label = f" of {label!r}" if label else ""
        for at in np.flatnonzero(odd):
            context.add(
                "odd-aspect",
                int(rows[at]),
                f"the box is {np.exp(aspect[at]):.2g} times as wide as high; the boxes{of_label} are "
                f"usually {np.exp(usual):.2g}",
                "check whether an edge is misplaced",
            )


def _outliers(values: Floats) -> tuple[Mask, float]:
    """Which values lie far from the median, measured by their own spread; and the median."""
    usual = float(np.median(values))
    deviation = np.abs(values - usual)
    # 1.4826 makes a standard deviation of the median one; the floor keeps a very uniform set quiet
    std = max(1.4826 * float(np.median(deviation)), ASPECT_MIN_SPREAD)
    return np.asarray(deviation > ASPECT_MAX_Z * std, dtype=np.bool_), usual
