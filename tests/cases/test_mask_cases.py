from pathlib import Path

import numpy as np
from format_cases import SIZE, draw, pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox.data import formats
from solobox.data.formats import masks


def put(path: Path, values: dict[int, tuple[int, int, int, int]], size: tuple[int, int] = SIZE) -> None:
    mask = np.zeros((size[1], size[0]), np.uint8)
    for value, (x1, y1, x2, y2) in values.items():
        mask[y1:y2, x1:x2] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_the_box_is_the_bounds_of_the_mask(tmp_path: Path) -> None:
    draw(tmp_path / "images", count=5)
    put(tmp_path / "masks" / "0.png", {255: (7, 5, 41, 33)})
    put(tmp_path / "masks" / "1.png", {})
    put(tmp_path / "masks" / "2_mask.png", {1: (2, 3, 10, 12), 2: (40, 20, 96, 64)})
    put(tmp_path / "masks" / "3.png", {1: (0, 0, 5, 5)}, size=(48, 32))
    found = formats.read(tmp_path)
    assert found.format == "masks"
    assert pixels(found) == [(7, 5, 41, 33), None, (2, 3, 10, 12), (40, 20, 96, 64)]
    assert [record.image for record in found.records] == ["0.png", "1.png", "2.png", "2.png"]
    assert [problem.code for problem in found.problems] == ["mask-size"]
    assert found.unlabelled == ("4.png",)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(end=st.integers(0, 200), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_broken_masks_are_problems(tmp_path: Path, end: int, at: int, byte: int) -> None:
    draw(tmp_path / "images", count=1)
    file = tmp_path / "masks" / "0.png"
    put(file, {1: (7, 5, 41, 33)})
    content = bytearray(file.read_bytes()[: end or None])
    content[min(at, len(content) - 1)] = byte
    file.write_bytes(content)
    found = masks.read(tmp_path)
    assert len(found.records) + len(found.problems) >= 1


def test_a_smoothed_mask_is_one_object(tmp_path: Path) -> None:
    draw(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    ramp = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    ramp[10:30, 20:60] = 255
    ramp[10:30, 60:80] = np.linspace(250, 5, 20).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "masks" / "0.png")
    assert pixels(formats.read(tmp_path)) == [(20, 10, 70, 30)]


def on_ground(object_: tuple[int, ...], ground: tuple[int, ...], mode: str) -> Image.Image:
    mask = Image.new(mode, SIZE, ground)
    mask.paste(object_, (7, 5, 41, 33))
    return mask


def test_transparent_and_fractional_masks(tmp_path: Path) -> None:
    """What is drawn in opacity alone, or as fractions of 1, is an object."""
    folder = draw(tmp_path / "images", count=7).parent / "masks"
    folder.mkdir()
    black, white, clear = (0, 0, 0, 255), (255, 255, 255, 255), (0, 0, 0, 0)
    on_ground(black, clear, "RGBA").save(folder / "0.png")
    on_ground(white, (255, 255, 255, 0), "RGBA").save(folder / "1.png")
    on_ground((0, 255), (0, 0), "LA").save(folder / "2.png")
    on_ground(white, black, "RGBA").save(folder / "3.png")
    on_ground((255, 0, 0, 128), black, "RGBA").save(folder / "4.png")
    fractions = np.zeros((SIZE[1], SIZE[0]), dtype=np.float32)
    fractions[5:33, 7:41] = 0.5
    Image.fromarray(fractions).save(folder / "5.tif")
    Image.new("RGBA", SIZE, clear).save(folder / "6.png")
    assert pixels(formats.read(tmp_path)) == [*[(7, 5, 41, 33)] * 6, None]
