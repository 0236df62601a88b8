import os
from collections.abc import Iterator
from pathlib import Path

import custom_labelers
import numpy as np
import numpy.typing as npt
import pytest
from drawn import plain_images
from PIL import Image

from solobox.autolabel import Candidate, find_candidates, label
from solobox.autolabel.run import SIDE
from solobox.errors import ConfigError
from solobox.utils.concurrency import processors


def test_every_image_in_order_whatever_the_number_of_threads(tmp_path: Path) -> None:
    images = plain_images(tmp_path, 30)
    images[4].write_bytes(b"nothing")
    alone = list(label(images, custom_labelers.slow_at_first, workers=1))
    assert [result.image for result in alone] == images
    levels = [result.candidates[0].score if result.candidates else None for result in alone]
    assert levels == [None if level == 4 else level for level in range(30)]
    assert "004.png" in alone[4].error

    n_read = 0

    def counted() -> Iterator[Path]:
        nonlocal n_read
        for path in images:
            n_read += 1
            yield path

    together = []
    for result in label(counted(), custom_labelers.slow_at_first, workers=2):
        together.append(result)
        assert n_read <= len(together) + 6  # a few at once, not all
    assert together == alone


def test_no_images_give_no_results() -> None:
    assert list(label([], custom_labelers.whole, workers=2)) == []


def test_a_wrong_setup_ends_the_run(tmp_path: Path) -> None:
    images = plain_images(tmp_path, 3)
    with pytest.raises(ConfigError):
        list(label(images, custom_labelers.misconfigured, workers=1))
    with pytest.raises(ModuleNotFoundError) as caught:
        list(label(images, custom_labelers.needs_a_package, workers=2))
    assert caught.value.name == "no_such_package"


def test_a_failure_of_the_labeler_is_the_error_of_its_image(tmp_path: Path) -> None:
    images = plain_images(tmp_path, 4)
    assert (
        find_candidates(images[3], custom_labelers.by_level).error
        == "the labeler failed: RuntimeError: three is too much"
    )
    assert "instead of a list of Candidate" in find_candidates(images[0], custom_labelers.wrong_type).error


def test_boxes_end_at_the_edges(tmp_path: Path) -> None:
    (candidate,) = find_candidates(plain_images(tmp_path, 1)[0], custom_labelers.beyond_the_edges).candidates
    assert candidate.box == (0, 0, 20, 30)


def test_boxes_are_in_pixels_of_the_full_upright_image(tmp_path: Path) -> None:
    pixels = np.zeros((1500, 3000, 3), np.uint8)
    pixels[300:600, 1500:2700] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: the top of the upright image is at the right of the stored one
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "lying.jpg", exif=exif, quality=95)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    for name in ("lying.jpg", "large.png"):
        (candidate,) = find_candidates(tmp_path / name, white).candidates
        assert candidate.box == pytest.approx((1500, 300, 2700, 600), abs=4), name
        assert candidate.score <= SIDE


def white(pixels: npt.NDArray[np.uint8]) -> list[Candidate]:
    """Where it is white; the score is the longer side of what was seen."""
    rows, columns = (
        np.flatnonzero(pixels.mean(axis=(1, 2)) > 20),
        np.flatnonzero(pixels.mean(axis=(0, 2)) > 20),
    )
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return [Candidate(box, max(pixels.shape))]


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(ConfigError):
        label([], custom_labelers.whole, workers=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_processors_that_this_process_may_not_use_do_not_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert processors() == len(before)
