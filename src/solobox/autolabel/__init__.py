"""First boxes without a person: labelers, run over images on every core.

A labeler of your own is a function, say in ``mine.py`` beside your images::

    from solobox.autolabel import Candidate, register

    @register("middle")
    def middle(pixels):  # (h, w, 3), uint8, RGB, upright
        h, w = pixels.shape[:2]
        return [Candidate((w / 4, h / 4, w * 3 / 4, h * 3 / 4), score=1)]

``solobox autolabel photos/ -o boxes.csv --with mine:middle`` runs it, and so does
``write(label(images, middle), Path("boxes.csv"), "middle")``. `register` may be left out; with it the name alone
is enough once the module is loaded.
"""

from solobox.autolabel import grabcut as _grabcut  # noqa: F401 (registers itself)
from solobox.autolabel import haar as _haar  # noqa: F401
from solobox.autolabel import people as _people  # noqa: F401
from solobox.autolabel.candidates import Candidate, choose
from solobox.autolabel.listing import listed
from solobox.autolabel.registry import Labeler, find, known, register
from solobox.autolabel.running import Found, label, look
from solobox.autolabel.writing import LabelReport, rejected_beside, write

__all__ = [
    "Candidate",
    "Found",
    "LabelReport",
    "Labeler",
    "choose",
    "find",
    "known",
    "label",
    "listed",
    "look",
    "register",
    "rejected_beside",
    "write",
]
