"""From the numbers of a file to boxes in pixels: what stands for no object, which layout they have, for which size."""

from dataclasses import replace

import numpy as np

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.data.checks import box_convention
from solobox.data.checks.box_convention import BoxConvention, Mask, finite_rows
from solobox.data.checks.context import TABLE_FORMATS, CheckContext, box_text, format_box, size_text
from solobox.data.formats.records import Layout
from solobox.data.layouts import describe, describe_order, layout_name, to_pixels

_TO_CORNERS = {"xywh": "x2 = x + width, y2 = y + height", "cxcywh": "x1 = x - width / 2, x2 = x + width / 2"}
_PLACEHOLDERS = ((0, 0, 0, 0), (-1, -1, -1, -1), (0, 0, 1, 1))
_SAME_SIZE_PX = 1.0
_SAME_SHAPE = 0.01


def check_layout(context: CheckContext) -> BoxConvention:
    """Turn `context.boxes` from the file's numbers into pixels, and say where the file is not what its format says."""
    _placeholders(context)
    stated = context.annotations.layout
    numbers = context.boxes
    context.set_boxes(to_pixels(stated, numbers, context.size))
    if stated.unit != "pixels":
        # Without the image's size these are no pixels: the image is at fault, and has its own finding.
        context.active &= finite_rows(context.boxes) | ~finite_rows(numbers)
    if context.annotations.layout_is_certain:
        return BoxConvention(stated, corners_proven=stated.order == "xyxy")
    convention = _judged(context, numbers, context.size)
    if convention.layout != stated and finite_rows(context.recorded).any():
        # Of images that were scaled or turned, the boxes fit the sizes that the file records.
        recorded = _judged(context, numbers, context.recorded)
        convention = recorded if recorded.layout == stated else convention
    rows = context.active_rows()
    if context.annotations.layout_is_guess and _cannot_be_told(context, convention.layout, numbers, rows):
        return replace(convention, sure=False)
    if convention.alternative is not None and convention.layout == stated:
        _doubt(context, convention, convention.alternative)
    if convention.layout != stated:
        _other_layout(context, convention, numbers, rows)
    else:
        _recorded_sizes(context)
    return convention


def _judged(context: CheckContext, numbers: Floats, sizes: Floats) -> BoxConvention:
    is_table = context.annotations.format in TABLE_FORMATS
    return box_convention.detect_convention(
        np.where(context.active[:, None], numbers, np.nan),
        sizes,
        context.annotations.layout,
        order_is_stated=not is_table,
    )


def _placeholders(context: CheckContext) -> None:
    """What people write where the object is absent, in formats without a way to say so."""
    layout = context.annotations.layout
    numbers = context.boxes
    for placeholder in _PLACEHOLDERS:
        rows: Mask = np.asarray((numbers == placeholder).all(axis=-1), dtype=np.bool_) & context.active
        # In fractions, 0, 0, 1, 1 is the whole image; and where all rows are so, it is no word for "none".
        if placeholder == (0, 0, 1, 1):
            others = numbers[context.active & ~rows]
            if layout.unit != "pixels" or not (
                len(others) and (others > 1 + box_convention.FRACTION_SLACK).any()
            ):
                continue
        if not rows.any():
            continue
        indices = [int(index) for index in np.flatnonzero(rows)]
        context.set_negative(indices)
        text = format_box(np.array(placeholder, dtype=np.float64))
        context.add(
            "placeholder-box",
            -1,
            f"{len(indices):,} {'row has' if len(indices) == 1 else 'rows have'} {text} for a box: taken as images "
            f"without the object, e.g. {context.records[indices[0]].where}",
            "right if the object is absent there; --fix leaves the box of such a row empty",
        )


def _cannot_be_told(context: CheckContext, found: Layout, numbers: Floats, rows: list[int]) -> bool:
    """One error for a file that does not say what its numbers are, where its boxes do not show it either."""
    if found.order == "cxcywh" or not box_convention.corners_and_sizes_fit(
        numbers[rows], context.size[rows], found
    ):
        return False
    choices = [replace(found, order="xyxy", first=0), replace(found, order="xywh", first=0)]
    context.add(
        "ambiguous-layout",
        -1,
        f"nothing says whether the boxes are {' or '.join(map(describe, choices))}: either way they lie in their "
        f"images, e.g. {box_text(context, rows[0])}",
        f"draw a few boxes to see, then say --layout {' or --layout '.join(map(layout_name, choices))}",
        bad=rows,
    )
    context.active[rows] = False
    return True


def _doubt(context: CheckContext, convention: BoxConvention, other: Layout) -> None:
    if convention.layout.order == "xyxy" and convention.layout.unit == "pixels":
        context.add(
            "maybe-not-corners",
            -1,
            f"the boxes look like {describe_order(other)}: read so, all lie in their images and "
            "around the middle; read as corners, the objects lie towards the upper left",
            f"draw a few boxes to see; if it is so, say --layout {layout_name(other)}",
        )
    elif convention.layout.order != "xyxy":
        context.add(
            "maybe-other-layout",
            -1,
            f"the boxes may be {describe(other)}: read so, all lie in their images and around the middle; the format "
            f"says {describe_order(convention.layout)}",
            f"draw a few boxes to see; if it is so, say --layout {layout_name(other)}",
        )


def _other_layout(context: CheckContext, convention: BoxConvention, numbers: Floats, rows: list[int]) -> None:
    """One error for the file, with the layout that fits, which --fix applies where it is sure."""
    stated, found = context.annotations.layout, convention.layout
    converted = to_pixels(found, numbers, context.size)
    if found.unit == "fractions":
        converted[~box_convention.fraction_rows(numbers)] = np.nan
    usable = [index for index in rows if np.isfinite(converted[index]).all()]
    fixed_boxes = [(index, converted[index]) for index in usable] if convention.sure else []
    order = describe_order(convention.alternative or found)
    if stated.unit == "pixels" and found.unit == "fractions":
        code, message = "normalised-boxes", f"the boxes are fractions of the image ({order}), not pixels"
        how = "multiply x by the image's width and y by its height"
    elif (stated.order, stated.unit, found.unit) == ("xyxy", "pixels", "pixels") and found.order != "xyxy":
        code, message = "not-corners", f"the boxes are {order}, not corners x1, y1, x2, y2"
        how = f"make corners x1, y1, x2, y2 of them ({_TO_CORNERS[found.order]})"
    else:
        code, message = "other-layout", f"the boxes are {describe(found)}, not {describe(stated)}"
        how = f"say --layout {layout_name(found)}"
    if convention.sure:
        advice = f"{how}; --fix does it"
    else:
        message += "; or another order: these rows cannot tell"
        advice = f"{how}, once you know what the numbers mean (--layout says it); --fix does not guess"
    example = box_text(context, rows[0]) if rows else ""
    context.add(code, -1, f"{message}: e.g. {example}", advice, bad=rows, fixed_boxes=fixed_boxes)
    context.boxes = np.where(context.active[:, None], converted, context.boxes)
    # a guess says nothing about single boxes
    context.active &= finite_rows(context.boxes) & convention.sure


def _recorded_sizes(context: CheckContext) -> None:
    """Compare the images' sizes with those that the file records: they may have changed since the boxes were drawn."""
    recorded = context.recorded
    known = finite_rows(recorded) & finite_rows(context.size) & context.active
    size, stored = context.size, context.stored
    same = known & _same(recorded, size)
    context.upright_proven = same & ~_same(recorded, stored)
    rest = known & ~same
    if not rest.any():
        return
    in_pixels = context.annotations.layout.unit == "pixels"
    corners = context.boxes
    # Boxes of several rows that leave the recorded frame and lie in the image were drawn on the image as it is.
    slack = box_convention.tolerance(size)
    inside = box_convention.fits(corners, size, slack)
    inside_recorded = box_convention.fits(corners, recorded, box_convention.tolerance(recorded))
    on_stored = rest & (context.orientation >= 5) & _same_shape(recorded, stored)
    scaled = rest & ~on_stored & _same_shape(recorded, size)
    swapped = rest & ~on_stored & ~scaled & _same(recorded[:, ::-1], size)
    other = rest & ~on_stored & ~scaled & ~swapped
    if in_pixels:
        for rows, word in ((on_stored, "unrotated-size"), (scaled, "scaled-images")):
            if (rows & inside & ~inside_recorded).sum() > max(1, 0.05 * rows.sum()):
                _outdated(context, rows)
                rows[:] = False
            elif rows.any():
                _transformed(context, rows, word)
    elif on_stored.any():
        _transformed(context, on_stored, "unrotated-size")
    if swapped.any():
        agree = (
            int((swapped & inside & ~inside_recorded).sum()),
            int((swapped & inside_recorded & ~inside).sum()),
        )
        if in_pixels and agree[0] and not agree[1]:
            _outdated(context, swapped)
        else:
            _mismatch(context, swapped, "its width and height, or the image itself, were turned")
    if other.any():
        _mismatch(context, other, "is it another image, or was it cropped?")


def _same(one: Floats, other: Floats) -> Mask:
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(one - other) <= _SAME_SIZE_PX).all(axis=-1), dtype=np.bool_)


def _same_shape(recorded: Floats, size: Floats) -> Mask:
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = size / recorded
        # rounding of a size to whole pixels changes the shape of small images most
        slack = _SAME_SHAPE + (1 / np.minimum(recorded, size)).max(axis=-1)
        return np.asarray(np.abs(factor[:, 0] / factor[:, 1] - 1) <= slack, dtype=np.bool_)


def _example(context: CheckContext, rows: Mask) -> tuple[int, str]:
    index = int(np.flatnonzero(rows)[0])
    sizes = f"{size_text(context.size[index])}, recorded as {size_text(context.recorded[index])}"
    return index, f"e.g. {context.records[index].image} is {sizes}"


def _transformed(context: CheckContext, rows: Mask, code: str) -> None:
    indices = [int(index) for index in np.flatnonzero(rows)]
    on_stored = code == "unrotated-size"
    size = context.stored if on_stored else context.size
    if context.annotations.layout.unit == "pixels":
        factor = size / context.recorded
        drawn = geometry.scale(context.boxes, factor[:, 0], factor[:, 1])
    else:
        factor = context.stored / context.size
        drawn = geometry.scale(context.boxes, factor[:, 0], factor[:, 1])
    if on_stored:
        for index in indices:
            drawn[index] = rotate(drawn[index], int(context.orientation[index]), context.stored[index])
    _, example = _example(context, rows)
    count = f"{len(indices):,} {'image is' if len(indices) == 1 else 'images are'}"
    if on_stored:
        message = f"{count} turned by EXIF orientation, and the boxes are of the image as stored"
        advice = "give the boxes in the upright image; --fix turns them"
    else:
        message = f"{count} of another size than the file records: scaled after the boxes were drawn"
        advice = (
            "scale the boxes as the images were; --fix does it. If they are right as they are, say --layout "
            f"{layout_name(context.annotations.layout)}"
        )
    context.add(
        code, -1, f"{message}; {example}", advice, bad=indices,
        fixed_boxes=[(index, drawn[index]) for index in indices],
    )  # fmt: skip
    context.boxes = np.where(rows[:, None], drawn, context.boxes)
    context.upright_proven |= rows


def _outdated(context: CheckContext, rows: Mask) -> None:
    _, example = _example(context, rows)
    context.add(
        "recorded-size",
        -1,
        f"the sizes that the file records are not those of {int(rows.sum()):,} images, but the boxes are; {example}",
        "nothing is lost: the recorded sizes are not used",
    )
    context.upright_proven |= rows


def _mismatch(context: CheckContext, rows: Mask, question: str) -> None:
    indices = [int(index) for index in np.flatnonzero(rows)]
    first, example = _example(context, rows)
    alone = len(indices) == 1
    context.add(
        "other-size",
        first if alone else -1,
        f"{'the image is' if alone else f'{len(indices):,} images are'} not of the size that the file records; "
        f"{example}: {question}",
        "look at the boxes: if they are right, the recorded sizes are not used with --layout "
        f"{layout_name(context.annotations.layout)}",
        bad=indices,
    )
    context.active[indices] = False


def rotate(box: Floats, orientation: int, stored: tuple[float, float] | Floats) -> Floats:
    """Move a box from the stored image (width, height) to the upright one, by EXIF orientation 1 to 8."""
    width, height = float(stored[0]), float(stored[1])
    x1, y1, x2, y2 = (float(value) for value in box)
    if orientation in (2, 3, 7, 8):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    if orientation >= 5:
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.array([x1, y1, x2, y2])
