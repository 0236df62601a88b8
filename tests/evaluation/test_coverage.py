import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats, object_sides
from solobox.evaluation.coverage import covered, measure_coverage, size_terciles
from solobox.uncertainty import conformal

TRUTH = np.array([[20.0, 20, 60, 60]])
SIZE = np.array([[100.0, 100]])


def boxes_with_margins(n: int, margin: float) -> tuple[Floats, Floats, Floats, Floats]:
    """True boxes, predicted boxes 5 pixels to the right of them, and the margins of these."""
    sides = np.linspace(10, 60, n)
    truth = np.stack([np.full(n, 20.0), np.full(n, 20.0), 20 + sides, 20 + sides], axis=1)
    found = truth + np.array([5.0, 0, 5, 0])
    return truth, found, found - margin, found + margin


def test_all_four_edges_must_lie_within_their_margins() -> None:
    for edge in range(4):
        for off, expected in ((2.0, True), (-2.0, True), (2.1, False), (-2.1, False)):
            truth = TRUTH.copy()
            truth[0, edge] += off
            assert covered(truth, TRUTH - 2, TRUTH + 2).tolist() == [expected]
    assert not covered(TRUTH, TRUTH - np.nan, TRUTH + 2).any()
    assert covered(TRUTH, TRUTH + 1e-9, TRUTH - 1e-9).all()  # rounding


def test_shares_and_areas_by_hand() -> None:
    truth, found = np.repeat(TRUTH, 4, axis=0), np.repeat(TRUTH, 4, axis=0)
    found[3] += 30  # misses
    lower, upper = found - 10, found + 10
    coverage = measure_coverage(truth, found, lower, upper, np.repeat(SIZE, 4, axis=0), level=0.8)
    assert coverage is not None
    assert (coverage.level, coverage.n, coverage.share) == (0.8, 4, 0.75)
    assert coverage.outer_to_predicted == pytest.approx(60 * 60 / 40**2)
    assert coverage.outer_to_inner == pytest.approx(60 * 60 / 20**2)
    assert coverage.n_inner == 4
    assert coverage.interval.lower < 0.75 < coverage.interval.upper


def test_margins_that_cross_leave_no_inner_box() -> None:
    coverage = measure_coverage(TRUTH, TRUTH, TRUTH - 20, TRUTH + 20, SIZE)
    assert coverage is not None
    assert coverage.n_inner == 0
    assert math.isnan(coverage.outer_to_inner)
    assert coverage.outer_to_predicted == pytest.approx(4)
    plain = json.loads(json.dumps(coverage.to_dict(), allow_nan=False))
    assert plain["outer_to_inner"] is None
    assert plain["interval"] is None  # of one image


def test_a_true_box_is_clipped_to_the_image_as_margins_are() -> None:
    truth, found = np.array([[50.0, 50, 101, 90]]), np.array([[50.0, 50, 99, 90]])
    coverage = measure_coverage(truth, found, found - 3, np.minimum(found + 3, 100), SIZE)
    assert coverage is not None
    assert coverage.share == 1


def test_images_without_margins_are_left_out() -> None:
    truth, found, lower, upper = boxes_with_margins(6, 6)
    lower[2], found[4] = np.nan, np.nan
    coverage = measure_coverage(truth, found, lower, upper, np.repeat(SIZE, 6, axis=0), ["a", "b"] * 3)
    assert coverage is not None
    assert coverage.n == 4
    assert measure_coverage(truth, found, lower * np.nan, upper, np.repeat(SIZE, 6, axis=0)) is None
    assert measure_coverage([], [], [], [], []) is None


def test_coverage_by_object_size() -> None:
    truth, found, lower, upper = boxes_with_margins(9, 6)
    upper[:3] = found[:3] + 4
    lower[:3] = found[:3] - 4
    coverage = measure_coverage(truth, found, lower, upper, np.repeat(SIZE, 9, axis=0))
    assert coverage is not None
    assert [(third.name, third.n, third.share) for third in coverage.by_size] == [
        ("small", 3, 0),
        ("medium", 3, 1),
        ("large", 3, 1),
    ]
    assert coverage.by_size[0].sides == pytest.approx((0.1, 0.225))
    assert coverage.by_size[1].sides[0] > coverage.by_size[0].sides[1]
    assert coverage.by_size[1].outer_to_predicted > coverage.by_size[2].outer_to_predicted
    few = measure_coverage(truth[:2], found[:2], lower[:2], upper[:2], np.repeat(SIZE, 2, axis=0))
    assert few is not None
    assert few.by_size == ()


def test_object_sides_are_fractions_of_the_image() -> None:
    np.testing.assert_allclose(object_sides([[0, 0, 50, 20]], [[100, 40]]), [0.5])


@given(st.lists(st.floats(0, 1), max_size=40))
def test_terciles_partition_the_images_in_order_of_size(sides: list[float]) -> None:
    values, parts = np.array(sides), size_terciles(sides)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(sides)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for smaller, larger in itertools.pairwise(parts):
        if len(smaller) and len(larger):
            assert values[smaller].max() <= values[larger].min()


def test_calibrated_margins_have_their_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    corner = random.uniform(50, 200, (4000, 2))
    truth = np.concatenate([corner, corner + random.uniform(30, 200, (4000, 2))], axis=1)
    std = random.uniform(1, 8, (4000, 4))
    found = truth + random.normal(0, 1, (4000, 4)) * std
    size = np.full((4000, 2), 500.0)
    scale = conformal.scales(found, std)
    calibration = conformal.Calibration.fit(truth[:2000], found[:2000], scale[:2000])
    lower, upper = calibration.margins(found[2000:], scale[2000:], size[2000:], 0.8)
    coverage = measure_coverage(truth[2000:], found[2000:], lower, upper, size[2000:], level=0.8)
    assert coverage is not None
    assert coverage.share == pytest.approx(0.8, abs=0.03)
    assert coverage.interval.contains(0.8)
