import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solobox.boxes import Floats, iou
from solobox.predict.prediction import Prediction
from solobox.predict.video.frames import Frame
from solobox.predict.video.smoothing import (
    Motion,
    Track,
    measurement_std,
    predict_track,
    smooth_rows,
    start_track,
    step,
    update_track,
)

SIZE = (640, 480)
RATE = 30

SMALL = st.floats(-40, 40)
BOXES = st.tuples(st.floats(0, 400), st.floats(0, 300), st.floats(5, 200), st.floats(5, 150)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)
CLIPS = st.lists(
    st.tuples(
        st.one_of(st.just(float("nan")), st.floats(0, 5)), st.one_of(st.none(), BOXES), st.floats(0, 1)
    ),
    max_size=12,
)


def prediction(box: Floats, reach: float = 6.0, presence: float = np.nan) -> Prediction:
    return Prediction("p", box, SIZE, lower=np.maximum(box - reach, 0), upper=box + reach, presence=presence)


def along(
    boxes: Floats, reach: Floats | None = None, motion: Motion | None = None, rate: int = RATE
) -> Floats:
    reach = np.full(len(boxes), 6.0) if reach is None else reach
    rows = (
        (Frame(number, number / rate, None), prediction(box, float(wide)))
        for number, (box, wide) in enumerate(zip(boxes, reach, strict=True))
    )
    return np.stack([found.box for _, found in smooth_rows(rows, motion)])


def swaying(count: int, rate: int = RATE) -> Floats:
    """An object that goes to and fro, and grows and shrinks."""
    t = np.arange(count) / rate
    x, y, half = 320 + 150 * np.sin(1.7 * t), 240 + 60 * np.cos(1.1 * t), 70 + 15 * np.sin(0.9 * t)
    return np.stack([x - half, y - half, x + half, y + half], axis=1)


def jitter(boxes: Floats, truth: Floats) -> float:
    return float(np.diff(boxes - truth, 2, axis=0).std())


@pytest.mark.parametrize("seed", range(3))
def test_less_jitter_and_no_frame_of_lag(seed: int) -> None:
    truth = swaying(240)
    given = truth + np.random.default_rng(seed).normal(0, 2.5, truth.shape)
    found = along(given)
    assert jitter(found, truth) < 0.6 * jitter(given, truth)
    assert iou(found, truth).mean() > iou(given, truth).mean()
    at = np.arange(240.0)
    apart = {}
    for shift in (-1.0, 0.0, 0.5, 1.0, 2.0):
        late = np.stack([np.interp(at - shift, at, edge) for edge in truth.T], axis=1)
        apart[shift] = float(np.square(found - late)[5:-5].mean())
    assert min(apart, key=apart.__getitem__) == 0


def test_a_constant_velocity_is_followed_without_any_lag() -> None:
    truth = np.array([20.0, 100, 120, 220]) + np.arange(60)[:, None] * np.array([4.0, 1, 4, 1])
    assert np.abs(along(truth)[20:] - truth[20:]).max() < 0.05


def test_a_clear_image_moves_the_box_more_than_a_blurred_one() -> None:
    still = np.tile([100.0, 100, 200, 200], (20, 1))
    still[-1] += 4
    shifts = {}
    for wide in (2.0, 30.0):
        reach = np.full(20, 6.0)
        reach[-1] = wide
        shifts[wide] = along(still, reach)[-1, 0] - 100
    assert 0 < shifts[30.0] < 0.3 * shifts[2.0]
    assert shifts[2.0] < 4


def test_what_opposite_edges_share_is_known_better() -> None:
    """An edge that is badly seen goes with the one that is well seen."""
    truth, wide = swaying(120), np.array([3.0, 3, 36, 3])
    rng = np.random.default_rng(4)
    given = truth + rng.normal(0, 1, truth.shape) * [1, 1, 12, 1]
    rows = [
        (
            Frame(n, n / RATE, None),
            Prediction("p", box, SIZE, lower=box - wide, upper=box + wide),
        )
        for n, box in enumerate(given)
    ]

    def error(motion: Motion) -> float:
        found = np.stack([one.box for _, one in smooth_rows(rows, motion)])
        return float(np.abs(found - truth)[20:, 2].mean())

    # As much noise in the size as two edges that know nothing of each other have.
    assert error(Motion()) < 0.8 * error(Motion(Motion().middle, 2 * Motion().middle))


def test_a_single_box_elsewhere_is_rejected() -> None:
    truth = swaying(60)
    given = truth.copy()
    given[40] = [10, 10, 60, 60]
    assert iou(along(given), truth).min() > 0.9


def test_after_a_cut_the_second_image_is_accepted() -> None:
    boxes = np.concatenate([np.tile([20.0, 20, 120, 120], (20, 1)), np.tile([400.0, 300, 600, 460], (20, 1))])
    found = along(boxes)
    assert iou(found, boxes)[20] < 0.1
    assert iou(found, boxes)[21:].min() > 0.99


def test_gaps_are_bridged_for_half_a_second_and_then_forgotten() -> None:
    truth = np.array([20.0, 100, 120, 220]) + np.arange(60)[:, None] * np.array([3.0, 0, 3, 0])
    track: Track | None = None
    for number in range(20):
        track, _ = step(track, number / RATE, prediction(truth[number]))
    nothing = Prediction("p", size=SIZE, error="damaged")
    for number in range(20, 30):
        track, found = step(track, number / RATE, nothing)
        assert found is nothing
    assert track is not None
    assert iou(track.box, truth[29]) > 0.9
    for number in range(30, 40):
        track, _ = step(track, number / RATE, nothing)
    assert track is None


def test_an_absent_object_moves_nothing() -> None:
    truth = np.tile([100.0, 100, 200, 200], (12, 1))
    track: Track | None = None
    for number in range(10):
        track, _ = step(track, number / RATE, prediction(truth[0], presence=0.9), min_presence=0.5)
    stray = prediction(np.array([110.0, 105, 190, 230]), presence=0.2)
    _, found = step(track, 10 / RATE, stray, min_presence=0.5)
    assert np.allclose(found.box, truth[0], atol=0.1)
    assert found.presence == 0.2
    _, found = step(None, 0.0, stray, min_presence=0.5)
    assert found is stray


@given(CLIPS)
@settings(max_examples=60)
def test_whatever_comes_a_row_comes_out_with_a_box_in_the_image(
    clip: list[tuple[float, Floats | None, float]],
) -> None:
    rows = [
        (Frame(n, time, None), Prediction("p", error="x") if box is None else prediction(box, presence=there))
        for n, (time, box, there) in enumerate(clip)
    ]
    found = list(smooth_rows(rows, min_presence=0.5))
    assert [frame.number for frame, _ in found] == list(range(len(clip)))
    for (_, before), (_, after) in zip(rows, found, strict=True):
        assert after.error == before.error
        assert np.isnan(after.box).all() == bool(before.error)
        if not before.error:
            x1, y1, x2, y2 = after.box
            assert 0 <= x1 < x2 <= SIZE[0]
            assert 0 <= y1 < y2 <= SIZE[1]
            # The margins hold what they held, and the box.
            assert (after.lower <= np.minimum(before.lower, after.box)).all()
            assert (after.upper >= np.maximum(before.upper, after.box)).all()


@given(BOXES, BOXES, st.floats(0.001, 2), st.floats(0.1, 50), st.floats(0.1, 50))
def test_the_covariance_stays_one_and_a_box_shrinks_it(
    first: Floats, second: Floats, time: float, one: float, other: float
) -> None:
    track = predict_track(start_track(0.0, first, np.full(4, one)), time, Motion())
    after = update_track(track, second, np.full(4, other))
    for known in (track, after):
        assert np.allclose(known.covariance, known.covariance.transpose(0, 2, 1))
        assert (np.linalg.eigvalsh(known.covariance) > 0).all()
    if not after.doubted:
        edges = np.diagonal(after.covariance, axis1=1, axis2=2)[:, :2]
        assert (edges <= other**2 * (1 + 1e-9)).all()


@given(BOXES, BOXES, st.floats(0.01, 0.2), st.floats(0.1, 8))
def test_another_unit_of_length_changes_nothing(
    first: Floats, second: Floats, time: float, factor: float
) -> None:
    def box(unit: float) -> Floats:
        track = predict_track(start_track(0.0, first * unit, np.full(4, 2 * unit)), time, Motion())
        return update_track(track, second * unit, np.full(4, 3 * unit)).box / unit

    whole = np.maximum(1.0, 1 / factor)  # a box is never taken for smaller than a pixel
    assert np.allclose(box(whole * factor), box(whole), atol=1e-6)


@given(BOXES, st.floats(0.01, 0.2), st.floats(0.01, 0.2))
def test_two_steps_in_time_are_one(box: Floats, first: float, second: float) -> None:
    track = start_track(0.0, box, np.full(4, 2.0))
    whole = predict_track(track, first + second, Motion())
    parts = predict_track(predict_track(track, first, Motion()), first + second, Motion())
    assert np.allclose(whole.mean, parts.mean)
    assert np.allclose(whole.covariance, parts.covariance)


def test_measurement_noise_comes_from_margins_then_std_then_size() -> None:
    box = np.array([100.0, 100, 300, 200])
    both = Prediction("p", box, SIZE, lower=box - 10, upper=box + 10, std=np.full(4, 99.0))
    # Four independent normal edges lie within 10 at once with probability 0.9.
    draws = np.random.default_rng(0).normal(0, measurement_std(both), (40_000, 4))
    assert (np.abs(draws) < 10).all(axis=1).mean() == pytest.approx(0.9, abs=0.01)
    first = np.array([10.0, 10, 0, 0])
    outer = Prediction("p", box, SIZE, lower=box - first, upper=box + first[::-1])
    draws = np.random.default_rng(0).normal(0, measurement_std(outer, outer=True), (40_000, 4))
    assert (draws < 10).all(axis=1).mean() == pytest.approx(0.9, abs=0.01)
    assert measurement_std(Prediction("p", box, SIZE, std=np.array([1.0, 2, 3, 4]))).tolist() == [1, 2, 3, 4]
    assert measurement_std(Prediction("p", box, SIZE)).tolist() == [4, 2, 4, 2]
    # A margin that the image's border cuts is as wide as its other end.
    cut = Prediction(
        "p", np.array([0.0, 100, 300, 200]), SIZE, lower=np.array([0.0, 90, 290, 190]), upper=box + 10
    )
    assert measurement_std(cut)[0] > measurement_std(cut)[1]
    assert (measurement_std(Prediction("p", box, SIZE, lower=box, upper=box)) > 0).all()
