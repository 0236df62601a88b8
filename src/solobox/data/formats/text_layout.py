"""What the four numbers in one column of text mean, as far as the column's name says it."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from solobox.data.formats.records import Layout

_COCO = re.compile(r"[\W_]*bbox(es)?[\W_]*")
"""COCO's word, which Hugging Face and Kaggle took over with its numbers: x, y, width, height."""

_LETTERS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("xmin", "xmax", "left", "right"), "x"),
        **dict.fromkeys(("ymin", "ymax", "top", "bottom"), "y"),
        **dict.fromkeys(("xcenter", "xcentre", "xc"), "cx"),
        **dict.fromkeys(("ycenter", "ycentre", "yc"), "cy"),
        "width": "w",
        "height": "h",
    }
)
_ORDERS: Mapping[str, Layout] = MappingProxyType(
    {
        "cxcywh": Layout("cxcywh"),
        "xyxy": Layout(),
        "xywh": Layout("xywh"),
        "yxyx": Layout(y_first=True),
        "yxhw": Layout("xywh", y_first=True),
        "cycxhw": Layout("cxcywh", y_first=True),
    }
)


def layout_in_name(name: str) -> Layout | None:
    """The layout that a column's name settles: ``bbox``, ``box_xyxy``, ``[x, y, w, h]``; None for any other."""
    name = name.lower()
    if _COCO.fullmatch(name):
        return Layout("xywh")
    words = re.findall(r"[a-z]+", re.sub(r"([xy])[\s_-]*(min|max|cent)", r"\1\2", name))
    letters = "".join(_LETTERS.get(word, word) for word in words)
    return next((layout for order, layout in _ORDERS.items() if letters.endswith(order)), None)


def text_layout(header: Sequence[str], name: str) -> tuple[Layout, bool]:
    """The layout of the column `name` of a table with this header, and whether that is a guess.

    Where the name settles nothing: corners in a table of two columns, as the article's, and COCO's layout in others.
    Both are a guess but for the header ``image,box``, which `article.write` writes.
    """
    layout = layout_in_name(name)
    if layout is not None:
        return layout, False
    if len(header) == 2:
        return Layout(), [cell.strip().lower() for cell in header] != ["image", "box"]
    return Layout("xywh"), True
