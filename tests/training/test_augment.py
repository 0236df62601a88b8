import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from solobox.training.augment import GREY, Window, cut, random_window, recolour, whole

coordinates = st.floats(-500, 500)


@st.composite
def crops(draw: st.DrawFn) -> Window:
    x, y = draw(st.integers(-100, 100)), draw(st.integers(-100, 100))
    return Window(x, y, x + draw(st.integers(1, 300)), y + draw(st.integers(1, 300)), draw(st.booleans()))


@st.composite
def placed(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    width, height = draw(st.integers(16, 400)), draw(st.integers(16, 400))
    xs = sorted((draw(st.floats(0, width)), draw(st.floats(0, width))))
    ys = sorted((draw(st.floats(0, height)), draw(st.floats(0, height))))
    assume(xs[1] - xs[0] > 1)
    assume(ys[1] - ys[0] > 1)
    return np.array([xs[0], ys[0], xs[1], ys[1]]), width, height


@given(crops(), st.tuples(*[coordinates] * 4))
def test_into_a_window_and_back(window: Window, corners: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = corners
    box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    np.testing.assert_allclose(window.from_window(window.to_window(box)), box, atol=1e-9)


@given(crops(), st.tuples(*[coordinates] * 4))
def test_a_box_stays_a_box_in_a_window(window: Window, corners: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = corners
    box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    inside = window.to_window(box)
    assert inside[0] <= inside[2]
    assert inside[1] <= inside[3]


@given(placed(), st.integers(0, 2**32))
def test_a_random_window_shows_nearly_all_of_the_box(case: tuple[np.ndarray, int, int], seed: int) -> None:
    box, width, height = case
    window = random_window(np.random.default_rng(seed), box, width, height)
    assert window.x2 - window.x1 >= 7
    assert window.y2 - window.y1 >= 7
    # 5% of the box may be cut off, and the window lies on whole pixels; one that is a little larger than the
    # image may also begin where the box has already begun
    slack = 0.051 * np.array([box[2] - box[0], box[3] - box[1]] * 2) + 1
    slack += 0.06 * np.array([width, height, width, height])
    shown = np.array([window.x1, window.y1, window.x2, window.y2])
    assert (shown[:2] <= box[:2] + slack[:2]).all()
    assert (shown[2:] >= box[2:] - slack[2:]).all()


def test_pixels_and_box_move_together() -> None:
    """A white rectangle on black: where the pixels say it is must be where the box says it is."""
    pixels = np.zeros((180, 240, 3), np.uint8)
    box = np.array([60, 50, 150, 120])
    pixels[50:120, 60:150] = 255
    rng = np.random.default_rng(3)
    for _ in range(50):
        window = random_window(rng, box, 240, 180)
        side = 200
        shown = cut(pixels, window, side)[0] > 200
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        wanted = np.clip(window.to_window(box), 0, 1) * side
        assert np.abs(seen - wanted).max() <= 2.5, window


def test_outside_of_the_image_is_grey() -> None:
    pixels = np.full((10, 10, 3), 255, np.uint8)
    shown = cut(pixels, Window(-10, 0, 10, 10), 20)
    assert (shown[:, :, :9] == GREY).all()
    assert (shown[:, :, 11:] == 255).all()
    for start in (30, -30):
        assert (cut(pixels, Window(start, start, start + 10, start + 10), 8) == GREY).all()


@pytest.mark.parametrize("size", [(300, 200), (60, 50)])
def test_the_whole_window_is_what_prediction_sees(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR))
    ours = cut(pixels, whole(*size), 64).transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - pillow).max() <= 1


def test_the_image_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    before = pixels.copy()
    pixels.flags.writeable = False
    cut(pixels, whole(40, 30), 16)
    recolour(np.random.default_rng(1), pixels.transpose(2, 0, 1))
    assert (pixels == before).all()


def test_recolour_keeps_the_order_of_light_and_dark() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :], 3, axis=0)
    for seed in range(20):
        changed = recolour(np.random.default_rng(seed), ramp).astype(int)
        assert (np.diff(changed, axis=2) >= 0).all()
