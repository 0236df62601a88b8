"""Drawing boxes on images, and many images on one sheet."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from solobox import boxes
from solobox.errors import ImageError
from solobox.images.reading import ImageInput, decode

Color: TypeAlias = tuple[int, int, int]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Tile: TypeAlias = "tuple[Pixels, Sequence[Outline], str]"
_Rectangle: TypeAlias = tuple[int, int, int, int]

# Blue and orange differ for every common kind of colour blindness, and by lightness in grey.
TRUTH: Color = (64, 180, 255)
PREDICTED: Color = (255, 140, 26)

_HALO = (0, 0, 0, 150)
_TINT = 90
_PAPER: Color = (250, 250, 249)
_FRAME: Color = (236, 236, 233)
_INK: Color = (58, 58, 56)
_SPELLED = str.maketrans({"–": "-", "—": "-", "×": "x", "ß": "ss", "≥": ">="})


def _no_box() -> npt.NDArray[np.float64]:
    return np.full(4, np.nan)


@dataclass(frozen=True, eq=False, slots=True)
class Outline:
    """How one box is drawn.

    box: shape (4,), ``x1, y1, x2, y2`` in pixels of the image it is drawn on. Edges outside the image are drawn
        along its border. Nothing is drawn for a box with NaN, with crossed corners or outside the image.
    color: of the line and of the tag behind the text.
    text: shown on a tag at the box; no tag when empty.
    dashed: a dashed line, so that two boxes differ without colour and where they coincide.
    lower, upper: shape (4,), the margins of each edge; the band between the inner and the outer box is tinted, below
        the line. NaN for no band.
    """

    box: npt.ArrayLike = field(default_factory=_no_box)
    color: Color = PREDICTED
    text: str = ""
    dashed: bool = False
    lower: npt.ArrayLike = field(default_factory=_no_box)
    upper: npt.ArrayLike = field(default_factory=_no_box)


def truth(box: npt.ArrayLike, text: str = "") -> Outline:
    """The outline of a true box: blue and dashed. Draw it after the predicted one, so that both stay visible."""
    return Outline(box, TRUTH, text, dashed=True)


def predicted(
    box: npt.ArrayLike,
    text: str = "",
    *,
    lower: npt.ArrayLike | None = None,
    upper: npt.ArrayLike | None = None,
) -> Outline:
    """The outline of a predicted box: orange and solid, with the band of its margins if any."""
    ends = (_no_box() if edges is None else edges for edges in (lower, upper))
    return Outline(box, PREDICTED, text, False, *ends)


def draw_boxes(pixels: Pixels, outlines: Sequence[Outline], note: str = "") -> Image.Image:
    """Draw outlines on a copy of an image, in their order, and their tags above all lines.

    pixels: shape (h, w, 3), uint8, RGB. The result has the same size; lines and letters grow with it.
    note: a remark on the whole image: a tag in its upper left corner.
    """
    image = Image.fromarray(pixels).convert("RGB")
    draw = ImageDraw.Draw(image, "RGBA")
    width = line_width(image.width, image.height)
    visible = [(o, r) for o in outlines if (r := _rectangle(o.box, image.width, image.height)) is not None]
    for outline, _ in visible:
        _draw_band(draw, outline, image.width, image.height)
    for outline, rectangle in visible:
        _draw_line(draw, rectangle, outline, width)
    tags: list[_Rectangle] = []
    if note:  # it goes below an invisible line at the upper edge
        corner = (2 * width, -1, image.width, 2 * width - 1)
        tags.append(_draw_tag(draw, corner, Outline(color=PREDICTED, text=note), image.size, width, tags))
    for outline, rectangle in visible:
        if outline.text:
            tags.append(_draw_tag(draw, rectangle, outline, image.size, width, tags))
    return image


def line_width(width: int, height: int) -> int:
    """The width of a line on an image of this size, in pixels."""
    return max(2, round(math.sqrt(width * height) / 220))


def _rectangle(box: npt.ArrayLike, width: int, height: int) -> _Rectangle | None:
    """The outermost pixels, inclusive, of a box's line in the image; None where there is no line."""
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box, dtype=np.float64))
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 > x2 or y1 > y2:
        return None
    if x2 < 0 or y2 < 0 or x1 > width or y1 > height:
        return None
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    right, bottom = max(min(round(x2), width) - 1, left), max(min(round(y2), height) - 1, top)
    return left, top, right, bottom


def _bars(rectangle: _Rectangle, width: int, *, dashed: bool) -> list[_Rectangle]:
    """The lines of a frame as filled rectangles, inclusive."""
    left, top, right, bottom = rectangle
    across, down = min(width, right - left + 1), min(width, bottom - top + 1)
    spans_x = _dashes(left, right, width) if dashed else [(left, right)]
    spans_y = _dashes(top, bottom, width) if dashed else [(top, bottom)]
    return [
        *((a, top, b, top + down - 1) for a, b in spans_x),
        *((a, bottom - down + 1, b, bottom) for a, b in spans_x),
        *((left, a, left + across - 1, b) for a, b in spans_y),
        *((right - across + 1, a, right, b) for a, b in spans_y),
    ]


def _dashes(start: int, stop: int, width: int) -> list[tuple[int, int]]:
    """Cut a side into an odd number of steps, dash first and dash last, so that every corner is drawn."""
    length = stop - start + 1
    steps = max(1, round(length / (5 * width)))
    steps += 1 - steps % 2
    cuts = [start + length * i // steps for i in range(steps + 1)]
    return [(a, b - 1) for a, b in zip(cuts[::2], cuts[1::2], strict=True) if b > a]


def _draw_band(draw: ImageDraw.ImageDraw, outline: Outline, width: int, height: int) -> None:
    """Tint the band between the inner and the outer box; all of the outer one where there is no inner one."""
    lower, upper = (np.asarray(edges, dtype=np.float64) for edges in (outline.lower, outline.upper))
    outer = _rectangle([lower[0], lower[1], upper[2], upper[3]], width, height)
    inner = _rectangle([upper[0], upper[1], lower[2], lower[3]], width, height)
    if outer is None:
        return
    fill = (*outline.color, _TINT)
    if inner is None:
        draw.rectangle(outer, fill=fill)
        return
    left, top, right, bottom = outer
    # Four pieces that do not overlap, so that none is tinted twice.
    a, b, c, d = inner
    for piece in (
        (left, top, right, b - 1),
        (left, d + 1, right, bottom),
        (left, b, a - 1, d),
        (c + 1, b, right, d),
    ):
        if piece[0] <= piece[2] and piece[1] <= piece[3]:
            draw.rectangle(piece, fill=fill)


def _draw_line(draw: ImageDraw.ImageDraw, rectangle: _Rectangle, outline: Outline, width: int) -> None:
    bars = _bars(rectangle, width, dashed=outline.dashed)
    halo = max(1, width // 2)
    for a, b, c, d in bars:
        # A dash has no halo at its ends: on top of another line that would cut the line into beads.
        x, y = (halo, halo) if not outline.dashed else (0, halo) if c - a > d - b else (halo, 0)
        draw.rectangle((a - x, b - y, c + x, d + y), fill=_HALO)
    for bar in bars:
        draw.rectangle(bar, fill=outline.color)


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    rectangle: _Rectangle,
    outline: Outline,
    size: tuple[int, int],
    width: int,
    taken: Sequence[_Rectangle],
) -> _Rectangle:
    """Draw the text at its box, where it covers no earlier tag if possible. Returns its rectangle."""
    pad = max(2, width)
    font = _font(max(11, round(math.sqrt(size[0] * size[1]) / 26)))
    text = _fit(outline.text, font, size[0] - 2 * pad)
    ascent, descent = font.getmetrics()
    w, h = math.ceil(font.getlength(text)) + 2 * pad, ascent + descent + pad
    left, top, _, bottom = rectangle
    # Above the box, below it, inside at its top, inside at its bottom: where the image has room.
    rows = [top - h, bottom + 1, top + width, bottom - width - h]
    candidates = [
        (x, y, x + w, y + h) for y in rows if 0 <= y <= size[1] - h for x in [max(0, min(left, size[0] - w))]
    ]
    clamped = (max(0, min(left, size[0] - w)), max(0, min(top, size[1] - h)))
    candidates.append((*clamped, clamped[0] + w, clamped[1] + h))
    position = next(
        (each for each in candidates if not any(_overlap(each, other) for other in taken)), candidates[0]
    )
    draw.rectangle((position[0], position[1], position[2] - 1, position[3] - 1), fill=outline.color)
    draw.text(
        (position[0] + pad, position[1] + pad / 2 + ascent),
        text,
        fill=_ink_on(outline.color),
        font=font,
        anchor="ls",
    )
    return position


def _overlap(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink_on(color: Color) -> Color:
    luminance = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]
    return (20, 20, 20) if luminance > 110 else (255, 255, 255)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101  # Pillow's promise where a size is given
    return font


def _plain(text: str) -> str:
    """A text in the letters of Pillow's font: accents dropped, a question mark for the rest."""
    text = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    text = "".join(c for c in text if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """One line of text, shortened in the middle where it is too wide (file names differ at their ends)."""
    text = _plain(text)
    if font.getlength(text) <= width:
        return text
    for keep in range(min(len(text) - 1, int(width)), 0, -1):
        head = (keep + 1) // 2
        short = text[:head] + "…" + text[len(text) - (keep - head) :]
        if font.getlength(short) <= width:
            return short
    return ""


def draw_on(
    image: ImageInput,
    outlines: Sequence[Outline],
    note: str = "",
    *,
    max_side: int | None = None,
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Decode an image and draw outlines on it, which are in pixels of the upright image.

    note: as in `draw_boxes`. max_side: reduce the image until its longer side has at most so many pixels. size: the
    width and height that the outlines are for.

    Raises ImageError, TypeError as `decode`; ImageError ``image-changed`` for an image of another size.
    """
    decoded = decode(image, at_least=max_side)
    check_size(image, decoded.size, size)
    height, width = decoded.pixels.shape[:2]
    scaled = _scaled(outlines, width / decoded.size[0], height / decoded.size[1])
    if max_side is None or max(width, height) <= max_side:
        return draw_boxes(decoded.pixels, scaled, note)
    return draw_reduced(decoded.pixels, scaled, max_side, note)


def check_size(image: ImageInput, size: tuple[int, int], expected: tuple[int, int] | None) -> None:
    """Raise ImageError ``image-changed`` where an image has another size than its box is for; None for any size."""
    if expected is not None and size != expected:
        name = image if isinstance(image, str | Path) else "the image"
        raise ImageError(
            f"{name}: it has {size[0]}x{size[1]} pixels, and its box is for {expected[0]}x{expected[1]}. "
            "Predict it again.",
            code="image-changed",
        )


def _scaled(outlines: Sequence[Outline], x: float, y: float) -> list[Outline]:
    return [
        replace(
            outline,
            box=boxes.scale(outline.box, x, y),
            lower=boxes.scale(outline.lower, x, y),
            upper=boxes.scale(outline.upper, x, y),
        )
        for outline in outlines
    ]


def draw_reduced(pixels: Pixels, outlines: Sequence[Outline], side: int, note: str = "") -> Image.Image:
    """Resize an image to `side` pixels at its longer side and draw on it, so that lines are equally wide everywhere.

    pixels: shape (h, w, 3), uint8; the outlines are in its pixels. The aspect ratio is kept. note: as in `draw_boxes`.
    """
    height, width = pixels.shape[:2]
    ratio = side / max(width, height)
    w, h = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = Image.fromarray(pixels).resize((w, h), Image.Resampling.LANCZOS)
    return draw_boxes(np.asarray(small), _scaled(outlines, w / width, h / height), note)


def contact_sheet(
    tiles: Sequence[Tile], columns: int, tile: int, legend: Sequence[Outline] = ()
) -> Image.Image:
    """Many images on one sheet: an even grid, each image whole in its square, a caption beneath it.

    tiles: for each image its pixels, shape (h, w, 3), uint8; its outlines, in pixels of that array; and its
        caption (shortened in the middle where it is too long). At least one.
    columns: images in a row; fewer are used when there are fewer images.
    tile: side of a square in pixels.
    legend: outlines explained at the bottom of the sheet by their line and text; their boxes are not used.

    Raises ValueError when there are no tiles or a number is not positive.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one image")
    if columns < 1 or tile < 16:
        raise ValueError(f"a sheet of {columns} columns with tiles of {tile} pixels cannot be drawn")
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    gap = max(6, tile // 18)
    font = _font(max(10, tile // 17))
    line = sum(font.getmetrics()) + gap // 2
    foot = line + gap if legend else 0
    size = (gap + columns * (tile + gap), gap + rows * (tile + line + gap) + foot)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (pixels, outlines, caption) in enumerate(tiles):
        x, y = gap + (i % columns) * (tile + gap), gap + (i // columns) * (tile + line + gap)
        draw.rectangle((x, y, x + tile - 1, y + tile - 1), fill=_FRAME)
        image = draw_reduced(pixels, outlines, tile)
        sheet.paste(image, (x + (tile - image.width) // 2, y + (tile - image.height) // 2))
        draw.text((x, y + tile + gap // 3), _fit(caption, font, tile), fill=_INK, font=font)
    area = (gap, size[1] - foot - gap // 2, size[0] - gap, size[1] - gap // 2)
    if legend:
        _draw_legend(ImageDraw.Draw(sheet, "RGBA"), legend, font, area, gap)
    return sheet


def _draw_legend(
    draw: ImageDraw.ImageDraw,
    legend: Sequence[Outline],
    font: ImageFont.FreeTypeFont,
    area: _Rectangle,
    gap: int,
) -> None:
    """Draw a sample of each line with its text, from left to right, as far as there is room."""
    x, top, right, bottom = area
    side = max(12, (bottom - top) // 2)
    for entry in legend:
        text = _fit(entry.text, font, right - x - 2 * side - gap)
        middle = (top + bottom) // 2
        _draw_line(draw, (x, middle - side // 2, x + 2 * side, middle + side // 2), entry, max(2, side // 7))
        draw.text((x + 2 * side + gap // 2 + 3, middle), text, fill=_INK, font=font, anchor="lm")
        x += 2 * side + round(font.getlength(text)) + 3 * gap
