from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solobox.boxes import Convention, Floats, area, clip, convert, flip, iou, is_valid, scale

# Images are at most some 100,000 pixels wide; boxes may lie a little, or far, outside them.
COORDINATE = st.floats(-1e5, 1e5, allow_nan=False)
SIDE = st.floats(1e-2, 1e5)
SIZE = st.integers(1, 100_000)
CONVENTIONS: list[Convention] = ["xyxy", "xywh", "cxcywh"]


@pytest.fixture(scope="module")
def torchvision_iou() -> Callable[[Floats, Floats], Floats]:
    """The oracle: IoU of each box of one table, shape (N, 4), with each of another, shape (M, 4): (N, M)."""
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")

    def pairwise(a: Floats, b: Floats) -> Floats:
        result: Floats = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        return result

    return pairwise


@st.composite
def boxes(draw: st.DrawFn, count: int | None = None) -> Floats:
    """Boxes of positive width and height, shape (N, 4)."""
    rows = draw(st.integers(0, 6)) if count is None else count
    corners = [(draw(COORDINATE), draw(COORDINATE), draw(SIDE), draw(SIDE)) for _ in range(rows)]
    return np.array([(x, y, x + w, y + h) for x, y, w, h in corners]).reshape(-1, 4)


@settings(deadline=None)
@given(boxes(), st.sampled_from(CONVENTIONS), st.sampled_from(CONVENTIONS))
def test_conversions_come_back(xyxy: Floats, source: Convention, target: Convention) -> None:
    there = convert(convert(xyxy, "xyxy", source), source, target)
    np.testing.assert_allclose(convert(there, target, "xyxy"), xyxy, atol=1e-9)
    assert there.shape == xyxy.shape
    assert there.dtype == np.float64


def test_conversions_by_hand() -> None:
    same: dict[Convention, list[int]] = {"xyxy": [2, 3, 8, 7], "xywh": [2, 3, 6, 4], "cxcywh": [5, 5, 6, 4]}
    for source, values in same.items():
        for target, expected in same.items():
            np.testing.assert_array_equal(convert(values, source, target), expected)


def test_unknown_conventions_and_shapes_are_refused() -> None:
    for source, target in (("yxyx", "xyxy"), ("xyxy", "yxyx")):
        with pytest.raises(ValueError, match="yxyx"):
            convert([0, 0, 1, 1], source, target)  # type: ignore[arg-type]
    for wrong in ([1, 2, 3], 5, np.zeros((4, 3))):
        with pytest.raises(ValueError, match="shape"):
            area(wrong)


@settings(deadline=None)
@given(boxes(count=3), boxes(count=3))
def test_iou_is_symmetric_and_a_share(a: Floats, b: Floats) -> None:
    value = iou(a, b)
    np.testing.assert_array_equal(value, iou(b, a))
    assert ((value >= 0) & (value <= 1)).all()


@settings(deadline=None)
@given(boxes())
def test_iou_with_itself_is_one(a: Floats) -> None:
    np.testing.assert_allclose(iou(a, a), 1.0, rtol=1e-12)


@settings(deadline=None)
@given(boxes(), st.floats(0.01, 1))
def test_iou_with_a_part_is_the_share_of_its_area(whole: Floats, share: float) -> None:
    part = whole.copy()
    part[:, 2] = part[:, 0] + (part[:, 2] - part[:, 0]) * share
    np.testing.assert_allclose(iou(whole, part), area(part) / area(whole), rtol=1e-9)


@settings(deadline=None)
@given(boxes(count=4), boxes(count=5))
def test_iou_agrees_with_torchvision(
    torchvision_iou: Callable[[Floats, Floats], Floats], a: Floats, b: Floats
) -> None:
    oracle = torchvision_iou(a, b)
    np.testing.assert_allclose(iou(a[:, None], b[None]), oracle, rtol=1e-9, atol=1e-12)


def test_iou_by_hand() -> None:
    assert iou([0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 / 7)
    assert iou([0, 0, 1, 1], [1, 0, 2, 1]) == 0  # they touch
    assert iou([1, 1, 1, 1], [1, 1, 1, 1]) == 0  # no area at all
    assert np.isnan(iou([np.nan, 0, 1, 1], [0, 0, 1, 1]))


@settings(deadline=None)
@given(boxes(), st.floats(0, 1e5))
def test_flip_is_its_own_inverse(a: Floats, width: float) -> None:
    np.testing.assert_allclose(flip(flip(a, width), width), a, atol=1e-9)
    np.testing.assert_allclose(area(flip(a, width)), area(a), rtol=1e-6, atol=1e-9)
    assert is_valid(flip(a, width)).all()


@settings(deadline=None)
@given(boxes(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_scale_and_its_inverse(a: Floats, x: float, y: float) -> None:
    np.testing.assert_allclose(scale(scale(a, x, y), 1 / x, 1 / y), a, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(area(scale(a, x, y)), area(a) * x * y, rtol=1e-4)


@settings(deadline=None)
@given(boxes(count=2), boxes(count=2), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2), SIZE)
def test_iou_does_not_change_with_scale_or_flip(a: Floats, b: Floats, x: float, y: float, width: int) -> None:
    np.testing.assert_allclose(iou(scale(a, x, y), scale(b, x, y)), iou(a, b), atol=1e-6)
    np.testing.assert_allclose(iou(flip(a, width), flip(b, width)), iou(a, b), atol=1e-6)


@settings(deadline=None)
@given(boxes(), SIZE, SIZE)
def test_clip_is_idempotent_and_inside(a: Floats, width: int, height: int) -> None:
    once = clip(a, width, height)
    np.testing.assert_array_equal(clip(once, width, height), once)
    assert ((once >= 0) & (once <= [width, height, width, height])).all()
    assert (area(once) <= area(a) * (1 + 1e-12)).all()


@settings(deadline=None)
@given(boxes(), SIZE, SIZE)
def test_clip_is_the_overlap_with_the_image(a: Floats, width: int, height: int) -> None:
    image = np.array([0, 0, width, height], dtype=np.float64)
    shared = iou(a, image)
    overlap = shared * (area(a) + area(image)) / (1 + shared)
    np.testing.assert_allclose(area(clip(a, width, height)), overlap, rtol=1e-6, atol=1e-6)


def test_leading_axes_broadcast() -> None:
    many = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    assert iou(many, many[:, :1]).shape == (2, 3)
    np.testing.assert_array_equal(clip(many, [[10], [20]], 15)[1, :, 2], [14, 18, 20])
    np.testing.assert_array_equal(flip(many, [[10], [20]])[0, 0], [8, 1, 10, 3])
    assert area(np.zeros((0, 4))).shape == (0,)


def test_what_is_valid() -> None:
    unit, nan, inf = [0.0, 0.0, 1.0, 1.0], float("nan"), float("inf")
    flat, empty, swapped = [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]
    table = [unit, flat, empty, swapped, [0.0, 0.0, nan, 1.0], [0.0, 0.0, inf, 1.0]]
    np.testing.assert_array_equal(is_valid(table), [True, False, False, False, False, False])
    assert area([3, 3, 1, 9]) == 0
