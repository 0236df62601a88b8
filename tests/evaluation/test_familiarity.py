import numpy as np
import pytest

from solobox.evaluation.familiarity import FamiliaritySummary


def test_images_without_a_familiarity_are_left_out() -> None:
    summary = FamiliaritySummary.from_values([0.01, 0.002, 0.5, np.nan, 0.9, 0.7])
    assert summary is not None
    assert (summary.n, summary.median) == (5, 0.5)
    assert summary.share_unfamiliar == pytest.approx(0.4)
    assert summary.to_dict() == {"n": 5, "median": 0.5, "share_unfamiliar": summary.share_unfamiliar}


def test_without_any_familiarity_there_is_no_summary() -> None:
    assert FamiliaritySummary.from_values([np.nan, np.nan]) is None
    assert FamiliaritySummary.from_values([]) is None
