"""First boxes without a person: labelers, run over images on every core.

A labeler of your own is a function, say in ``mine.py`` beside your images::

    from solobox.autolabel import Candidate

    def middle(pixels):  # (h, w, 3), uint8, RGB, upright
        h, w = pixels.shape[:2]
        return [Candidate((w / 4, h / 4, w * 3 / 4, h * 3 / 4), score=1)]

``solobox autolabel photos/ -o boxes.csv --with mine:middle`` runs it, and so does
``write(label(images, middle), Path("boxes.csv"), "middle")``. It is called in several threads at once; `register`
gives it a name.
"""

from solobox.autolabel.candidates import Candidate, choose
from solobox.autolabel.label_files import LabelReport, rejected_path, write
from solobox.autolabel.registry import Labeler, available, find, register
from solobox.autolabel.run import ImageCandidates, find_candidates, label

__all__ = [
    "Candidate",
    "ImageCandidates",
    "LabelReport",
    "Labeler",
    "available",
    "choose",
    "find",
    "find_candidates",
    "label",
    "register",
    "rejected_path",
    "write",
]
