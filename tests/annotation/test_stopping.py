"""The bound is the exact one, and looking several times does not stop too early too often."""

from itertools import pairwise

import numpy as np
import pytest

from solobox.annotation.stopping import LEVEL, Look, count_of_look, last_look


def hits_of(good: list[bool]) -> list[int]:
    """What each look would see of answers in this order."""
    return [sum(good[: count_of_look(look)]) for look in range(20) if count_of_look(look) <= len(good)]


def test_the_counts_rise() -> None:
    first = [count_of_look(look) for look in range(12)]
    assert first[0] == 10
    assert all(a < b for a, b in pairwise(first))


@pytest.mark.parametrize("goal", [0.7, 0.9])
def test_a_goal_that_is_just_missed_is_seldom_called_reached(goal: float) -> None:
    rng = np.random.default_rng(0)
    runs = 600
    stopped = 0
    for _ in range(runs):
        looked = last_look(hits_of((rng.random(400) < goal).tolist()), goal)
        stopped += looked is not None and looked.is_enough
    assert stopped / runs <= (1 - LEVEL) + 3 * (LEVEL * (1 - LEVEL) / runs) ** 0.5


def test_a_goal_that_is_passed_is_found_and_kept() -> None:
    good = [True] * 40
    assert last_look(hits_of(good[:9]), 0.5) is None
    reached = last_look(hits_of(good), 0.5)
    assert reached is not None
    assert reached.is_enough
    assert reached.count == 10  # later answers do not take it back
    assert last_look(hits_of([*good[:10], *[False] * 30]), 0.5) == reached
    assert "you can stop" in reached.sentence()


def test_it_says_when_it_looks_again() -> None:
    looked = last_look(hits_of([True, False] * 10), 0.9)
    assert looked == Look(15, 8, looked.lower if looked else 0, 0.9, 22)
    assert looked is not None
    assert "next look is at 22" in looked.sentence()
    assert "8 of 15" in looked.sentence()
