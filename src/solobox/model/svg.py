"""A few shapes and words as SVG, and how much room words take."""

import html
import re
from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

RISE = 0.26
"""How far the top of a block rises, as a share of its height."""


class Canvas:
    """Elements in the order in which they are painted; lengths in pixels, y down."""

    def __init__(self) -> None:
        self._elements: list[str] = []

    def text(
        self, x: float, y: float, text: str, *, size: int, weight: int = 400, fill: str = "#2f2f2d",
        anchor: str = "start",
    ) -> None:  # fmt: skip
        """Words at a point of their baseline; any text."""
        if text:
            self._elements.append(
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
                f'text-anchor="{anchor}">{_escaped(text)}</text>'
            )

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "none", line: float = 1,
        rounded: float = 0, opacity: float = 1,
    ) -> None:  # fmt: skip
        """A rectangle by its upper left corner."""
        self._elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{rounded}" fill="{fill}" '
            f'fill-opacity="{opacity:.2f}" stroke="{stroke}" stroke-width="{line}"/>'
        )

    def path(self, drawn: str, *, fill: str, opacity: float = 1) -> None:
        """An area, in SVG's own letters."""
        self._elements.append(f'<path d="{drawn}" fill="{fill}" fill-opacity="{opacity:.2f}"/>')

    def line(self, points: Sequence[Point], *, stroke: str, width: float = 1.6) -> None:
        """A line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._elements.append(
            f'<polyline points="{joined}" fill="none" stroke="{stroke}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )

    def dot(self, x: float, y: float, radius: float, *, fill: str) -> None:
        """A filled circle."""
        self._elements.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}"/>')

    def arrow(self, start: Point, end: Point, *, color: str) -> None:
        """To the right."""
        x, y = end
        self.line([start, (x - 8, y)], stroke=color, width=2)
        self.path(f"M{x:.1f} {y:.1f} l-10 -5.5 v11 z", fill=color)

    def block(
        self, x: float, middle: float, side: float, thickness: float, colors: Sequence[str], title: str
    ) -> None:
        """A cuboid about a point: its front as thick as there are maps, its flank one map seen aslant."""
        across, up = 0.4 * side, RISE * side
        left, right = x - (thickness + across) / 2, x + (thickness - across) / 2
        top, bottom = middle - side / 2 + up / 2, middle + side / 2 + up / 2
        faces = (
            (colors[0], [(left, top), (right, top), (right, bottom), (left, bottom)]),
            (colors[1], [(left, top), (left + across, top - up), (right + across, top - up), (right, top)]),
            (
                colors[2],
                [(right, top), (right + across, top - up), (right + across, bottom - up), (right, bottom)],
            ),
        )
        shapes = "".join(
            f'<polygon points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}" fill="{fill}" '
            f'stroke="{colors[3]}" stroke-width="1" stroke-linejoin="round"/>'
            for fill, points in faces
        )
        self._elements.append(f"<g><title>{_escaped(title)}</title>{shapes}</g>")

    def svg(self, width: float, height: float, title: str, description: str, *, paper: str) -> str:
        """The whole file. title and description are for screen readers and for tips."""
        body = "\n".join(self._elements)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_escaped(_FONT)}" role="img">\n'
            f"<title>{_escaped(title)}</title>\n<desc>{_escaped(description)}</desc>\n"
            f'<rect width="100%" height="100%" fill="{paper}"/>\n{body}\n</svg>\n'
        )


_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _escaped(text: str) -> str:
    """Text as XML may hold it: what it has no place for at all becomes U+FFFD."""
    return html.escape(_NOT_XML.sub("\ufffd", text))


_EM = 0.56
"""Width of a letter, on the wide side of system fonts."""


def wrapped(text: str, width: float, size: int) -> list[str]:
    """Lines that fit into a width; a longer word stays whole."""
    room, lines = int(width / (size * _EM)), [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def cut(text: str, width: float, size: int) -> str:
    """As much of the text as fits into a width."""
    room = int(width / (size * _EM))
    return text if len(text) <= room else f"{text[: room - 1]}…"
