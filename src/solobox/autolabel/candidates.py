"""Candidates for the box of an image, and the choice between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solobox.boxes import iou

RIVAL_SCORE: Final = 0.7
"""A candidate with at least this share of the best score is a rival of the best one (bench/LOG.md)."""

SAME_OBJECT_IOU: Final = 0.5
"""Candidates that overlap the best one by this IoU show the same object."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A box that may be the object's.

    box: ``x1, y1, x2, y2`` in continuous pixels of the array that the labeler got.
    score: 0 or more, on any scale where a candidate of twice the score is twice as likely.

    ``ValueError`` for a box that is not four finite numbers with ``x1 < x2, y1 < y2``, and for a score that is
    negative or not finite.
    """

    box: Corners
    score: float

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = box = tuple(float(value) for value in self.box)
        if not (all(map(math.isfinite, box)) and x1 < x2 and y1 < y2):
            raise ValueError(f"a candidate's box is x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {self.box}")
        if not (math.isfinite(self.score) and self.score >= 0):
            raise ValueError(f"a candidate's score is a finite number, 0 or more, not {self.score}")
        # NumPy's numbers would not be written as plain ones.
        object.__setattr__(self, "box", (x1, y1, x2, y2))
        object.__setattr__(self, "score", float(self.score))


def by_score(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best score first; of equal ones the larger box, then the one further up and to the left."""

    def key(candidate: Candidate) -> tuple[float, ...]:
        x1, y1, x2, y2 = candidate.box
        return (-candidate.score, -(x2 - x1) * (y2 - y1), y1, x1)

    return sorted(candidates, key=key)


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate | None, str]:
    """Choose the candidate with the best score, or none and the reason.

    None is chosen without candidates, and where a rival (`RIVAL_SCORE`) is elsewhere in the image: then only a
    person can say which of them matters.
    """
    if not candidates:
        return None, "nothing found"
    best, *others = by_score(candidates)
    rivals = [
        other
        for other in others
        if other.score >= RIVAL_SCORE * best.score and float(iou(other.box, best.box)) < SAME_OBJECT_IOU
    ]
    if rivals:
        return None, f"{len(rivals) + 1} candidates have similar scores"
    return best, ""
