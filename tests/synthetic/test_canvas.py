import math

import numpy as np
import pytest

from solobox.synthetic.canvas import (
    INK,
    WHITE,
    Brush,
    Canvas,
    bend,
    dark,
    ellipse,
    hsv,
    light,
    mix,
    rounded,
    smooth,
    tube,
)


def blank(channels: int = 4, width: int = 60, height: int = 40) -> Canvas:
    return Canvas(np.zeros((channels, height, width), dtype=np.float32))


def rectangle(
    x1: float, y1: float, x2: float, y2: float
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


@pytest.mark.parametrize(
    ("x1", "y1", "x2", "y2"), [(10, 8, 30, 20), (10.5, 8.25, 30.25, 20.75), (-9, -9, 80, 50)]
)
def test_coverage_is_the_area(x1: float, y1: float, x2: float, y2: float) -> None:
    canvas = blank()
    canvas.fill(rectangle(x1, y1, x2, y2), WHITE)
    inside = (min(x2, 60) - max(x1, 0)) * (min(y2, 40) - max(y1, 0))
    # the rasteriser takes the line itself in as well: up to a quarter of a pixel all round
    assert canvas.planes[3].sum() == pytest.approx(inside, rel=0.06)
    assert canvas.planes[3].max() == pytest.approx(1)
    solid = np.argwhere(canvas.planes[3] > 0.5)
    assert solid[0].tolist() == [max(round(y1), 0), max(round(x1), 0)]


def test_nothing_is_painted_outside() -> None:
    canvas = blank()
    assert canvas.fill(rectangle(70, 5, 90, 9), WHITE) is None
    assert canvas.fill(rectangle(5, -9, 9, -1), WHITE) is None
    assert not canvas.planes.any()


def test_paint_over_paint_and_opacity() -> None:
    canvas = blank(3)
    canvas.fill(rectangle(-9, -9, 99, 99), (100, 100, 100), lit=0, round_=0)
    canvas.fill(rectangle(-9, -9, 99, 99), (200, 0, 100), lit=0, round_=0, opacity=0.5)
    np.testing.assert_allclose(canvas.planes[:, 20, 30], [150, 50, 100], rtol=1e-4)


def test_a_clipped_shape_stays_inside_the_other() -> None:
    canvas = blank()
    base = canvas.fill(ellipse(30, 20, 15, 10), WHITE)
    before = canvas.planes[3].copy()
    canvas.fill(rectangle(25, 0, 35, 40), INK, clip=base)
    assert not canvas.planes[3][before == 0].any()
    assert np.abs(canvas.planes[3] - before).max() <= 0.26  # soft rims add up a little
    assert canvas.planes[0, 20, 30] < 60
    assert canvas.fill(rectangle(0, 0, 5, 5), INK, clip=base) is None


def test_light_comes_from_where_it_should() -> None:
    canvas = Canvas(np.zeros((3, 40, 60), dtype=np.float32), light=(-1.0, 0.0))
    canvas.fill(ellipse(30, 20, 20, 15), (120, 120, 120))
    assert canvas.planes[0, 20, 15] > canvas.planes[0, 20, 45] + 20


def test_a_brush_turns_mirrors_and_scales() -> None:
    def middle(**options: float | bool) -> tuple[float, float]:
        canvas = blank(4, 80, 80)
        Brush(canvas, 40, 40, 20, **options).fill(ellipse(1, 0, 0.3, 0.3), WHITE)  # type: ignore[arg-type]
        y, x = np.nonzero(canvas.planes[3] > 0.5)
        return x.mean() + 0.5, y.mean() + 0.5

    assert middle() == pytest.approx((60, 40), abs=0.3)
    assert middle(mirror=True) == pytest.approx((20, 40), abs=0.3)
    assert middle(turn=math.pi / 2) == pytest.approx((40, 60), abs=0.3)  # clockwise
    assert middle(stretch=4.0) == pytest.approx((50, 40), abs=0.3)


def test_a_shadow_darkens_and_is_soft() -> None:
    canvas = Canvas(np.full((3, 40, 60), 200, dtype=np.float32))
    canvas.shadow(30, 20, 10, 5, 0.5)
    assert canvas.planes[0, 20, 30] == pytest.approx(100, abs=5)
    assert 110 < canvas.planes[0, 20, 38] < 195
    assert canvas.planes[0, 0, 0] == 200
    canvas.shadow(-300, 20, 10, 5, 0.5)


def test_outlines() -> None:
    assert np.hypot(*(ellipse(3, 4, 2, 2) - (3, 4)).T) == pytest.approx(2)
    box = rounded(1, 2, 4, 6, 0.5)
    np.testing.assert_allclose([box.min(axis=0), box.max(axis=0)], [[-1, -1], [3, 5]])
    tapered = rounded(0, 0, 4, 6, 0.5, taper=0.5)
    assert np.ptp(tapered[tapered[:, 1] < -2][:, 0]) > np.ptp(tapered[tapered[:, 1] > 2][:, 0]) + 1
    corners = [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
    np.testing.assert_allclose(smooth(corners, 5)[::5], corners)
    path = bend((0, 0), (1, 0), (2, 0))
    np.testing.assert_allclose(path[[0, -1]], [[0, 0], [2, 0]])
    stroke = tube(path, 0.5)
    np.testing.assert_allclose([stroke.min(axis=0), stroke.max(axis=0)], [[0, -0.25], [2, 0.25]])


def test_colours() -> None:
    assert hsv(0, 1, 1) == (255, 0, 0)
    assert hsv(1 + 1 / 3, 1, 0.5) == pytest.approx((0, 127.5, 0))
    assert mix((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)
    assert sum(dark((100, 100, 100))) < 300 < sum(light((100, 100, 100)))
