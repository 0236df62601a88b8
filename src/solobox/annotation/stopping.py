"""When enough images are labelled: a bound of the share of good boxes, at a few fixed counts.

Who looks after each image and stops at the first good figure stops too early too often. So the bound is looked at at
fixed counts alone, and each look spends a part of the error, ``1 / (k (k + 1))`` of it for look k, which add up to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from solobox.uncertainty.binomial import lower_bound

LEVEL = 0.95
"""Probability that no look says that the goal is reached where it is not."""

_FIRST, _RATIO = 10, 1.5
"""Answers before the first look, and by how much each look has more than the one before."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the answers.

    count: answers that it is about, the first so many. good: of them, those whose box was good.
    lower: bound of the share of good boxes, which holds with those of all other looks with the probability `LEVEL`.
    goal: of that share. next: how many answers the look after it will be about.
    """

    count: int
    good: int
    lower: float
    goal: float
    next: int

    @property
    def is_enough(self) -> bool:
        """Whether the goal is reached."""
        return self.lower >= self.goal

    def sentence(self) -> str:
        """What it says, for a person."""
        share = f"{self.good} of {self.count} boxes were good, so at least {self.lower:.0%} are ({LEVEL:.0%} certain)"
        if self.is_enough:
            return f"{share}: the goal of {self.goal:.0%} is reached, you can stop"
        return f"{share}; the goal is {self.goal:.0%}. The next look is at {self.next} blind answers"


def count_of_look(look: int) -> int:
    """How many answers a look is about; looks are counted from 0."""
    return round(_FIRST * _RATIO**look)


def last_look(hits: Sequence[int], goal: float) -> Look | None:
    """The first look that reached the goal, else the last one; None before the first.

    hits: for each look so far, how many of the first `count_of_look` answers had a good box. The answers are those for
        images that were chosen at random; the boxes those of a model that did not learn from them.
    """
    looked = None
    for index, good in enumerate(hits):
        if looked is not None and looked.is_enough:
            break
        number = count_of_look(index)
        bound = lower_bound(good, number, (1 - LEVEL) / ((index + 1) * (index + 2)))
        looked = Look(number, good, bound, goal, count_of_look(index + 1))
    return looked
