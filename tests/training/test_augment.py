import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from solobox.training.augment import (
    GREY,
    Crop,
    augment,
    color_jitter,
    crop_resize,
    full_crop,
    image_rng,
    random_crop,
)

coordinates = st.floats(-500, 500)


@st.composite
def crops(draw: st.DrawFn) -> Crop:
    x, y = draw(st.integers(-100, 100)), draw(st.integers(-100, 100))
    return Crop(x, y, x + draw(st.integers(1, 300)), y + draw(st.integers(1, 300)), draw(st.booleans()))


@st.composite
def boxes_in_images(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    width, height = draw(st.integers(16, 400)), draw(st.integers(16, 400))
    xs = sorted((draw(st.floats(0, width)), draw(st.floats(0, width))))
    ys = sorted((draw(st.floats(0, height)), draw(st.floats(0, height))))
    assume(xs[1] - xs[0] > 1)
    assume(ys[1] - ys[0] > 1)
    return np.array([xs[0], ys[0], xs[1], ys[1]]), width, height


@given(crops(), st.tuples(*[coordinates] * 4))
def test_to_a_crop_and_back(crop: Crop, corners: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = corners
    box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    np.testing.assert_allclose(crop.from_crop(crop.to_crop(box)), box, atol=1e-9)


@given(crops(), st.tuples(*[coordinates] * 4))
def test_a_box_stays_a_box_in_a_crop(crop: Crop, corners: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = corners
    box = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    inside = crop.to_crop(box)
    assert inside[0] <= inside[2]
    assert inside[1] <= inside[3]


@given(boxes_in_images(), st.integers(0, 2**32))
def test_a_random_crop_shows_nearly_all_of_the_box(case: tuple[np.ndarray, int, int], seed: int) -> None:
    box, width, height = case
    crop = random_crop(np.random.default_rng(seed), box, width, height)
    assert crop.x2 - crop.x1 >= 7
    assert crop.y2 - crop.y1 >= 7
    # 5% of the box may be cut off, and the crop lies on full_crop pixels; one that is a little larger than the
    # image may also begin where the box has already begun
    slack = 0.051 * np.array([box[2] - box[0], box[3] - box[1]] * 2) + 1
    slack += 0.06 * np.array([width, height, width, height])
    shown = np.array([crop.x1, crop.y1, crop.x2, crop.y2])
    assert (shown[:2] <= box[:2] + slack[:2]).all()
    assert (shown[2:] >= box[2:] - slack[2:]).all()


def test_pixels_and_box_move_together() -> None:
    """A white rectangle on black: where the pixels say it is must be where the box says it is."""
    pixels = np.zeros((180, 240, 3), np.uint8)
    box = np.array([60, 50, 150, 120])
    pixels[50:120, 60:150] = 255
    rng = np.random.default_rng(3)
    for _ in range(50):
        crop = random_crop(rng, box, 240, 180)
        side = 200
        shown = crop_resize(pixels, crop, side)[0] > 200
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        expected = np.clip(crop.to_crop(box), 0, 1) * side
        assert np.abs(seen - expected).max() <= 2.5, crop


def test_outside_of_the_image_is_grey() -> None:
    pixels = np.full((10, 10, 3), 255, np.uint8)
    shown = crop_resize(pixels, Crop(-10, 0, 10, 10), 20)
    assert (shown[:, :, :9] == GREY).all()
    assert (shown[:, :, 11:] == 255).all()
    for start in (30, -30):
        assert (crop_resize(pixels, Crop(start, start, start + 10, start + 10), 8) == GREY).all()


@pytest.mark.parametrize("size", [(300, 200), (60, 50)])
def test_the_full_crop_is_resized_as_in_prediction(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR))
    ours = crop_resize(pixels, full_crop(*size), 64).transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - pillow).max() <= 1


def test_the_image_is_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    before = pixels.copy()
    pixels.flags.writeable = False
    crop_resize(pixels, full_crop(40, 30), 16)
    color_jitter(np.random.default_rng(1), pixels.transpose(2, 0, 1))
    assert (pixels == before).all()


def test_color_jitter_keeps_the_order_of_light_and_dark() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :], 3, axis=0)
    for seed in range(20):
        changed = color_jitter(np.random.default_rng(seed), ramp).astype(int)
        assert (np.diff(changed, axis=2) >= 0).all()


def test_crops_of_an_image_are_a_function_of_seed_epoch_and_name() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    box = np.array([0.2, 0.3, 0.6, 0.7])

    def crops_of(*key: object) -> list[bytes]:
        made = augment(pixels, box, 3, 32, image_rng(*key))  # type: ignore[arg-type]
        return [crop.tobytes() for crop in made.pixels] + [made.boxes.tobytes()]

    first = crops_of(1, 0, "a.jpg")
    assert first == crops_of(1, 0, "a.jpg")
    for other in (crops_of(2, 0, "a.jpg"), crops_of(1, 1, "a.jpg"), crops_of(1, 0, "b.jpg")):
        assert other[0] == first[0]  # the full image
        assert set(other[1:]).isdisjoint(first[1:])


def test_the_first_crop_is_the_full_image_unless_it_is_random_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    box = np.array([0.2, 0.3, 0.6, 0.7])
    full = augment(pixels, box, 2, 32, image_rng(0, 0, "a"))
    assert (full.pixels[0] == pixels.transpose(2, 0, 1)).all()
    np.testing.assert_allclose(full.boxes[0], box)
    cropped = augment(pixels, box, 1, 32, image_rng(0, 0, "a"), first_full=False)
    assert not np.array_equal(cropped.pixels[0], full.pixels[0])


def test_an_image_without_the_object_is_cropped_like_the_others() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8)
    made = augment(pixels, np.full(4, np.nan), 5, 24, image_rng(0, 0, "a"))
    assert np.isnan(made.boxes).all()
    assert len({crop.tobytes() for crop in made.pixels}) == 5
