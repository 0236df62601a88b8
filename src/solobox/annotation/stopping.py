"""When enough images are labelled: a bound of the share of good boxes, at a few fixed counts.

Who looks after each image and stops at the first good figure stops too early too often. So the bound is looked at at
fixed counts alone, and each look spends a part of the error, ``1 / (k (k + 1))`` of it for look k, which add up to 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95
"""Probability that no look says that the goal is reached where it is not."""

_FIRST, _RATIO = 10, 1.5
"""Answers before the first look, and by how much each look has more than the one before."""

_TOLERANCE = 1e-9


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


def lower_bound(good: int, number: int, error: float) -> float:
    """The lower bound of a share of which `good` of `number` were seen, wrong with the probability `error` at most.

    Exact (Clopper & Pearson, 1934, "The use of confidence or fiducial limits"): the share at which so many, or more,
    would be seen with this probability.
    """
    if not 0 <= good <= number or not number or not 0 < error < 1:
        raise ValueError(f"{good} of {number} at an error of {error}")
    low, high = 0.0, good / number
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if _as_many(good, number, middle) < error else (low, middle)
    return low


def _as_many(good: int, number: int, share: float) -> float:
    """The probability of `good` or more of `number`, each with the probability `share`, in (0, 1)."""
    ways = (
        math.lgamma(number + 1) - math.lgamma(hits + 1) - math.lgamma(number - hits + 1)
        + hits * math.log(share) + (number - hits) * math.log1p(-share)
        for hits in range(good, number + 1)
    )  # fmt: skip
    return math.fsum(map(math.exp, ways))
