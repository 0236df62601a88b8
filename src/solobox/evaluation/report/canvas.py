"""What the report's charts are drawn on: a figure in, inline SVG out, with the colours and letters of the page."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.style
from defusedxml import ElementTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours are names for the style sheet: an SVG inside the page follows its light and dark mode.
INK, MUTED, LINE, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", BLUE: "--blue", ORANGE: "--orange"}
_LIGHT = {
    "--ink": "#24262b", "--muted": "#666b75", "--line": "#e4e2dd", "--blue": "#2378b5", "--orange": "#d36a0b"
}  # fmt: skip
_PAPER = "#ffffff"
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "solobox",
    "font.family": "DejaVu Sans",  # for the layout; the page's own, narrower letters are shown
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
}
_WIDTH = 400  # in the SVG's units; about the width of a phone, so that letters keep their size there


@contextmanager
def chart(
    height: int, rows: int = 1, ratios: Sequence[float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give an empty figure of a height in the SVG's units, 400 wide, and its axes, one above the other.

    ratios: how high each row is beside the others; all the same by default.
    """
    # Settings are read when the parts are made and again when they are written, so both happen inside; a
    # person's own matplotlib settings do not reach the report.
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)
        yield figure, list(axes[:, 0])


def svg(figure: Figure, name: str, label: str) -> str:
    """Write a figure as an SVG element for an HTML page: no name spaces, no style of its own, unique ids."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue(), forbid_dtd=False)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {k.rpartition("}")[2]: _local(v, name) for k, v in element.attrib.items()}
        if "id" in element.attrib:
            element.set("id", f"{name}-{element.get('id')}")
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": label, "class": "chart"}
    text: str = ElementTree.tostring(root, encoding="unicode")
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text.replace("font-family: 'DejaVu Sans'", "font-family: inherit")


def standalone(element: str) -> str:
    """What `svg` gave as a file that is read without a page: with name spaces, and the page's light colours."""
    for variable, color in _LIGHT.items():
        element = element.replace(f"var({variable})", color)
    element = element.replace("font-family: inherit", "font-family: 'DejaVu Sans', sans-serif")
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    paper = f'<rect width="100%" height="100%" fill="{_PAPER}"/>'
    head, rest = element.split(">", 1)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head.replace("<svg", f"<svg {spaces}", 1)}>{paper}{rest}\n'
    )


def _local(value: str, name: str) -> str:
    return re.sub(r"^#|(?<=url\(#)", lambda m: f"{m[0]}{name}-", value)
