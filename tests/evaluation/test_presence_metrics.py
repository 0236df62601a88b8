import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats
from solobox.evaluation.presence_metrics import PresenceMetrics, auroc, brier, calibration_error, reliability

# Few different values, so that there are ties.
SCORES = st.lists(st.integers(0, 6).map(lambda v: v / 6) | st.floats(0, 1), min_size=1, max_size=25).map(
    np.array
)


def by_pairs(positives: Floats, negatives: Floats) -> float:
    won = [(a > b) + (a == b) / 2 for a in positives.tolist() for b in negatives.tolist()]
    return float(np.mean(won))


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(positives: Floats, negatives: Floats) -> None:
    found = auroc(positives, negatives)
    assert found == pytest.approx(by_pairs(positives, negatives))
    assert found == pytest.approx(1 - auroc(negatives, positives))
    assert found == pytest.approx(auroc(4 * positives, 4 * negatives))


def test_auroc_of_the_known_cases() -> None:
    assert auroc([0.8, 0.9], [0.1, 0.2, 0.3]) == 1
    assert auroc([0.1], [0.2]) == 0
    assert auroc([0.5] * 3, [0.5] * 4) == 0.5
    assert math.isnan(auroc([], [0.5]))
    assert math.isnan(auroc([0.5], []))


def test_auroc_agrees_with_the_area_under_the_curve() -> None:
    random = np.random.default_rng(0)
    positives, negatives = random.normal(1, 1, 300), random.normal(0, 1, 200)
    cuts = np.sort(np.concatenate([positives, negatives, [np.inf]]))[::-1]
    hit, false = ((np.stack([(s >= cut).mean() for cut in cuts])) for s in (positives, negatives))
    area = float((np.diff(false) * (hit[1:] + hit[:-1]) / 2).sum())
    assert auroc(positives, negatives) == pytest.approx(area)


def test_calibration_error_by_hand() -> None:
    # The first of 15 bins has three images, one with the object; the last has two, both with it.
    bins = reliability([0.0, 0.03, 0.06, 0.95, 1.0], [False, True, False, True, True])
    assert bins.counts.tolist() == [3, *[0] * 13, 2]
    assert bins.probability[[0, 14]] == pytest.approx([0.03, 0.975])
    assert bins.share[[0, 14]] == pytest.approx([1 / 3, 1])
    assert np.isnan(bins.share[1:14]).all()
    assert calibration_error(bins) == pytest.approx((3 * (1 / 3 - 0.03) + 2 * 0.025) / 5)


def test_a_bin_includes_its_lower_edge_and_the_last_one_its_upper() -> None:
    bins = reliability([0.0, 0.25, 0.5, 0.75, 1.0], [True] * 5, bins=4)
    assert bins.counts.tolist() == [1, 1, 1, 2]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_bins_count_every_image_once_and_errors_are_shares(rows: list[tuple[float, bool]]) -> None:
    values, truth = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    bins = reliability(values, truth)
    assert bins.counts.sum() == len(rows)
    filled = bins.counts > 0
    inside = (bins.probability[filled] >= bins.edges[:-1][filled] - 1e-9) & (
        bins.probability[filled] <= bins.edges[1:][filled] + 1e-9
    )
    assert inside.all()
    assert (bins.counts[filled] * bins.share[filled]).sum() == pytest.approx(truth.sum())
    assert 0 <= calibration_error(bins) <= 1
    assert 0 <= brier(values, truth) <= 1
    # No bin can be further off than its images are, one by one.
    assert calibration_error(bins) <= np.abs(values - truth).mean() + 1e-9


def test_true_probabilities_are_calibrated_and_distorted_ones_are_not() -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0, 1, 20_000)
    truth = random.uniform(0, 1, 20_000) < values
    assert calibration_error(reliability(values, truth)) < 0.02
    assert calibration_error(reliability(values**3, truth)) > 0.15
    assert brier(values, truth) == pytest.approx(1 / 6, abs=0.01)  # the mean of p (1 - p)


def test_brier_by_hand() -> None:
    assert brier([0.5, 1.0, 0.2], [True, True, False]) == pytest.approx((0.25 + 0 + 0.04) / 3)
    assert math.isnan(brier([], []))
    assert math.isnan(calibration_error(reliability([], [])))


def test_images_without_a_probability_are_left_out() -> None:
    found = PresenceMetrics.from_probabilities([0.9, np.nan, 0.8, 0.3], [0.1, 0.4, np.nan])
    assert found is not None
    assert (found.n_positives, found.n_negatives) == (3, 2)
    assert found.auroc == pytest.approx(5 / 6)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.49 + 0.01 + 0.16) / 5)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert sum(row["n"] for row in plain["bins"]) == 5
    assert plain["auroc"] == found.auroc


@pytest.mark.parametrize(
    ("positive", "negative"), [([], [0.2]), ([0.2], []), ([np.nan], [0.2]), ([0.2], [np.nan])]
)
def test_presence_metrics_need_images_with_and_without_the_object(
    positive: list[float], negative: list[float]
) -> None:
    assert PresenceMetrics.from_probabilities(positive, negative) is None


def test_values_that_are_not_probabilities_raise() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        reliability([0.2, 1.2], [True, False])
    with pytest.raises(ValueError, match="shape"):
        reliability([0.2], [True, False])
