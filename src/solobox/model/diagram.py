"""A drawing of a localizer: image, feature maps, vectorizer, head and box with their shapes.

It is one SVG that needs nothing from elsewhere: no font, no script, no image.
"""

import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from solobox.model.summary import Row, Shape, Summary

_PAPER, _CARD, _LINE, _INK, _GREY = "#fafaf9", "#ffffff", "#dcdcd7", "#2f2f2d", "#6b6b66"
_PALE = ("#dbe7f1", "#eef4f9", "#c6d8e7", "#8fabc2")
"""Front, top, side and outline of the maps inside a module; `_DARK` of those that the next one reads."""
_DARK = ("#5b9bd0", "#8fbfe4", "#3f7fb5", "#255a86")
_BLUE, _GREEN, _ORANGE = "#2f6fa5", "#3d8f6e", "#d9730d"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_TOP, _GAP, _PAD, _SIDE = 92, 34, 16, 150
"""Of the cards: their upper edge, the space between them, their padding; and the side of the drawn image."""
_MIDDLE = _TOP + 66 + _SIDE / 2
_BOX = {"x1": 0.24, "y1": 0.14, "x2": 0.70, "y2": 0.80}
"""Of the drawn object, as fractions of the image."""
_EXPLANATIONS = {
    "backbone": "Turns the image into feature maps. From stage to stage there are more maps with fewer cells; each "
    "cell describes a larger part of the image. The next module reads the dark ones.",
    "extra": "More convolutions; each one halves the last map.",
    "gap": "Global average pooling: the mean of each map. What is in the image stays; most of where it is is lost.",
    "flatten": "Every cell of every map, side by side. This fixes the size of the image.",
    "edges": "Pools the maps along one axis at a time, once for each edge of the box, so that positions stay.",
    "regression": "Computes the box in fully connected layers.",
    "distribution": "Gives each edge a probability for each position. The edge is the mean of this distribution.",
    "refiner": "Looks again at a crop around a small object, with the same backbone and a head of its own.",
}


def diagram(summary: "Summary", title: str = "A localizer: one image in, one box out") -> str:
    """The SVG of a localizer: its modules from left to right with the shapes of their outputs."""
    totals = (
        f"{format_count(summary.parameters)} parameters · {format_count(summary.macs)} multiply-adds for one image · "
        f"{summary.weight_bytes / 1e6:,.1f} MB of weights"
    )
    cards = _cards(summary)
    text = [textwrap.wrap(card.explanation, int((card.width - 2 * _PAD) / 7.2)) for card in cards]
    text_top = _MIDDLE + _SIDE / 2 + 76
    card_height = text_top - _TOP + 18 * max(map(len, text)) + 17 * 3 + 12
    width = sum(card.width for card in cards) + _GAP * (len(cards) - 1) + 2 * 28
    canvas = _Canvas(width, _TOP + card_height + 24, title, totals)
    canvas.text(28, 42, _cut(title, width - 56, 22), size=22, bold=True)
    canvas.text(28, 66, totals, size=14, fill=_GREY)
    x = 28.0
    for card, lines in zip(cards, text, strict=True):
        canvas.add("rect", x=x, y=_TOP, width=card.width, height=card_height, rx=10, fill=_CARD, stroke=_LINE)
        canvas.add("rect", x=x, y=_TOP, width=card.width, height=5, rx=2, fill=card.color)
        canvas.text(x + _PAD, _TOP + 30, card.title, size=16, bold=True, fill=card.color)
        canvas.text(x + _PAD, _TOP + 48, _cut(card.subtitle, card.width - 2 * _PAD, 12), size=12, fill=_GREY)
        card.draw(canvas, x)
        for row, line in enumerate(card.output):
            canvas.text(x + card.width / 2, text_top - 50 + 17 * row, line, bold=True, anchor="middle")
        for row, line in enumerate(lines):
            canvas.text(x + _PAD, text_top + 18 * row, line)
        for row, line in enumerate(card.costs):
            y = _TOP + card_height - 14 - 17 * (len(card.costs) - 1 - row)
            canvas.text(x + _PAD, y, line, size=12, fill=_GREY)
        if card is not cards[-1]:
            canvas.arrow(x + card.width, _MIDDLE, x + card.width + _GAP)
        x += card.width + _GAP
    return canvas.svg()


def format_count(number: int) -> str:
    """A count with three digits: 831 M, 3.55 M, 12.3 k."""
    for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= unit * 0.9995:
            value = number / unit
            return f"{value:.{max(0, 2 - math.floor(math.log10(value) + 1e-3))}f}{name}"
    return str(number)


def format_shape(shape: "Shape") -> str:
    """A shape as people write it: 512 × 7 × 7."""
    return " × ".join(map(str, shape))


def _cut(text: str, width: float, size: int) -> str:
    """As much of a text as fits into a width; a letter is 0.56 of its size wide."""
    room = int(width / (0.56 * size))
    return text if len(text) <= room else f"{text[: room - 1]}…"


@dataclass(frozen=True, slots=True)
class _Card:
    """A column of the drawing.

    draw: draws onto a canvas at the left edge x. output: lines below the drawing. costs: lines at the bottom.
    """

    title: str
    subtitle: str
    color: str
    width: float
    draw: Callable[["_Canvas", float], None]
    output: Sequence[str]
    explanation: str
    costs: Sequence[str]


def _cards(summary: "Summary") -> list[_Card]:
    _, height, width = summary.input
    modules = [row for row in summary.rows if row.depth == 1 and row.outputs]
    cards = [
        _Card(
            "image", "input", _INK, 186, _draw_image, [f"{height} × {width} pixels", "3 colours"],
            "A photo, resized to a square.", [f"shape {format_shape(summary.input)}"],
        )
    ]  # fmt: skip
    for index, module in enumerate(modules):
        if module.name in ("vectorizer", "head") or any(len(shape) != 3 for shape in module.outputs):
            cards.append(_vector_card(summary, module))
        else:
            # All vectorizers but `edges` read the last map only, and so do additional convolutions.
            follower = modules[index + 1].name if index + 1 < len(modules) else ""
            reads_last = follower != "vectorizer" or summary.architecture.vectorizer != "edges"
            cards.append(_maps_card(summary, module, reads_last=reads_last))
    cards.append(
        _Card(
            "box", "output", _INK, 186, partial(_draw_image, box=True), ["x1, y1, x2, y2"],
            "The left, top, right and bottom edge as fractions of the image.", ["shape 4"],
        )
    )  # fmt: skip
    return cards


def _costs(module: "Row") -> list[str]:
    shapes = f"shape {', '.join(map(format_shape, module.outputs))}"
    if not module.parameters:
        return [shapes, "no parameters"]
    frozen = "" if module.trainable else ", frozen"
    macs = f"{format_count(module.macs)} multiply-adds"
    return [shapes, f"{format_count(module.parameters)} parameters{frozen}", macs]


def _maps_card(summary: "Summary", module: "Row", *, reads_last: bool) -> _Card:
    """A module that outputs maps: a block for each resolution inside it."""
    stages = [row for row in summary.to_depth(2) if row.name.startswith(f"{module.name}.")]
    by_side = {
        shape[-1]: shape
        for shape in (*(s for row in stages for s in row.outputs), *module.outputs)
        if len(shape) == 3 and min(shape) > 0
    }
    shapes = [by_side[side] for side in sorted(by_side, reverse=True)]
    read = module.outputs[-1:] if reads_last else module.outputs
    sides = [_SIDE / (1 + _RISE) * math.sqrt(shape[-1] / summary.input[-1]) for shape in shapes]
    depths = [3 + 3.2 * math.log2(shape[0] + 1) for shape in shapes]
    steps = [max(74.0, depth + 0.4 * side + 8) for side, depth in zip(sides, depths, strict=True)]
    width = max(sum(steps) + 2 * _PAD, 200)

    def draw(canvas: _Canvas, x: float) -> None:
        center = x + (width - sum(steps)) / 2
        for shape, side, depth, step in zip(shapes, sides, depths, steps, strict=True):
            center += step / 2
            is_read = shape in read
            ink = _DARK[3] if is_read else _GREY
            title = f"{format_shape(shape)}{': read by the next module' if is_read else ''}"
            canvas.block(center, side, depth, _DARK if is_read else _PALE, title)
            label = _MIDDLE + _SIDE / 2 + 26
            canvas.text(center, label, f"{shape[0]} maps", size=12, bold=True, fill=ink, anchor="middle")
            canvas.text(center, label + 16, format_shape(shape[1:]), size=12, fill=ink, anchor="middle")
            center += step / 2

    explanation = _EXPLANATIONS.get(module.name, "")
    return _Card(module.name, module.description, _BLUE, width, draw, [], explanation, _costs(module))


def _vector_card(summary: "Summary", module: "Row") -> _Card:
    """The vectorizer, the head, or another module whose outputs are not maps."""
    is_head = module.name in {"head", "refiner"}
    color = _ORANGE if is_head else _GREEN
    first, last = module.outputs[0], module.outputs[-1]
    draw = partial(_draw_vector, color=color)
    output = [format_shape(shape) for shape in module.outputs[:2]]
    if is_head and first == (4,) and len(last) == 2:
        draw, output = partial(_draw_curves, color=color), ["4 distributions over", f"{last[1]} positions"]
    elif is_head and first == (4,):
        layers = [row.outputs[-1] for row in summary.rows if row.name.startswith("head.") and row.outputs]
        hidden = [str(shape[0]) for shape in layers if len(shape) == 1 and shape != (4,)]
        draw, output = partial(_draw_four, color=color), [" → ".join([*hidden, "4 numbers"])]
    elif len(first) == 1:
        output = [f"{first[0]:,} numbers"]
    elif len(first) == 3 and first[0] == 4:
        draw = partial(_draw_sequences, color=color)
        output = ["4 sequences of", f"{first[1]} × {first[2]} numbers"]
    kind = {"head": summary.architecture.head, "vectorizer": summary.architecture.vectorizer}.get(
        module.name, ""
    )
    if module.name == "refiner":
        kind = "refiner"
    explanation = _EXPLANATIONS.get(kind, "")
    return _Card(
        module.name, kind or module.description, color, 214, draw, output, explanation, _costs(module)
    )


# The small drawings ------------------------------------------------------------------------------------


def _draw_image(canvas: "_Canvas", x: float, *, box: bool = False) -> None:
    """A balloon over a field, with or without its box."""
    left, top = x + (186 - _SIDE) / 2, _MIDDLE - _SIDE / 2
    x1, y1, x2, y2 = (value * _SIDE for value in _BOX.values())
    center, radius, bottom = left + (x1 + x2) / 2, (x2 - x1) / 2, top + y2
    canvas.add("rect", x=left, y=top, width=_SIDE, height=_SIDE, fill="#dcecf5")
    canvas.add("rect", x=left, y=top + 0.82 * _SIDE, width=_SIDE, height=0.18 * _SIDE, fill="#bcd3a5")
    for dx in (-1, 1):
        rope = [(center + dx * 0.55 * radius, top + y1 + 1.83 * radius), (center + dx * 8, bottom - 15)]
        canvas.line(rope, "#7a5230")
    canvas.add("circle", cx=center, cy=top + y1 + radius, r=radius, fill="#d65a4a")
    canvas.add("ellipse", cx=center, cy=top + y1 + radius, rx=radius * 0.45, ry=radius, fill="#f2c14e")
    canvas.add("rect", x=center - 9, y=bottom - 15, width=18, height=15, fill="#8a5a33")
    canvas.add("rect", x=left, y=top, width=_SIDE, height=_SIDE, fill="none", stroke=_GREY)
    if box:
        canvas.add(
            "rect", x=left + x1, y=top + y1, width=x2 - x1, height=y2 - y1, fill="none", stroke=_ORANGE,
            stroke_width=3,
        )  # fmt: skip
        canvas.text(left + x1 - 3, top + y1 - 7, "x1, y1", size=11, bold=True, anchor="middle")
        canvas.text(left + x2 + 4, top + y2 + 16, "x2, y2", size=11, bold=True, anchor="middle")


def _draw_sequences(canvas: "_Canvas", x: float, *, color: str) -> None:
    """For each edge a row of cells, dark where the edge is."""
    for row, (name, edge) in enumerate(_BOX.items()):
        y = _MIDDLE - _SIDE / 2 + 8 + row * 38
        canvas.text(x + 24, y + 14, name, size=12, bold=True)
        for cell in range(20):
            opacity = 0.12 + 0.75 * math.exp(-(((cell + 0.5) / 20 - edge) ** 2) / 0.012)
            canvas.add(
                "rect",
                x=x + 50 + cell * 7,
                y=y,
                width=7,
                height=20,
                fill=color,
                fill_opacity=opacity,
                stroke=_CARD,
            )


def _draw_curves(canvas: "_Canvas", x: float, *, color: str) -> None:
    """For each edge a distribution, with a line at its mean."""
    left, width = x + 50, 140
    for row, (name, edge) in enumerate(_BOX.items()):
        base = _MIDDLE - _SIDE / 2 + 30 + row * 38
        canvas.text(x + 24, base - 3, name, size=12, bold=True)
        curve = [
            (left + width * t / 70, base - 24 * math.exp(-((t / 70 - edge) ** 2) / 0.006)) for t in range(71)
        ]
        canvas.line(curve, color)
        canvas.line([(left, base), (left + width, base)], _GREY)
        canvas.line([(left + width * edge, base - 27), (left + width * edge, base + 4)], _INK)


def _draw_four(canvas: "_Canvas", x: float, *, color: str) -> None:
    """A vector, and four numbers that each depend on all of it."""
    for row, name in enumerate(_BOX):
        y = _MIDDLE - 54 + 36 * row
        for start in range(-60, 61, 20):
            canvas.line([(x + 60, _MIDDLE + start), (x + 158, y)], _LINE)
        canvas.add("circle", cx=x + 158, cy=y, r=15, fill=color)
        canvas.text(x + 158, y + 4, name, size=12, bold=True, fill=_CARD, anchor="middle")
    _draw_vector(canvas, x - 56, color=color)


def _draw_vector(canvas: "_Canvas", x: float, *, color: str) -> None:
    """A column of numbers, too many to draw them all."""
    for row in range(14):
        y = _MIDDLE - 70 + row * 10
        if row in (6, 7):
            canvas.add("circle", cx=x + 107, cy=y + 5, r=1.6, fill=_GREY)
        else:
            opacity = 0.2 + 0.07 * (row * 7 % 10)
            canvas.add("rect", x=x + 98, y=y, width=18, height=9, fill=color, fill_opacity=opacity)


_RISE = 0.26
"""How far the top of a block rises, as a share of its side."""
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Canvas:
    """An SVG with its elements in the order of painting; lengths in pixels, y points down."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self._root = ET.Element(
            "svg", xmlns="http://www.w3.org/2000/svg", width=f"{width:.0f}", height=f"{height:.0f}",
            viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", attrib={"font-family": _FONT},
            style="max-width: 100%; height: auto",  # a window narrower than the drawing shows all of it
        )  # fmt: skip
        self.add("title", _xml_text(title))
        self.add("desc", _xml_text(description))
        self.add("rect", width="100%", height="100%", fill=_PAPER)

    def add(self, tag: str, text: str = "", **attributes: float | str) -> ET.Element:
        """Add an element; ``fill_opacity`` becomes ``fill-opacity``."""
        written = {
            name.replace("_", "-"): f"{value:.2f}" if isinstance(value, float) else str(value)
            for name, value in attributes.items()
        }
        element = ET.SubElement(self._root, tag, written)
        element.text = text or None
        return element

    def text(
        self, x: float, y: float, text: str, *, size: int = 13, bold: bool = False, fill: str = _INK,
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Text at a point of its baseline."""
        weight = 600 if bold else 400
        self.add(
            "text",
            _xml_text(text),
            x=x,
            y=y,
            font_size=size,
            font_weight=weight,
            fill=fill,
            text_anchor=anchor,
        )

    def line(self, points: Sequence[tuple[float, float]], color: str) -> None:
        """A line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add("polyline", points=joined, fill="none", stroke=color, stroke_width=1.5)

    def arrow(self, x: float, y: float, end: float) -> None:
        """An arrow to the right."""
        self.line([(x, y), (end - 8, y)], _DARK[3])
        self.add("path", d=f"M{end} {y} l-10 -5.5 v11 z", fill=_DARK[3])

    def block(self, x: float, side: float, depth: float, colors: Sequence[str], title: str) -> None:
        """A cuboid around (x, `_MIDDLE`): as thick as there are maps."""
        dx, dy = 0.4 * side, _RISE * side
        left, right = x - (depth + dx) / 2, x + (depth - dx) / 2
        top, bottom = _MIDDLE - (side - dy) / 2, _MIDDLE + (side + dy) / 2
        faces = (
            [(left, top), (right, top), (right, bottom), (left, bottom)],
            [(left, top), (left + dx, top - dy), (right + dx, top - dy), (right, top)],
            [(right, top), (right + dx, top - dy), (right + dx, bottom - dy), (right, bottom)],
        )
        group = self.add("g", stroke=colors[3])
        ET.SubElement(group, "title").text = title
        for face, fill in zip(faces, colors[:3], strict=True):
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in face)
            ET.SubElement(group, "polygon", points=points, fill=fill)

    def svg(self) -> str:
        """The whole file."""
        ET.indent(self._root, space="")
        return ET.tostring(self._root, encoding="unicode") + "\n"


def _xml_text(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
