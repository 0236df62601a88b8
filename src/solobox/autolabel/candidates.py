"""What a labeler finds in one image, and which of it is taken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solobox.boxes import iou

NEAR: Final = 0.7
"""A second candidate whose score is at least this share of the first's is nearly as sure (bench/LOG.md)."""

SAME: Final = 0.5
"""Candidates that overlap the surest by this IoU are the same object seen again."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where the object may be.

    box: ``x1, y1, x2, y2`` in continuous pixels of the pixels that the labeler was given.
    score: how sure the labeler is; 0 or more, on a scale of its own where twice the number is twice as sure.

    ``ValueError`` for a box that is not four finite numbers with ``x1 < x2, y1 < y2``, and for a score that is
    negative or no finite number.
    """

    box: Corners
    score: float

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = box = tuple(float(value) for value in self.box)
        if not (all(map(math.isfinite, box)) and x1 < x2 and y1 < y2):
            raise ValueError(f"a candidate's box is x1, y1, x2, y2 with x1 < x2 and y1 < y2, not {self.box}")
        if not (math.isfinite(self.score) and self.score >= 0):
            raise ValueError(f"a candidate's score is a number of 0 or more, not {self.score}")
        object.__setattr__(
            self, "box", (x1, y1, x2, y2)
        )  # NumPy's numbers would not be written as plain ones
        object.__setattr__(self, "score", float(self.score))


def by_score(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The surest first; of equals the larger, then the one further up and to the left."""

    def key(candidate: Candidate) -> tuple[float, ...]:
        x1, y1, x2, y2 = candidate.box
        return (-candidate.score, -(x2 - x1) * (y2 - y1), y1, x1)

    return sorted(candidates, key=key)


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate | None, str]:
    """Take the surest candidate, or none and the reason.

    None is taken where there is none, and where another, elsewhere in the image, is nearly as sure
    (`NEAR`): only a person can say which of them matters.
    """
    if not candidates:
        return None, "nothing found"
    first, *others = by_score(candidates)
    rivals = [
        other
        for other in others
        if other.score >= NEAR * first.score and float(iou(other.box, first.box)) < SAME
    ]
    if rivals:
        return None, f"{len(rivals) + 1} candidates are nearly as sure as one another"
    return first, ""
