import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.images.reading import DecodedImage
from solobox.model.native_size import LONGEST, native_size, resize_native

sides = st.integers(1, 30_000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (640, 480)),
        ((LONGEST, LONGEST), (LONGEST, LONGEST)),
        ((2666, 1333), (1333, 666)),
        ((1000, 4000), (333, 1333)),
        ((10, 16), (32, 51)),
        ((1, 5000), (32, 1333)),
    ],
)
def test_examples(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert native_size(*size, 32) == expected
    assert native_size(size[1], size[0], 32) == (expected[1], expected[0])


@given(sides, sides, st.sampled_from([8, 32, 64]))
def test_it_stays_within_its_limits_and_undistorted_where_that_is_possible(
    w: int, h: int, min_side: int
) -> None:
    width, height = native_size(w, h, min_side)
    assert min_side <= min(width, height) <= max(width, height) <= LONGEST
    if max(w, h) * min_side <= LONGEST * min(w, h):  # narrower ones cannot keep to both limits
        # one factor for both sides, each rounded to whole pixels
        assert abs(height * w - width * h) <= 0.5 * (w + h) + 1e-6 * w * h
    if max(w, h) <= LONGEST and min(w, h) >= min_side:
        assert (width, height) == (w, h)


def test_pixels_are_left_alone_or_resized_by_the_full_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    assert resize_native(DecodedImage(pixels, (60, 40)), 32) is pixels
    # decoded at about half of its size, as JPEGs may be: the full size is what counts
    shown = resize_native(DecodedImage(np.full((1001, 1334, 3), 9, np.uint8), (2667, 2001)), 32)
    assert shown.shape == (1000, 1333, 3)
    assert (shown == 9).all()
