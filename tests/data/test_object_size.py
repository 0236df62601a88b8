"""How large objects are at the model's input, and the warning about tiny ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox.config.architecture import Architecture
from solobox.data import checks, formats
from solobox.data.object_size import DEFAULT_SIZE, ObjectSize, probe_sides


def test_the_default_size_is_that_of_the_architecture() -> None:
    assert Architecture().size == DEFAULT_SIZE


def test_sides_are_measured_at_the_input() -> None:
    boxes = np.array([[0, 0, 100, 50], [10, 10, 20, 15], [np.nan] * 4])
    found = ObjectSize.of(boxes, np.array([[1000.0, 500.0]] * 3), 200)
    assert found is not None
    assert found.median == pytest.approx((20 + 2) / 2)
    assert found.smallest == pytest.approx(2 + 0.05 * 18)
    native = ObjectSize.of(boxes[:1], np.array([[1000.0, 500.0]]), None)
    assert native is not None
    assert native.median == pytest.approx(5000**0.5)
    assert ObjectSize.of(boxes[2:], np.ones((1, 2))) is None


@pytest.mark.parametrize(("side", "tiny"), [(10, True), (40, False)])
def test_check_warns_of_tiny_objects(tmp_path: Path, side: int, tiny: bool) -> None:
    rng = np.random.default_rng(0)
    rows = ["image,x1,y1,x2,y2"]
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,100,100,{100 + side},{100 + side}")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    diagnosis = checks.check(formats.read(tmp_path / "boxes.csv"), "headers")
    assert ("tiny-objects" in [finding.code for finding in diagnosis.findings]) == tiny
    assert diagnosis.object_size is not None
    assert diagnosis.object_size.is_tiny == tiny


def test_headers_of_some_images_are_enough(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    rows, sizes = probe_sides(
        (tmp_path / "a.png", np.zeros((5, 7, 3), np.uint8), tmp_path / "no.png"), np.arange(3)
    )
    assert rows.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(sizes, [[30, 20], [7, 5], [np.nan, np.nan]])
