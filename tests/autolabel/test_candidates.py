import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.autolabel.candidates import RIVAL_SCORE, SAME_OBJECT_IOU, Candidate, by_score, choose
from solobox.boxes import iou

coordinates = st.floats(0, 100)
candidates = st.lists(
    st.builds(
        lambda x, y, w, h, score: Candidate((x, y, x + w, y + h), score),
        coordinates,
        coordinates,
        st.floats(1, 50),
        st.floats(1, 50),
        st.floats(0, 10),
    ),
    max_size=5,
)


@given(candidates, st.randoms())
def test_the_order_in_which_candidates_come_does_not_matter(several: list[Candidate], random: object) -> None:
    shuffled = list(several)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled) == choose(several)
    assert by_score(shuffled) == by_score(several)


@given(candidates)
def test_the_choice_has_the_best_score_and_no_rival(several: list[Candidate]) -> None:
    chosen, reason = choose(several)
    assert (chosen is None) == bool(reason)
    greatest = max((candidate.score for candidate in several), default=0)
    if chosen is not None:
        assert chosen.score == greatest
        for other in several:
            assert other.score < RIVAL_SCORE * greatest or iou(other.box, chosen.box) >= SAME_OBJECT_IOU


def test_reasons() -> None:
    left, right = Candidate((0, 0, 10, 10), 10), Candidate((20, 0, 30, 10), 10 * RIVAL_SCORE)
    assert choose([]) == (None, "nothing found")
    assert choose([left, right]) == (None, "2 candidates have similar scores")
    weaker = Candidate(right.box, 10 * RIVAL_SCORE - 0.01)
    assert choose([weaker, left]) == (left, "")


def test_the_same_object_seen_twice_is_no_rival() -> None:
    once, again = Candidate((0, 0, 10, 10), 9), Candidate((1, 0, 11, 10), 10)
    assert choose([once, again]) == (again, "")


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 0, 1, 5), (0, 0, math.nan, 5), (0, 0, math.inf, 5)])
def test_an_invalid_box_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="x1 < x2"):
        Candidate(box, 1)


@pytest.mark.parametrize("score", [-0.1, math.nan, math.inf])
def test_an_invalid_score_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="score"):
        Candidate((0, 0, 1, 1), score)


def test_numbers_become_plain_ones() -> None:
    x1, y1, x2, y2 = np.arange(4, dtype=np.float64)
    candidate = Candidate((x1, y1, x2, y2), np.float64(0.5))
    assert repr(candidate) == "Candidate(box=(0.0, 1.0, 2.0, 3.0), score=0.5)"
