"""A localizer drawn for someone who sees one for the first time: image, maps, numbers, box, with their shapes.

The drawing is one SVG text that needs nothing from elsewhere: no font, no script, no image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from solobox.model.svg import RISE, Canvas, cut, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from solobox.model.summary import Row, Shape, Summary

_PAPER, _CARD, _EDGE, _INK, _SOFT = "#fafaf9", "#ffffff", "#dcdcd7", "#2f2f2d", "#6b6b66"
_PALE = ("#dbe7f1", "#eef4f9", "#c6d8e7", "#8fabc2")
"""Front, top, side and line of a map that is only passed on; `_DEEP` of one that is used."""
_DEEP = ("#5b9bd0", "#8fbfe4", "#3f7fb5", "#255a86")
_GREEN, _ORANGE = "#3d8f6e", "#d9730d"
_ACCENTS = {"maps": "#2f6fa5", "vectorizer": _GREEN, "head": _ORANGE, "image": _INK}

_GAP, _PAD = 34, 16
_SIDE = 150
"""The image's side as drawn, and the height of the zone that things are drawn in."""
_BOX = (0.24, 0.14, 0.70, 0.80)
"""Of the example: x1, y1, x2, y2 as fractions."""
_NAMES = ("x1", "y1", "x2", "y2")
_READ_THE_LAST = ("Gap", "Flatten", "Extra")
"""Parts that read the last map alone, however many there are."""

_SAYS = {
    "Extra": "More convolutions, each of which halves the last map: fewer cells, each of which tells more.",
    "Gap": "Turns maps into plain numbers: the average of each map. What is in the image stays, most of where it is "
    "goes.",
    "Flatten": "Turns maps into plain numbers: every cell of every map, side by side. This fixes the size of the "
    "image.",
    "Edges": "Sums up the maps along one axis at a time, once for each edge of the box, so that it is never lost where "
    "things are.",
    "RegressionHead": "Works the box out in fully connected layers: each new number weighs all numbers of the layer "
    "before.",
    "DistributionHead": "Gives each edge a curve: how likely it is at each position. The mean of the curve is where "
    "the edge goes.",
}


def diagram(summary: Summary, title: str = "A localizer: one image in, one box out") -> str:
    """The SVG of a localizer: its parts from left to right with what each one gives.

    title: stands above it; any text.
    """
    panels = _panels(summary)
    says = [wrapped(panel.says, panel.width - 2 * _PAD, 13) for panel in panels]
    notes = [[x for n in panel.costs for x in wrapped(n, panel.width - 2 * _PAD, 12)] for panel in panels]
    top = 92
    floor = top + 66 + _SIDE  # of the zone that things are drawn in
    bottom = floor + 86 + 18 * max(map(len, says)) + 17 * max(map(len, notes))
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1) + 2 * 28
    canvas = Canvas()
    canvas.text(28, 42, cut(title, width - 56, 22), size=22, weight=600)
    canvas.text(28, 66, _facts(summary), size=14, fill=_SOFT)
    x, middle = 28.0, floor - _SIDE / 2
    for index, panel in enumerate(panels):
        accent = _ACCENTS[panel.role]
        canvas.rect(x, top, panel.width, bottom - top, fill=_CARD, stroke=_EDGE, rounded=10)
        canvas.rect(x, top, panel.width, 5, fill=accent, rounded=2)
        canvas.text(x + _PAD, top + 30, panel.heading, size=16, weight=600, fill=accent)
        canvas.text(x + _PAD, top + 48, cut(panel.note, panel.width - 2 * _PAD, 12), size=12, fill=_SOFT)
        panel.paint(canvas, x, middle)
        for row, line in enumerate(panel.gives):
            canvas.text(
                x + panel.width / 2, floor + 26 + 17 * row, line, size=13, weight=600, anchor="middle"
            )
        for row, line in enumerate(says[index]):
            canvas.text(x + _PAD, floor + 76 + 18 * row, line, size=13)
        for row, line in enumerate(notes[index], start=1 - len(notes[index])):
            canvas.text(x + _PAD, bottom - 14 + 17 * row, line, size=12, fill=_SOFT)
        if index + 1 < len(panels):
            end = (x + panel.width + _GAP, middle + panel.leaves)
            canvas.arrow((x + panel.width, end[1]), end, color=_DEEP[3])
        x += panel.width + _GAP
    canvas.text(28, bottom + 28, _LEGEND, size=12, fill=_SOFT)
    return canvas.svg(width, bottom + 46, title, _facts(summary), paper=_PAPER)


def short(number: int) -> str:
    """A count in three digits: 831 M, 3.55 M, 12.3 k."""
    for step, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= step * 0.9995:
            value = number / step
            return f"{value:.{max(0, 2 - math.floor(math.log10(value) + 1e-3))}f}{unit}"
    return str(number)


def shaped(shape: Shape) -> str:
    """A shape as people write it: 512 × 7 × 7."""
    return " × ".join(map(str, shape))


_LEGEND = (
    "A block is a stack of maps: its height follows the square root of a map's side, its thickness the logarithm of "
    "their number. Dark blocks are read by the next part."
)


def _facts(summary: Summary) -> str:
    return (
        f"{short(summary.parameters)} parameters · {short(summary.macs)} multiply-adds for one image · "
        f"{summary.weight_bytes / 1e6:,.1f} MB of weights"
    )


# What stands from left to right ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Panel:
    """A column of the drawing.

    gives: stands below what is painted. costs: stands at the foot. paint: draws at the left edge x, about the middle
    y. leaves: how far below the middle the arrow to the next one starts.
    """

    role: str
    heading: str
    note: str
    width: float
    gives: Sequence[str]
    says: str
    costs: Sequence[str]
    paint: Callable[[Canvas, float, float], None]
    leaves: float = 0


def _panels(summary: Summary) -> list[_Panel]:
    _, height, width = summary.input
    panels = [
        _Panel(
            "image", "image", "what goes in", 186, [f"{height} × {width} pixels", "3 colours"],
            "A photo, squashed to a square.", [f"shape {shaped(summary.input)}"], _image,
        )
    ]  # fmt: skip
    parts = [row for row in summary.rows if row.depth == 1 and row.outputs]
    for part, follower in zip(parts, [*(row.type for row in parts[1:]), ""], strict=True):
        stages = [row for row in summary.to_depth(2) if row.name.startswith(f"{part.name}.")]
        if part.name in ("vectorizer", "head") or any(len(shape) != 3 for shape in part.outputs):
            panels.append(_of_numbers(part, stages))
        else:
            panels.append(_of_maps(part, stages, height, follower))
    panels.append(
        _Panel(
            "image", "box", "what comes out", 186, ["x1, y1, x2, y2"],
            "The left, top, right and bottom edge, as fractions of the image's sides.", ["shape 4"], _boxed,
        )
    )  # fmt: skip
    return panels


def _costs(part: Row) -> list[str]:
    shapes = f"shape {', '.join(map(shaped, part.outputs))}"
    if not part.parameters:
        return [shapes, "nothing to learn"]
    frozen = "" if part.trainable else ", frozen"
    return [shapes, f"{short(part.parameters)} parameters{frozen}", f"{short(part.macs)} multiply-adds"]


def _of_maps(part: Row, stages: Sequence[Row], image: int, follower: str) -> _Panel:
    """A part that makes maps of features: a block for each size of map that it goes through."""
    blocks = _blocks(part, stages)
    read = part.outputs[-1:] if follower in _READ_THE_LAST else part.outputs
    steps = [
        max(66.0, _thickness(shape) + 0.4 * _scaled(shape[-1], image), 8.2 * len(_maps(shape))) + 8
        for shape in blocks
    ]
    width = max(sum(steps) + 2 * _PAD, 200)
    several = sum(shape in read for shape in blocks) > 1
    rail = -_SIDE / 2 - 14

    def paint(canvas: Canvas, x: float, middle: float) -> None:
        left = x + (width - sum(steps)) / 2
        for index, (shape, step) in enumerate(zip(blocks, steps, strict=True)):
            used, centre = shape in read, left + step / 2
            side = _scaled(shape[-1], image)
            if used and several:
                start = (centre, middle - side / 2)
                canvas.line([start, (centre, middle + rail), (x + width, middle + rail)], stroke=_DEEP[3])
            elif used and index + 1 == len(blocks):
                canvas.line([(centre + 0.3 * side, middle), (x + width, middle)], stroke=_DEEP[3])
            with_title = f"{shaped(shape)}{': read by the next part' if used else ''}"
            canvas.block(centre, middle, side, _thickness(shape), _DEEP if used else _PALE, with_title)
            if used and several:
                canvas.dot(centre, middle - side / 2, 3, fill=_DEEP[3])
            label = middle + _SIDE / 2 + 26
            ink = _DEEP[3] if used else _SOFT
            canvas.text(centre, label, _maps(shape), size=12, weight=600, fill=ink, anchor="middle")
            canvas.text(centre, label + 16, shaped(shape[1:]), size=12, fill=ink, anchor="middle")
            left += step

    says = _SAYS.get(part.type) or (
        "Turns the image into maps of features. From stage to stage there are more maps, of fewer cells: each cell "
        "tells more, about a wider part of the image."
        if part.name == "backbone"
        else "Works the maps over once more before they are turned into numbers."
    )
    return _Panel("maps", part.name, part.kind, width, [], says, _costs(part), paint, rail if several else 0)


def _blocks(part: Row, stages: Sequence[Row]) -> list[Shape]:
    """One shape for each size of map, widest first: the one that is read by the next part, or else the last one."""
    by_side: dict[int, Shape] = {}
    for shape in (*(s for row in stages for s in row.outputs), *part.outputs):
        if len(shape) == 3 and min(shape) > 0:
            by_side[shape[-1]] = shape
    return [by_side[side] for side in sorted(by_side, reverse=True)]


def _maps(shape: Shape) -> str:
    return f"{shape[0]} maps"


def _scaled(side: int, image: int) -> float:
    """The height of a block: with its top aslant, one as wide as the image is as high as the image."""
    return _SIDE / (1 + RISE) * math.sqrt(side / image)


def _thickness(shape: Shape) -> float:
    return 3 + 3.2 * math.log2(shape[0] + 1)


def _of_numbers(part: Row, stages: Sequence[Row]) -> _Panel:
    """The vectorizer, the head, or whatever else gives no maps: drawn by the shapes that it gives."""
    role = "head" if part.name == "head" else "vectorizer"
    accent = _ACCENTS[role]
    first, last = part.outputs[0], part.outputs[-1]
    vectors = [row.outputs[-1][0] for row in stages if row.outputs and len(row.outputs[-1]) == 1]
    paint: Callable[[Canvas, float, float], None]
    if role == "head" and first == (4,) and len(last) == 2:
        paint = partial(_curves, accent)
        gives = ["4 curves, each over", f"{last[1]} positions"]
    elif role == "head" and first == (4,):
        inner = [length for length in vectors if length != 4]
        paint = partial(_numbers, accent, inner)
        gives = [" → ".join([*map(str, inner), "4 numbers"])]
    elif len(first) == 1:
        paint = partial(_vector, accent)
        gives = [f"{first[0]:,} numbers"]
    elif len(first) == 3 and first[0] == 4:
        paint = partial(_strips, accent, first[1])
        gives = ["4 sequences of", f"{first[1]} × {first[2]} numbers"]
    else:
        paint = partial(_whatever, accent)
        gives = [shaped(shape) for shape in part.outputs[:2]]
    says = _SAYS.get(part.type, f"{part.kind[:1].upper()}{part.kind[1:]}.")
    return _Panel(role, part.name, part.kind, 214, gives, says, _costs(part), paint)


# The small drawings ------------------------------------------------------------------------------------


def _image(canvas: Canvas, x: float, middle: float) -> None:
    """A balloon over a field."""
    left, top, side = x + (186 - _SIDE) / 2, middle - _SIDE / 2, float(_SIDE)
    x1, y1, x2, y2 = (value * side for value in _BOX)
    canvas.rect(left, top, side, side, fill="#dcecf5")
    hill = (0.3, -0.14, 0.55, -0.03), (0.45, -0.02), 0.21
    curve, rest = (" ".join(f"{value * side:.1f}" for value in step) for step in hill[:2])
    canvas.path(
        f"M{left:.1f} {top + 0.84 * side:.1f} q{curve} t{rest} v{hill[2] * side:.1f} h{-side:.1f} z",
        fill="#bcd3a5",
    )
    centre, radius = left + (x1 + x2) / 2, (x2 - x1) / 2
    canvas.dot(centre, top + y1 + radius, radius, fill="#d65a4a")
    canvas.path(
        f"M{centre:.1f} {top + y1:.1f} a{radius * 0.45:.1f} {radius:.1f} 0 0 1 0 {2 * radius:.1f} "
        f"a{radius * 0.45:.1f} {radius:.1f} 0 0 1 0 {-2 * radius:.1f} z",
        fill="#f2c14e",
    )
    basket = (centre - 9, top + y2 - 15, 18, 15)
    for sign in (-1, 1):
        start = (centre + sign * radius * 0.55, top + y1 + 1.83 * radius)
        canvas.line([start, (centre + sign * 8, basket[1])], stroke="#7a5230")
    canvas.rect(*basket, fill="#8a5a33")
    canvas.rect(left, top, side, side, fill="none", stroke=_SOFT)


def _boxed(canvas: Canvas, x: float, middle: float) -> None:
    _image(canvas, x, middle)
    left, top = x + (186 - _SIDE) / 2, middle - _SIDE / 2
    x1, y1, x2, y2 = (value * _SIDE for value in _BOX)
    canvas.rect(left + x1, top + y1, x2 - x1, y2 - y1, fill="none", stroke=_ORANGE, line=3)
    for cx, cy in ((x1, y1), (x2, y2)):
        canvas.dot(left + cx, top + cy, 4, fill=_ORANGE)
    canvas.text(left + x1 - 3, top + y1 - 6, "x1, y1", size=11, weight=600, anchor="middle")
    canvas.text(left + x2 + 4, top + y2 + 15, "x2, y2", size=11, weight=600, anchor="middle")


def _strips(accent: str, length: int, canvas: Canvas, x: float, middle: float) -> None:
    """For each edge a row of cells, the darker the more it is about the edge."""
    cells = min(length, 24)
    width = 140 / cells
    for index, name in enumerate(_NAMES):
        y = middle - _SIDE / 2 + 8 + index * 38
        canvas.text(x + 24, y + 13, name, size=12, weight=600)
        for cell in range(cells):
            near = math.exp(-(((cell + 0.5) / cells - _BOX[index]) ** 2) / 0.012)
            canvas.rect(
                x + 50 + cell * width, y, width, 20,
                fill=accent, opacity=0.12 + 0.75 * near, stroke=_CARD, line=0.8,
            )  # fmt: skip


def _curves(accent: str, canvas: Canvas, x: float, middle: float) -> None:
    """For each edge a curve, with a line at its mean."""
    left, width = x + 50, 140
    for index, name in enumerate(_NAMES):
        base, mean = middle - _SIDE / 2 + 30 + index * 38, _BOX[index]
        canvas.text(x + 24, base - 3, name, size=12, weight=600)
        points = [
            (left + width * t / 70, base - 24 * math.exp(-((t / 70 - mean) ** 2) / 0.006)) for t in range(71)
        ]
        drawn = " ".join(f"L{px:.1f} {py:.1f}" for px, py in points)
        canvas.path(
            f"M{left:.1f} {base:.1f} {drawn} L{left + width:.1f} {base:.1f} z", fill=accent, opacity=0.3
        )
        canvas.line(points, stroke=accent)
        canvas.line([(left, base), (left + width, base)], stroke=_SOFT, width=0.8)
        canvas.line([(left + width * mean, base - 27), (left + width * mean, base + 4)], stroke=_INK)


def _numbers(accent: str, inner: Sequence[int], canvas: Canvas, x: float, middle: float) -> None:
    """Vectors on the way, and four numbers at the end, each tied to all."""
    ends = [(x + 158, middle - 54 + 36 * index) for index in range(4)]
    starts = [x + 40 + 84 * index / max(len(inner) - 1, 1) for index in range(len(inner))][:3]
    for start in starts[-1:]:
        for end in ends:
            for step in range(-3, 4):
                canvas.line([(start + 9, middle + step * 20), end], stroke=_EDGE, width=0.8)
    for start in starts:
        _column(accent, canvas, start, middle)
    for (cx, cy), name in zip(ends, _NAMES, strict=True):
        canvas.dot(cx, cy, 15, fill=accent)
        canvas.text(cx, cy + 4, name, size=12, weight=600, fill="#ffffff", anchor="middle")


def _vector(accent: str, canvas: Canvas, x: float, middle: float) -> None:
    _column(accent, canvas, x + 107, middle)


def _column(accent: str, canvas: Canvas, x: float, middle: float) -> None:
    """A column of numbers, more than can be drawn."""
    for index in range(14):
        y = middle - 70 + index * 10
        if index in (6, 7):
            canvas.dot(x, y + 5, 1.6, fill=_SOFT)
        else:
            canvas.rect(x - 9, y, 18, 9, fill=accent, opacity=0.2 + 0.07 * ((index * 7) % 10))


def _whatever(accent: str, canvas: Canvas, x: float, middle: float) -> None:
    canvas.rect(x + 57, middle - 40, 100, 80, fill=accent, rounded=8)
