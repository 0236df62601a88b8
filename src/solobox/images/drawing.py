"""Boxes drawn on images, and many images on one sheet."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from solobox import boxes

Color: TypeAlias = tuple[int, int, int]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Tile: TypeAlias = "tuple[Pixels, Sequence[Outline], str]"
_Rectangle: TypeAlias = tuple[int, int, int, int]

# Blue and orange stay apart for every common kind of colour blindness, and by lightness in grey.
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

    box: shape (4,), ``x1, y1, x2, y2`` in pixels of the image it is drawn on. Edges past the frame are
        drawn along the frame. Nothing is drawn for a box with NaN, with corners out of order or that lies
        outside the image.
    color: of the line and of the tag behind the text.
    text: shown on a tag at the box; nothing when empty.
    dashed: a dashed line, so that two boxes can be told apart without colour and where they coincide.
    lower, upper: shape (4,), between what each edge lies; the band between the inner and the outer box is then
        tinted, below the line. NaN for no band.
    """

    box: npt.ArrayLike = field(default_factory=_no_box)
    color: Color = PREDICTED
    text: str = ""
    dashed: bool = False
    lower: npt.ArrayLike = field(default_factory=_no_box)
    upper: npt.ArrayLike = field(default_factory=_no_box)


def truth(box: npt.ArrayLike, text: str = "") -> Outline:
    """Outline a true box: blue and dashed. Draw it after the predicted one, so that both stay visible."""
    return Outline(box, TRUTH, text, dashed=True)


def predicted(
    box: npt.ArrayLike,
    text: str = "",
    *,
    lower: npt.ArrayLike | None = None,
    upper: npt.ArrayLike | None = None,
) -> Outline:
    """Outline a predicted box: orange and solid, in the band of its margins where they are given."""
    ends = (_no_box() if edges is None else edges for edges in (lower, upper))
    return Outline(box, PREDICTED, text, False, *ends)


def draw_boxes(pixels: Pixels, outlines: Sequence[Outline], note: str = "") -> Image.Image:
    """Draw outlines on a copy of an image, in the order given, and their tags above all lines.

    pixels: shape (h, w, 3), uint8, RGB. The result has the same size; lines and letters grow with it.
    note: what there is to say of the image as a whole: a tag in its upper left corner.
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
    if note:  # it stands below a line at the upper edge that nobody sees
        corner = (2 * width, -1, image.width, 2 * width - 1)
        tags.append(_draw_tag(draw, corner, Outline(color=PREDICTED, text=note), image.size, width, tags))
    for outline, rectangle in visible:
        if outline.text:
            tags.append(_draw_tag(draw, rectangle, outline, image.size, width, tags))
    return image


def line_width(width: int, height: int) -> int:
    """How thick a line is drawn on an image of this size, in pixels."""
    return max(2, round(math.sqrt(width * height) / 220))


def _rectangle(box: npt.ArrayLike, width: int, height: int) -> _Rectangle | None:
    """Find the outermost pixels, inclusive, of a box's line in the image; None where there is no line."""
    x1, y1, x2, y2 = (float(v) for v in np.asarray(box, dtype=np.float64))
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x1 > x2 or y1 > y2:
        return None
    if x2 < 0 or y2 < 0 or x1 > width or y1 > height:
        return None
    left, top = min(max(round(x1), 0), width - 1), min(max(round(y1), 0), height - 1)
    right, bottom = max(min(round(x2), width) - 1, left), max(min(round(y2), height) - 1, top)
    return left, top, right, bottom


def _bars(rectangle: _Rectangle, width: int, *, dashed: bool) -> list[_Rectangle]:
    """Take a frame apart into filled rectangles, inclusive."""
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
    """Tint what lies between the inner and the outer box; all of the outer one where there is no inner one."""
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
    # Four pieces that do not meet, so that none is tinted twice.
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
        # A dash has none at its ends: on top of another line that would cut the line into beads.
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
    """Draw the text beside its box, where it covers no earlier tag if it can; the place that it took."""
    pad = max(2, width)
    font = _font(max(11, round(math.sqrt(size[0] * size[1]) / 26)))
    text = _fit(outline.text, font, size[0] - 2 * pad)
    ascent, descent = font.getmetrics()
    w, h = math.ceil(font.getlength(text)) + 2 * pad, ascent + descent + pad
    left, top, _, bottom = rectangle
    # Above the box, below it, inside at its top, inside at its foot: those the image has room for.
    rows = [top - h, bottom + 1, top + width, bottom - width - h]
    places = [
        (x, y, x + w, y + h) for y in rows if 0 <= y <= size[1] - h for x in [max(0, min(left, size[0] - w))]
    ]
    clamped = (max(0, min(left, size[0] - w)), max(0, min(top, size[1] - h)))
    places.append((*clamped, clamped[0] + w, clamped[1] + h))
    place = next((p for p in places if not any(_meet(p, t) for t in taken)), places[0])
    draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=outline.color)
    draw.text(
        (place[0] + pad, place[1] + pad / 2 + ascent),
        text,
        fill=_ink_on(outline.color),
        font=font,
        anchor="ls",
    )
    return place


def _meet(a: _Rectangle, b: _Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink_on(color: Color) -> Color:
    luminance = 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2]
    return (20, 20, 20) if luminance > 110 else (255, 255, 255)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101  # Pillow's promise where a size is given
    return font


def _plain(text: str) -> str:
    """Spell a text in the letters of Pillow's own font: accents dropped, a question mark for the rest."""
    text = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    text = "".join(c for c in text if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in text)


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """One line of text, its middle left out where it is too wide (file names differ at their ends)."""
    text = _plain(text)
    if font.getlength(text) <= width:
        return text
    for keep in range(min(len(text) - 1, int(width)), 0, -1):
        head = (keep + 1) // 2
        short = text[:head] + "…" + text[len(text) - (keep - head) :]
        if font.getlength(short) <= width:
            return short
    return ""


def draw_reduced(pixels: Pixels, outlines: Sequence[Outline], side: int, note: str = "") -> Image.Image:
    """Draw on an image after bringing it to `side` pixels at its longer side, so that lines stay even.

    pixels: shape (h, w, 3), uint8; the outlines are in its pixels. The aspect ratio is kept. note: as in `draw_boxes`.
    """
    height, width = pixels.shape[:2]
    ratio = side / max(width, height)
    w, h = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = Image.fromarray(pixels).resize((w, h), Image.Resampling.LANCZOS)
    ratio = w / width, h / height
    moved = [
        replace(
            o,
            box=boxes.scale(o.box, *ratio),
            lower=boxes.scale(o.lower, *ratio),
            upper=boxes.scale(o.upper, *ratio),
        )
        for o in outlines
    ]
    return draw_boxes(np.asarray(small), moved, note)


def contact_sheet(
    tiles: Sequence[Tile], columns: int, tile: int, legend: Sequence[Outline] = ()
) -> Image.Image:
    """Many images on one sheet: an even grid, each image whole in its square, a caption beneath it.

    tiles: for each image its pixels, shape (h, w, 3), uint8; its outlines, in pixels of that array; and its
        caption (shortened in the middle where it is too long). At least one.
    columns: images in a row; fewer are used when there are fewer images.
    tile: side of a square in pixels.
    legend: outlines explained at the foot of the sheet by their line and text; their boxes are not used.

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
