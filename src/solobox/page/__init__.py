"""The page on which people try a model: that of `solobox serve`, and that which runs without a server."""

import re
from importlib.resources import files
from typing import Literal

_SHARED = ("style.css", "app.js", "drawing.js")
_OWN = {"server": ("server.js",), "web": ("web.js", "worker.js", "resize.js")}


def page_html(kind: Literal["server", "web"]) -> str:
    """The page's ``index.html``: without what is for the other kind alone, ``<!--kind-->...<!--end-->``."""
    text = (files("solobox.page") / "index.html").read_text(encoding="utf-8")
    return re.sub(
        r"<!--(server|web)-->(.*?)<!--end-->",
        lambda block: block[2] if block[1] == kind else "",
        text,
        flags=re.DOTALL,
    )


def page_files(kind: Literal["server", "web"]) -> dict[str, bytes]:
    """Its styles and ES modules, by their names."""
    return {name: (files("solobox.page") / name).read_bytes() for name in (*_SHARED, *_OWN[kind])}
