import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Convention, Floats, convert, scale
from solobox.data.checks.box_convention import detect_convention
from solobox.data.layouts import to_pixels


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


def test_some_pixels_in_a_file_of_fractions_become_nan() -> None:
    corners, sizes = objects(40)
    numbers = scale(corners, 1 / sizes[:, 0], 1 / sizes[:, 1])
    numbers[3] = corners[3]
    found = detect_convention(numbers, sizes)
    assert found.layout.unit == "fractions"
    converted = to_pixels(found.layout, numbers, sizes)
    assert np.isnan(converted[3]).all()
    assert np.allclose(np.delete(converted, 3, axis=0), np.delete(corners, 3, axis=0))


def test_nothing_readable_is_nothing_to_check() -> None:
    assert detect_convention(np.full((3, 4), np.nan), np.full((3, 2), 100.0)).layout.order == "xyxy"
    assert detect_convention(np.empty((0, 4)), np.empty((0, 2))).layout.unit == "pixels"


@given(st.integers(1, 60), st.integers(0, 10_000), st.floats(0.01, 0.5), st.floats(0.5, 1))
def test_valid_corners_are_never_taken_for_sizes(n: int, seed: int, least: float, most: float) -> None:
    corners, sizes = objects(n, seed, least, most)
    found = detect_convention(corners, sizes)
    assert (found.layout.unit, found.layout.order) == ("pixels", "xyxy")
