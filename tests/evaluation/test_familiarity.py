import numpy as np
import pytest

from solobox.evaluation.familiarity import Familiarity


def test_the_median_and_the_strange_are_of_the_known() -> None:
    found = FamiliaritySummary.of([0.01, 0.002, 0.5, np.nan, 0.9, 0.7])
    assert found is not None
    assert (found.n, found.median) == (5, 0.5)
    assert found.strange == pytest.approx(0.4)
    assert found.to_dict() == {"n": 5, "median": 0.5, "strange": found.strange}


def test_nothing_known_is_nothing_said() -> None:
    assert FamiliaritySummary.of([np.nan, np.nan]) is None
    assert FamiliaritySummary.of([]) is None
