from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from solobox.boxes import iou, is_valid
from solobox.synthetic import LABELS, draw
from solobox.synthetic.scene import Composition, box_of

SIZE = (160, 120)
SEEDS = range(60)


@cache
def composition(seed: int) -> Composition:
    return Composition(seed, SIZE)


def whole_frame(seed: int) -> NDArray[np.float64]:
    """The thing's alpha in the whole frame, put there pixel by pixel."""
    scene, (width, height) = composition(seed).sprite, SIZE
    frame = np.zeros((height, width))
    for row, line in enumerate(scene.planes[3]):
        for column, alpha in enumerate(line):
            x, y = scene.x + column, scene.y + row
            if 0 <= x < width and 0 <= y < height:
                frame[y, x] = alpha
    return frame


def changed(seed: int) -> NDArray[np.bool_]:
    """Which pixels of the finished image the thing itself changes (its shadow is there either way)."""
    scene = composition(seed)
    there, gone = scene.paint(body=True, shadow=True), scene.paint(body=False, shadow=True)
    return np.asarray((there != gone).any(axis=2))


def test_a_scene_is_a_function_of_its_arguments() -> None:
    first = draw(7, SIZE)
    draw(8, (64, 200))
    again = draw(7, SIZE)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.box is not None
    np.testing.assert_array_equal(first.box, again.box)
    assert first.label == again.label
    assert not np.array_equal(first.pixels, draw(8, SIZE).pixels)


def test_what_a_scene_holds() -> None:
    scene = draw(1 << 61, (90, 130))
    assert scene.pixels.shape == (130, 90, 3)
    assert scene.pixels.dtype == np.uint8
    assert scene.pixels.flags.c_contiguous
    assert scene.box is not None
    assert scene.box.dtype == np.float64
    assert scene.box.shape == (4,)
    assert scene.label in LABELS


@pytest.mark.parametrize("size", [(16, 16), (400, 40), (31, 333), (700, 660)])
def test_any_size(size: tuple[int, int]) -> None:
    for seed in range(4):
        scene = draw(seed, size)
        assert scene.pixels.shape == (size[1], size[0], 3)
        assert scene.box is not None
        assert is_valid(scene.box).all()
        assert (scene.box[2:] <= size).all()
        assert (scene.box >= 0).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        draw(-1)
    with pytest.raises(ValueError, match="16 pixels"):
        draw(0, (15, 100))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_box_goes_round_the_thing(seed: int) -> None:
    rows, columns = np.nonzero(whole_frame(seed) > 0.5)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(composition(seed).box, expected)
    np.testing.assert_array_equal(box_of(composition(seed).sprite, SIZE), expected)
    scene = draw(seed, SIZE)
    assert scene.box is not None
    np.testing.assert_array_equal(scene.box, expected)


def test_the_box_is_where_the_finished_image_changes() -> None:
    """Outside the box nothing changes but a soft rim; at each of its edges something does, unless it is hidden."""
    seen = 0
    for seed in SEEDS:
        difference = changed(seed)
        x1, y1, x2, y2 = composition(seed).box.astype(int)
        edges = [(y1, x1, y1 + 1, x2), (y2 - 1, x1, y2, x2), (y1, x1, y2, x1 + 1), (y1, x2 - 1, y2, x2)]
        seen += sum(bool(difference[top:bottom, left:right].any()) for top, left, bottom, right in edges)
        difference[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
        assert not difference.any()
    assert seen >= 0.95 * 4 * len(SEEDS)


def test_enough_of_the_thing_is_seen() -> None:
    cut = hidden = 0
    for seed in SEEDS:
        frame, alpha = whole_frame(seed), composition(seed).sprite.planes[3]
        assert frame.sum() >= 0.6 * alpha.sum()
        cut += int(frame.sum() < 0.99 * alpha.sum())
        solid = frame > 0.95
        unseen = (solid & ~changed(seed)).sum() / solid.sum()
        assert unseen <= 0.35  # 30% is hidden at most, and a few pixels are the background's colour by chance
        hidden += int(unseen > 0.05)
    assert 0.05 <= cut / len(SEEDS) <= 0.35
    assert 0.05 <= hidden / len(SEEDS) <= 0.35


def test_an_empty_scene_is_the_same_without_the_thing() -> None:
    for seed in (3, 4, 5):
        empty = draw(seed, SIZE, empty=True)
        assert empty.box is None
        assert empty.label == ""
        np.testing.assert_array_equal(empty.pixels, composition(seed).paint(body=False, shadow=False))
        same = (empty.pixels == draw(seed, SIZE).pixels).all(axis=2)
        assert 0.2 < same.mean() < 1


def test_scenes_vary_and_lazy_guesses_fail() -> None:
    synthetic = [composition(seed) for seed in range(150)]
    boxes = np.array([scene.box for scene in synthetic])
    assert {scene.sprite.label for scene in synthetic} == set(LABELS)
    longest = ((boxes[:, 2:] - boxes[:, :2]) / min(SIZE)).max(axis=1)
    assert longest.min() < 0.25
    assert longest.max() > 0.75
    assert iou(boxes, boxes.mean(axis=0)).mean() < 0.4
    guesses = []
    for seed in SEEDS:  # the box of all that stands out from the image's middle colour
        pixels = draw(seed, SIZE).pixels.astype(float)
        apart = np.abs(pixels - np.median(pixels, axis=(0, 1))).sum(axis=2)
        rows, columns = np.nonzero(apart >= np.quantile(apart, 0.9))
        lower, upper = np.quantile(columns, [0.05, 0.95]), np.quantile(rows, [0.05, 0.95])
        guesses.append([lower[0], upper[0], lower[1], upper[1]])
    assert iou(boxes[: len(guesses)], guesses).mean() < 0.4


def test_objects_have_the_size_that_is_asked_for() -> None:
    sizes = []
    for seed in range(12):
        scene = draw(seed, (640, 360), object_share=(0.03, 0.08))
        assert scene.box is not None
        assert bool(is_valid(scene.box).all())
        sizes.append(float((scene.box[2:] - scene.box[:2]).max()) / 360)
    assert 0.015 < min(sizes) < max(sizes) < 0.16
    for share in ((0.01, 0.1), (0.2, 0.1), (0.5, 1.1)):
        with pytest.raises(ValueError, match="8 pixels"):
            draw(0, (640, 360), object_share=share)
