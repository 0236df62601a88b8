"""Rules about one box and its image. Each finds its rows for the whole file at once.

The order matters: a rule that condemns a box takes it from the later ones, and a rule that mends a box leaves
the mended one to them.
"""

import numpy as np

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.data.checks import box_convention as layouts
from solobox.data.checks.box_convention import Layout, Mask, finite_rows
from solobox.data.checks.context import PIXEL_FORMATS, Case, number, say

WHOLE_FRAME_SHARE = 0.005
TINY_PX = 4.0
TINY_SHARE = 0.01
NEGLIGIBLE_PX = 0.5
ASPECT_MIN_ROWS = 20
ASPECT_MAX_Z = 6.0
ASPECT_MIN_SPREAD = 0.15

_ORDER_WORDS = {
    "xyxy": "corners x1, y1, x2, y2",
    "xywh": "x, y, width, height",
    "cxcywh": "centre x, centre y, width, height",
}
_TO_CORNERS = {"xywh": "x2 = x + width, y2 = y + height", "cxcywh": "x1 = x - width / 2, x2 = x + width / 2"}


def judge_boxes(case: Case) -> None:
    """Every rule about boxes, in order."""
    _numbers(case)
    layout = _layout(case)
    _order(case, layout)
    _rotation(case)
    _frame(case)
    _size(case)
    _aspect(case)


def _rows(case: Case, mask: Mask) -> list[int]:
    return [int(index) for index in np.flatnonzero(mask & case.judged)]


def _text(case: Case, index: int) -> str:
    record = case.records[index]
    return record.text or (say(record.box) if record.box is not None else "")


def _numbers(case: Case) -> None:
    for index in _rows(case, ~finite_rows(case.boxes)):
        case.judged[index] = False
        seen = case.looks.get(case.keys[index])
        if case.annotations.format == "yolo" and seen is not None and (seen.missing or seen.problem):
            continue  # fractions of an image that cannot be read are no pixels: the image is at fault
        case.note(
            "box-not-numbers",
            index,
            f"the box is not four finite numbers: {_text(case, index) or 'empty'}",
            "write four numbers in pixels, or leave all four empty for an image without the object",
        )


def _layout(case: Case) -> Layout:
    if case.annotations.format not in PIXEL_FORMATS:
        return Layout(corners_proven=True)
    numbers = np.where(case.judged[:, None], case.boxes, np.nan)
    layout = layouts.recognise(numbers, case.size)
    rows = _rows(case, case.judged)
    if layout.perhaps and layout.unit == "pixels":
        case.note(
            "maybe-not-corners",
            -1,
            f"the boxes look like {_ORDER_WORDS[layout.perhaps]}: read so, all lie in their images and "
            "around the middle; read as corners, the objects stand aside, towards the upper left",
            "look at a few drawn boxes; if so, write corners x1, y1, x2, y2 instead",
        )
    if layout.unit == "pixels" and layout.order == "xyxy":
        return layout
    converted = layouts.apply(layout, case.boxes, case.size)
    usable = [index for index in rows if np.isfinite(converted[index]).all()]
    mends = [(index, converted[index]) for index in usable] if layout.sure else []
    words = _ORDER_WORDS[layout.perhaps or layout.order]
    example = _text(case, rows[0])
    if layout.unit == "fractions":
        code, message = "normalised-boxes", f"the boxes are fractions of the image ({words}), not pixels"
        how = "multiply x by the image's width and y by its height"
    else:
        code, message = "not-corners", f"the boxes are {words}, not corners x1, y1, x2, y2"
        how = f"make corners x1, y1, x2, y2 of them ({_TO_CORNERS[layout.order]})"
    if layout.sure:
        advice = f"{how}; --fix does it"
    else:
        message += "; or another order: these rows cannot tell"
        advice = f"{how}, after a look at what the numbers mean; --fix does not guess"
    case.note(code, -1, f"{message}: e.g. {example}", advice, bad=rows, mends=mends)
    case.boxes = np.where(case.judged[:, None], converted, case.boxes)
    # what a guess says about single boxes is worth nothing
    case.judged &= finite_rows(case.boxes) & layout.sure
    return layout


def _order(case: Case, layout: Layout) -> None:
    x1, y1, x2, y2 = case.boxes.T
    for index in _rows(case, (x1 == x2) | (y1 == y2)):
        side = "width" if x1[index] == x2[index] else "height"
        case.note(
            "empty-box",
            index,
            f"the box has no {side}: {_text(case, index)}",
            "draw the box again, or take the row out",
        )
        case.judged[index] = False
    swapped = (x2 < x1) | (y2 < y1)
    if not swapped.any():
        return
    ordered = np.concatenate(
        [np.minimum(case.boxes[:, :2], case.boxes[:, 2:]), np.maximum(case.boxes[:, :2], case.boxes[:, 2:])],
        axis=-1,
    )
    # where the rows are few, "x, y, w, h" is as good a reading of such a row, and only a person can tell
    as_sizes = layouts.fits(
        geometry.convert(case.boxes, "xywh", "xyxy"), case.size, layouts.tolerance(case.size)
    )
    mendable = layouts.fits(ordered, case.size, layouts.tolerance(case.size))
    if not layout.corners_proven:
        mendable &= ~as_sizes
    for index in _rows(case, swapped):
        axis = " and ".join(
            name
            for name, is_off in (("x2 < x1", x2[index] < x1[index]), ("y2 < y1", y2[index] < y1[index]))
            if is_off
        )
        if mendable[index]:
            advice = "swap the corners; --fix does it"
            mends = [(index, ordered[index])]
        else:
            advice = "swap the corners, or add x and y if the last two are a width and a height"
            mends = []
        case.note("corners-swapped", index, f"{axis}: {_text(case, index)}", advice, mends=mends)
        if mends:
            case.boxes[index] = ordered[index]
        else:
            case.judged[index] = False


def rotate(box: Floats, orientation: int, stored: tuple[float, float] | Floats) -> Floats:
    """Carry a box of the stored image (width, height) into the upright one, by EXIF orientation 1 to 8."""
    width, height = float(stored[0]), float(stored[1])
    x1, y1, x2, y2 = (float(value) for value in box)
    if orientation in (2, 3, 7, 8):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.array([x1, y1, x2, y2])


def _rotation(case: Case) -> None:
    turned = (case.orientation > 1) & (case.orientation <= 8) & case.judged
    if not turned.any():
        return
    upright = layouts.fits(case.boxes, case.size, layouts.tolerance(case.size))
    unrotated = layouts.fits(case.boxes, case.stored, layouts.tolerance(case.stored))
    proof = _rows(case, turned & unrotated & ~upright)
    for index in proof:
        case.note(
            "unrotated-box",
            index,
            f"the box {_text(case, index)} fits the image as stored ({_by(case.stored[index])}), not "
            f"upright ({_by(case.size[index])}): its EXIF orientation is {case.orientation[index]}",
            "give the box in the upright image; --fix turns it",
            mends=[(index, rotate(case.boxes[index], int(case.orientation[index]), case.stored[index]))],
        )
        case.judged[index] = False
    # who drew one box on an un-rotated image drew the others so too, unless one of them says otherwise
    if proof and not (turned & upright & ~unrotated).any():
        for index in _rows(case, turned & upright):
            case.note(
                "maybe-unrotated",
                index,
                "the box fits the image both upright and as stored (EXIF orientation "
                f"{case.orientation[index]}); other boxes of this file fit such images only as stored",
                "look at it; --fix leaves it out",
                leave_out=(index,),
            )


def _by(size: Floats) -> str:
    return f"{size[0]:.0f} x {size[1]:.0f}"


def _frame(case: Case) -> None:
    known = finite_rows(case.size)
    x1, y1, x2, y2 = case.boxes.T
    width, height = case.size.T
    with np.errstate(invalid="ignore"):
        off = known & ((x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0))
        reach = layouts.overhang(case.boxes, case.size)
        far = known & (reach > layouts.tolerance(case.size)).any(axis=-1) & ~off
        over = known & (reach > NEGLIGIBLE_PX).any(axis=-1) & ~off & ~far
    for index in _rows(case, off):
        case.note(
            "box-off-image",
            index,
            f"the box {_text(case, index)} lies wholly outside the image ({_by(case.size[index])})",
            "draw the box again; is it another image's, or drawn at another size?",
        )
    for index in _rows(case, far):
        case.note(
            "box-outside",
            index,
            f"the box {_text(case, index)} reaches {number(reach[index].max())} px out of the image "
            f"({_by(case.size[index])})",
            "draw the box again; is it another image's, or drawn at another size?",
        )
    clipped = geometry.clip(case.boxes, width, height)
    for index in _rows(case, over):
        case.note(
            "box-over-edge",
            index,
            f"the box {_text(case, index)} reaches {number(reach[index].max())} px over the edge of the "
            f"image ({_by(case.size[index])})",
            "end it at the edge; --fix does it",
            mends=[(index, clipped[index])],
        )
    case.judged &= ~(off | far)
    case.boxes = np.where((known & case.judged)[:, None], clipped, case.boxes)


def _size(case: Case) -> None:
    known = finite_rows(case.size)
    sides = case.boxes[:, 2:] - case.boxes[:, :2]
    with np.errstate(invalid="ignore"):
        slack = np.maximum(1.0, WHOLE_FRAME_SHARE * case.size)
        at_frame = (case.boxes[:, :2] <= slack) & (case.boxes[:, 2:] >= case.size - slack)
        least = np.fmax(TINY_PX, TINY_SHARE * case.size)
        tiny: Mask = np.asarray((sides < least).any(axis=-1), dtype=np.bool_)
        whole: Mask = np.asarray(at_frame.all(axis=-1), dtype=np.bool_) & known & ~tiny
    for index in _rows(case, whole):
        case.note(
            "whole-frame",
            index,
            f"the box is the whole image ({_by(case.size[index])})",
            "right if the object fills the image; else draw the box",
        )
    fraction = layouts.fraction_rows(case.boxes)
    for index in _rows(case, tiny):
        image = f" of an image of {_by(case.size[index])}" if known[index] else ""
        if fraction[index]:
            advice = "the numbers look like fractions: multiply by the image's width and height"
        else:
            advice = "look at it: a slip of the mouse? If so draw it again, or take the row out"
        size = f"{number(sides[index, 0])} x {number(sides[index, 1])} px"
        case.note("tiny-box", index, f"the box is only {size}{image}", advice)
    case.judged &= ~(tiny & case.judged)


def _aspect(case: Case) -> None:
    labels = np.array([record.label for record in case.records], dtype=object)
    for label in dict.fromkeys(labels[case.judged]):
        rows = np.flatnonzero(case.judged & (labels == label))
        if len(rows) < ASPECT_MIN_ROWS:
            continue
        width, height = (case.boxes[rows, 2:] - case.boxes[rows, :2]).T
        aspect = np.log(width / height)
        odd, usual = _outliers(aspect)
        # an upright image of an upright object is rare, not wrong: its box is usual for the image's shape
        of_image = np.log(case.size[rows, 0] / case.size[rows, 1])
        known = np.isfinite(of_image)
        if known.sum() >= ASPECT_MIN_ROWS:
            odd[known] &= _outliers((aspect - of_image)[known])[0]
        of_label = f" of {label!r}" if label else ""
        for at in np.flatnonzero(odd):
            case.note(
                "odd-aspect",
                int(rows[at]),
                f"the box is {np.exp(aspect[at]):.2g} times as wide as high; the boxes{of_label} are "
                f"usually {np.exp(usual):.2g}",
                "look at it: is an edge misplaced?",
            )


def _outliers(values: Floats) -> tuple[Mask, float]:
    """Tell which values lie far from the usual one, by their own spread, and give the usual one."""
    usual = float(np.median(values))
    deviation = np.abs(values - usual)
    # 1.4826 makes a standard deviation of the median one; the floor keeps a very uniform set quiet
    std = max(1.4826 * float(np.median(deviation)), ASPECT_MIN_SPREAD)
    return np.asarray(deviation > ASPECT_MAX_Z * std, dtype=np.bool_), usual
