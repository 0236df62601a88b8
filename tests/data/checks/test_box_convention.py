import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Convention, Floats, convert, scale
from solobox.data.checks.box_convention import detect_convention, fits, fraction_rows, tolerance
from solobox.data.formats.records import Layout
from solobox.data.layouts import WHOLE, layout_name, to_pixels


def objects(
    n: int, seed: int = 0, least: float = 0.2, most: float = 0.6, middle: float = 1.0
) -> tuple[Floats, Floats]:
    """Corners in pixels of objects anywhere in images of several sizes; `middle` < 1 keeps them near it."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(100, 1000, (n, 2)).astype(np.float64)
    side = rng.uniform(least, most, (n, 2))
    start = (1 - side) * (0.5 + middle * (rng.uniform(0, 1, (n, 2)) - 0.5))
    return np.concatenate([start * sizes, (start + side) * sizes], axis=1), sizes


@pytest.mark.parametrize("order", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("unit", ["pixels", "fractions"])
@pytest.mark.parametrize("n", [20, 300])
def test_each_convention_is_detected_and_converted(order: Convention, unit: str, n: int) -> None:
    corners, sizes = objects(n)
    numbers = convert(corners, "xyxy", order)
    if unit == "fractions":
        numbers = scale(numbers, 1 / sizes[:, 0], 1 / sizes[:, 1])
    found = detect_convention(numbers, sizes)
    assert (found.layout.unit, found.layout.order, found.sure) == (unit, order, True)
    assert np.allclose(to_pixels(found.layout, numbers, sizes), corners)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slips", [0, 1, 2, 29])
def test_slips_do_not_turn_corners_into_sizes(seed: int, slips: int) -> None:
    corners, sizes = objects(300, seed)
    corners[:slips] = corners[:slips][:, [2, 1, 0, 3]]
    found = detect_convention(corners, sizes)
    assert (found.layout.unit, found.layout.order, found.alternative) == ("pixels", "xyxy", None)
    assert found.corners_proven


@pytest.mark.parametrize("seed", range(5))
def test_small_objects_in_the_middle_are_corners_when_they_are_in_order(seed: int) -> None:
    corners, sizes = objects(100, seed, 0.05, 0.2, middle=0.2)
    found = detect_convention(corners, sizes)
    assert (found.layout.order, found.alternative) == ("xyxy", None)


def test_sizes_of_small_objects_are_seen_but_not_converted_on_a_guess() -> None:
    corners, sizes = objects(100, 1, 0.05, 0.15, middle=0.5)
    for order in ("xywh", "cxcywh"):
        found = detect_convention(convert(corners, "xyxy", order), sizes)
        assert found.layout.order != "xyxy"
        assert found.layout.order == order or not found.sure


@pytest.mark.parametrize("order", ["xywh", "cxcywh"])
def test_large_objects_with_sizes_are_doubted(order: Convention) -> None:
    corners, sizes = objects(100, 2, 0.7, 0.8)
    numbers = convert(corners, "xyxy", order)
    alternative = detect_convention(numbers, sizes).alternative
    assert alternative is not None
    assert alternative.order == order
    in_fractions = detect_convention(scale(numbers, 1 / sizes[:, 0], 1 / sizes[:, 1]), sizes)
    assert in_fractions.alternative is not None
    assert (in_fractions.layout.unit, in_fractions.alternative.order, in_fractions.sure) == (
        "fractions",
        order,
        False,
    )


def test_some_pixels_do_not_hide_that_a_file_holds_fractions() -> None:
    corners, sizes = objects(40)
    numbers = scale(corners, 1 / sizes[:, 0], 1 / sizes[:, 1])
    numbers[3] = corners[3]
    assert detect_convention(numbers, sizes).layout.unit == "fractions"


def test_nothing_readable_is_nothing_to_check() -> None:
    assert detect_convention(np.full((3, 4), np.nan), np.full((3, 2), 100.0)).layout.order == "xyxy"
    assert detect_convention(np.empty((0, 4)), np.empty((0, 2))).layout.unit == "pixels"


@given(st.integers(1, 60), st.integers(0, 10_000), st.floats(0.01, 0.5), st.floats(0.5, 1))
def test_valid_corners_are_never_taken_for_sizes(n: int, seed: int, least: float, most: float) -> None:
    corners, sizes = objects(n, seed, least, most)
    found = detect_convention(corners, sizes)
    assert (found.layout.unit, found.layout.order) == ("pixels", "xyxy")


LAYOUTS = [
    Layout(order, unit, y_first=y_first)
    for order in ("xyxy", "xywh", "cxcywh")
    for unit in ("pixels", "fractions", "percent", "thousandths")
    for y_first in (False, True)
    if unit == "pixels" or not y_first  # the numbers of other units are alike in both directions
]


@pytest.mark.parametrize(
    "stated", [Layout("xywh"), Layout("cxcywh", "fractions"), Layout("xyxy", first=1)], ids=str
)
@pytest.mark.parametrize("true", LAYOUTS, ids=layout_name)
def test_what_a_file_has_in_place_of_what_its_format_states(stated: Layout, true: Layout) -> None:
    """Found, or at the least not believed: never are the boxes read as stated, without a word."""
    corners, sizes = objects(60, most=0.5)
    sizes *= 3
    corners *= 3
    numbers = from_pixels(true, corners, sizes)
    found = detect_convention(numbers, sizes, stated, order_is_stated=True)
    wrong = ~np.isclose(to_pixels(stated, numbers, sizes), corners, atol=1.5).all(axis=-1)
    if (true.order, true.unit, true.y_first) == (stated.order, stated.unit, stated.y_first):
        assert (found.layout, found.alternative) == (stated, None)
        return
    assert wrong.mean() > 0.5
    if found.layout == stated:
        outside = ~fits(to_pixels(stated, numbers, sizes), sizes, tolerance(sizes))
        assert found.alternative is not None or outside.mean() > 0.05
    elif found.sure:
        assert np.allclose(to_pixels(found.layout, numbers, sizes), corners, atol=1.5)


@given(
    st.integers(1, 60),
    st.integers(0, 10_000),
    st.floats(0.01, 0.5),
    st.floats(0.5, 1),
    st.sampled_from(LAYOUTS),
)
def test_a_layout_that_is_kept_to_is_believed(
    n: int, seed: int, least: float, most: float, true: Layout
) -> None:
    corners, sizes = objects(n, seed, least, most)
    numbers = from_pixels(true, corners, sizes)
    if true.unit == "fractions" or not fraction_rows(numbers).any():
        found = detect_convention(numbers, sizes, true, order_is_stated=True)
        assert found.layout == true


def from_pixels(layout: Layout, corners: Floats, sizes: Floats) -> Floats:
    """The numbers that a file in this layout has."""
    if layout.unit != "pixels":
        whole = WHOLE[layout.unit]
        corners = scale(corners, whole / sizes[:, 0], whole / sizes[:, 1])
    numbers = convert(corners, "xyxy", layout.order)
    return numbers[:, [1, 0, 3, 2]] if layout.y_first else numbers
