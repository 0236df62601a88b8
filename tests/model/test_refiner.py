"""The geometry of the second look, and what a crop shows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from solobox.config.architecture import MAX_DETAIL, Architecture
from solobox.model.refiner import (
    ZOOM,
    crop_squares,
    from_crop,
    reduce_squares,
    regions_around,
    to_crop,
    worthwhile,
)

fractions = st.floats(0, 1, width=32)


@settings(deadline=None, max_examples=50)
@given(st.tuples(fractions, fractions, st.floats(0.01, 1), st.floats(0.01, 1)))
def test_a_box_is_in_the_middle_of_its_crop_and_comes_back(values: tuple[float, ...]) -> None:
    x, y, width, height = values
    box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float64)
    regions = regions_around(box)
    inside = to_crop(box, regions)
    half = np.array([width, height]) / max(width, height) / ZOOM / 2
    np.testing.assert_allclose(inside[0].numpy(), 0.5 + np.concatenate([-half, half]), atol=1e-9)
    np.testing.assert_allclose(regions[0, 2] - regions[0, 0], regions[0, 3] - regions[0, 1], atol=1e-12)
    np.testing.assert_allclose(from_crop(inside, regions).numpy(), box.numpy(), atol=1e-12)


def test_a_crop_of_whole_pixels_is_those_pixels_and_grey_outside() -> None:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 40, 80))).float()
    regions = torch.tensor([[16 / 80, 8 / 40, 32 / 80, 24 / 40], [-16 / 80, 0, 0, 16 / 40]])
    crops = crop_squares(pixels, regions, 16)
    assert torch.equal(crops[0], pixels[0, :, 8:24, 16:32])
    assert bool((crops[1, :, :, :14] == 127).all())


def test_a_crop_that_is_reduced_is_averaged_not_sampled() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 200
    crop = crop_squares(stripes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), 16)
    assert float((crop[..., 1:-1, 1:-1] - 100).abs().max()) <= 1
    assert torch.equal(reduce_squares(stripes, 4), torch.full((1, 3, 16, 16), 100.0))


@pytest.mark.parametrize("detail", range(1, MAX_DETAIL + 1))
def test_an_image_is_reduced_by_averaging(detail: int) -> None:
    pixels = torch.randint(0, 256, (2, 3, 20 * detail, 20 * detail)).float()
    assert torch.equal(reduce_squares(pixels, detail), functional.avg_pool2d(pixels, detail).round())


def test_only_a_crop_that_shows_more_is_worthwhile_or_one_after_doubt() -> None:
    architecture = Architecture(size=320)
    boxes = torch.tensor([[0.4, 0.4, 0.5, 0.5], [0.1, 0.1, 0.9, 0.9]])
    sure, doubtful = torch.full((2, 4), 0.02), torch.tensor([[0.02, 0.02, 0.02, 0.2]]).expand(2, 4)
    assert worthwhile(regions_around(boxes), sure, architecture).tolist() == [True, False]
    assert worthwhile(regions_around(boxes), doubtful, architecture).tolist() == [True, True]
