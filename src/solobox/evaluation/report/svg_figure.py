"""From a matplotlib figure to SVG that can be embedded in a page and takes its colors and font."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.style
from defusedxml import ElementTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# These colors are placeholders for CSS variables, so that a chart follows the light and dark mode of the page.
INK, MUTED, LINE, BLUE, ORANGE = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", BLUE: "--blue", ORANGE: "--orange"}
_LIGHT = {
    "--ink": "#24262b", "--muted": "#666b75", "--line": "#e4e2dd", "--blue": "#2378b5", "--orange": "#d36a0b"
}  # fmt: skip
_BACKGROUND = "#ffffff"
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "solobox",
    "font.family": "DejaVu Sans",  # for the layout; the page shows its own, narrower font
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
_WIDTH = 400  # in SVG units; about the width of a phone, so that text keeps its size there


@contextmanager
def chart(
    height: int, rows: int = 1, ratios: Sequence[float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Create a figure 400 SVG units wide and its axes, one per row.

    height: of the figure in SVG units. ratios: relative heights of the rows, default equal.
    """
    # matplotlib reads its style when it creates a figure and again when it saves it, so both happen in this context. It
    # also keeps the user's own style out of the report.
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), layout="constrained")
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)
        yield figure, list(axes[:, 0])


def svg(figure: Figure, name: str, label: str) -> str:
    """Convert a figure to an SVG element for an HTML page: without namespaces and style sheet, with unique ids.

    name: prefix of the ids. label: description for screen readers.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue(), forbid_dtd=False)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        element.attrib = {k.rpartition("}")[2]: _prefix_ids(v, name) for k, v in element.attrib.items()}
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
    """Convert an element of `svg` to an SVG file: with namespaces, and the light colors of the page."""
    for variable, color in _LIGHT.items():
        element = element.replace(f"var({variable})", color)
    element = element.replace("font-family: inherit", "font-family: 'DejaVu Sans', sans-serif")
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    background = f'<rect width="100%" height="100%" fill="{_BACKGROUND}"/>'
    head, rest = element.split(">", 1)
    head = head.replace("<svg", f"<svg {namespaces}", 1)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}>{background}{rest}\n'


def _prefix_ids(value: str, name: str) -> str:
    return re.sub(r"^#|(?<=url\(#)", lambda m: f"{m[0]}{name}-", value)
