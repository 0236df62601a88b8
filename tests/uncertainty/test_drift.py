"""The alarm is seldom false, comes soon, takes constant memory and withstands any p-values."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.uncertainty.drift import FALSE_ALARM, DriftDetector, DriftSpan


def p_values(calibration: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Conformal p-values of a stream's scores: large scores are strange."""
    count = len(calibration)
    at_least = count - np.searchsorted(np.sort(calibration), stream, side="left")
    return np.asarray((1 + at_least) / (count + 1))


def first_alarm(detector: DriftDetector, values: np.ndarray) -> int | None:
    return next((number for number, value in enumerate(values.tolist(), 1) if detector.add(value)), None)


@pytest.mark.parametrize("count", [1, 19, 100, 1000])
def test_a_stream_like_the_calibration_images_seldom_raises_an_alarm(count: int) -> None:
    """Far longer than the calibration: what is wrong about its p-values would show."""
    rng = np.random.default_rng(count)
    alarms = sum(
        first_alarm(DriftDetector(count), p_values(rng.normal(size=count), rng.normal(size=3000))) is not None
        for _ in range(40)
    )
    assert alarms <= 1  # 0.08 are expected at most
    assert FALSE_ALARM <= 0.002


def test_without_the_discount_for_few_calibration_images_it_would() -> None:
    """The test before this can fail: p-values of 20 images, said to be of 20,000."""
    rng = np.random.default_rng(0)
    alarms = sum(
        first_alarm(DriftDetector(20_000), p_values(rng.normal(size=20), rng.normal(size=3000))) is not None
        for _ in range(20)
    )
    assert alarms >= 2  # at most 0.04 are expected of a right one


@pytest.mark.parametrize(("shift", "soon"), [(6.0, 15), (2.0, 40), (1.0, 400)])
@pytest.mark.parametrize("late", [0, 2000])
def test_drift_is_found_soon_and_its_beginning_is_about_right(shift: float, soon: int, late: int) -> None:
    rng = np.random.default_rng(5)
    delays = []
    for _ in range(9):
        calibration = rng.normal(size=400)
        stream = rng.normal(size=late + 3000)
        stream[late:] += shift
        detector = DriftDetector(400)
        alarm = first_alarm(detector, p_values(calibration, stream))
        assert alarm is not None
        assert detector.span is not None
        assert abs(detector.span.first - 1 - late) <= max(alarm - late, 10)
        assert alarm > late
        delays.append(alarm - late)
    assert np.median(delays) <= soon


def test_a_stream_that_is_familiar_again_ends_the_span() -> None:
    rng = np.random.default_rng(2)
    calibration = rng.normal(size=400)
    parts = [rng.normal(size=500), rng.normal(size=5000) + 5, rng.normal(size=500), rng.normal(size=50) + 5]
    values = p_values(calibration, np.concatenate(parts))
    detector = DriftDetector(400)
    alarms = [number for number, value in enumerate(values.tolist(), 1) if detector.add(value)]
    assert len(alarms) == 2
    assert 500 < alarms[0] < 520
    assert 6000 < alarms[1] < 6020
    assert detector.is_drifting
    assert detector.span is not None
    assert detector.span.last is None
    first = DriftDetector(400)
    for value in values[:6000].tolist():
        first.add(value)
    assert not first.is_drifting
    assert first.span is not None
    assert first.span.last is not None
    assert abs(first.span.first - 501) <= 3
    assert abs(first.span.last - 5500) <= 3


@given(
    st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 5e-324, 1.0, np.nan])), max_size=80),
    st.integers(1, 3000),
)
def test_any_p_values_leave_it_finite(values: list[float], count: int) -> None:
    detector = DriftDetector(count)
    for value in values * 3:
        detector.add(value)
    assert math.isfinite(detector.evidence)
    assert detector.count == 3 * len(values)
    if detector.span is not None:
        assert 1 <= detector.span.first <= (detector.span.last or detector.count) <= detector.count


def test_memory_is_constant() -> None:
    rng = np.random.default_rng(0)
    detector = DriftDetector(100)
    sizes = set()
    for number, value in enumerate(rng.uniform(0, 1, 20_000).tolist()):
        detector.add(value)
        if number >= 1000 and number % 1000 == 0:
            sizes.add(len(pickle.dumps(detector)))
    assert max(sizes) - min(sizes) <= 16  # digits of counts


def test_images_that_cannot_be_read_only_count() -> None:
    detector = DriftDetector(100)
    for _ in range(50):
        detector.add(float("nan"))
    assert (detector.count, detector.evidence, detector.span) == (50, 0, None)
    for _ in range(30):
        detector.add(1 / 101)
    assert detector.span == DriftSpan(51)
