import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from solobox.errors import DataError
from solobox.predict.image_writers import (
    CropWriter,
    DrawingWriter,
    ImageNames,
    ImageWriter,
    crop_window,
    write_images,
)
from solobox.predict.prediction import Prediction

SIZE = (60, 40)
Maker = Callable[..., Prediction]


@pytest.fixture
def given_box(tmp_path: Path) -> Maker:
    """Makes an image, every pixel of its own colour, and its prediction."""

    def make(name: str, box: tuple[float, ...] = (10, 5, 30, 25), *, orientation: int = 1) -> Prediction:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
        image = Image.fromarray(np.stack([4 * x, 6 * y, 0 * x], axis=2).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        options: dict[str, Any] = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
        image.save(path, exif=exif, **options)
        size = SIZE if orientation < 5 else SIZE[::-1]
        band = np.array([3.0, 2.0, 3.0, 2.0])
        return Prediction(
            str(path), np.array(box), size, lower=np.array(box) - band, upper=np.array(box) + band
        )

    return make


def made(predictions: list[Prediction], image_writer: ImageWriter) -> list[str]:
    said: list[str] = []
    assert list(write_images(iter(predictions), [image_writer], said.append)) == predictions
    return said


def test_an_object_is_cropped_at_full_resolution(given_box: Maker, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    assert (
        made([given_box("a.jpg"), given_box("b.png"), given_box("c.bmp")], CropWriter(ImageNames(out))) == []
    )
    assert sorted(path.name for path in out.iterdir()) == ["a.jpg", "b.png", "c.png"]
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.png", "PNG")):
        with Image.open(out / name) as image:
            assert (image.format, image.size) == (kind, (20, 20))
            pixels = np.asarray(image.convert("RGB")).astype(int)
        off = 6 if kind == "JPEG" else 0
        assert np.abs(pixels[0, 0] - (40, 30, 0)).max() <= off
        assert np.abs(pixels[-1, -1] - (116, 144, 0)).max() <= off


def test_a_rotated_image_is_cropped_upright(given_box: Maker, tmp_path: Path) -> None:
    made([given_box("a.png", (5, 10, 25, 40), orientation=6)], CropWriter(ImageNames(tmp_path / "crops")))
    with Image.open(tmp_path / "crops" / "a.png") as image:
        assert image.size == (20, 30)
        # Turned clockwise: what is at (x, y) was at (y, height - 1 - x).
        assert image.getpixel((0, 0)) == (4 * 10, 6 * (39 - 5), 0)


def test_the_format_of_a_crop_follows_the_content(given_box: Maker, tmp_path: Path) -> None:
    one = given_box("a.jpg")
    named = Path(one.image).rename(tmp_path / "a.png")
    made([Prediction(str(named), one.box, one.size)], CropWriter(ImageNames(tmp_path / "crops")))
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["a.jpg"]


def test_pad_and_outer_crop_more(given_box: Maker, tmp_path: Path) -> None:
    one = given_box("a.png", (10, 5, 30, 25))
    for folder, image_writer, size in (
        ("pad", CropWriter(ImageNames(tmp_path / "pad"), pad=0.1), (24, 24)),
        ("outer", CropWriter(ImageNames(tmp_path / "outer"), outer=True), (26, 24)),
        ("much", CropWriter(ImageNames(tmp_path / "much"), pad=10), SIZE),
    ):
        made([one], image_writer)
        with Image.open(tmp_path / folder / "a.png") as image:
            assert image.size == size


def test_without_a_box_there_is_no_crop_and_the_drawn_image_says_so(given_box: Maker, tmp_path: Path) -> None:
    one = given_box("a.png").without_object()
    made([one, Prediction("lost.png", error="lost")], CropWriter(ImageNames(tmp_path / "crops")))
    assert list((tmp_path / "crops").iterdir()) == []
    made([one, given_box("b.png", (35, 25, 50, 35))], DrawingWriter(ImageNames(tmp_path / "drawn")))
    corners = []
    for name in ("a.jpg", "b.jpg"):
        with Image.open(tmp_path / "drawn" / name) as image:
            corners.append(np.asarray(image).astype(int)[4:16, 4:30].max(axis=(0, 1)))
    assert corners[0][0] > 200
    assert corners[1][0] < 180


def test_names_that_are_taken_get_a_number_and_nothing_is_written_over(
    given_box: Maker, tmp_path: Path
) -> None:
    out = tmp_path / "crops"
    out.mkdir()
    (out / "a.png").write_text("mine")
    # The third one's own name is what the second one gets.
    rows = [
        given_box(f"{folder}/{name}.png")
        for folder, name in (("x", "a"), ("y", "a"), ("z", "a-2"), ("v", "A"))
    ]
    made(rows, CropWriter(ImageNames(out)))
    assert (out / "a.png").read_text() == "mine"
    assert sorted(path.name for path in out.iterdir()) == [
        "A-4.png",
        "a-2-2.png",
        "a-2.png",
        "a-3.png",
        "a.png",
    ]


def test_a_run_that_continues_uses_the_same_names(given_box: Maker, tmp_path: Path) -> None:
    out, journal = tmp_path / "crops", tmp_path / "crops.jsonl"
    rows = [given_box(f"{number}/a.png") for number in range(5)]
    names = [ImageNames(out, journal).of(0, rows[0].image, ".png")]
    made(rows[:3], CropWriter(ImageNames(out, journal)))
    assert sorted(path.name for path in out.iterdir()) == ["a-2.png", "a-3.png", "a.png"]
    with journal.open("a") as file:
        file.write('[3, "a-4.p')  # the power went
    (out / ".a-2.png.0123abcd.part").write_text("half")
    (out / ".other.png.0123abcd.part").write_text("of another program")
    said: list[str] = []
    image_writers = [CropWriter(ImageNames(out, journal))]
    list(write_images(iter(rows[1:]), image_writers, said.append, first=1))
    assert said == []
    assert names[0].name == "a.png"
    assert sorted(path.name for path in out.iterdir()) == [
        ".other.png.0123abcd.part", "a-2.png", "a-3.png", "a-4.png", "a-5.png", "a.png",
    ]  # fmt: skip


def test_a_very_long_name_still_has_room_for_a_number(given_box: Maker, tmp_path: Path) -> None:
    name = "ü" * 120  # 240 bytes, of 255
    made([given_box(f"{f}/{name}.png") for f in "xy"], CropWriter(ImageNames(tmp_path / "crops")))
    assert sorted(len(os.fsencode(path.name)) for path in (tmp_path / "crops").iterdir()) == [204, 206]


@pytest.mark.parametrize("writer", [CropWriter, DrawingWriter])
def test_an_image_that_vanished_or_was_replaced_meanwhile_is_a_remark(
    writer: Callable[[ImageNames], ImageWriter], given_box: Maker, tmp_path: Path
) -> None:
    rows = [given_box(f"{name}.png") for name in "abcd"]
    Path(rows[0].image).unlink()
    Image.new("RGB", (8, 8)).save(rows[1].image)
    Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1])).save(rows[2].image)
    said = made(rows, writer(ImageNames(tmp_path / "out")))
    assert [rows[index].image in text for index, text in enumerate(said)] == [True] * 3
    assert [path.stem for path in (tmp_path / "out").iterdir()] == ["d"]


def test_what_the_disk_refuses_is_an_error(given_box: Maker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        ImageNames(tmp_path / "file")
    image_writer = CropWriter(ImageNames(tmp_path / "crops"))
    (tmp_path / "crops").rmdir()
    with pytest.raises(DataError, match=r"crops.a\.png: cannot be written"):
        made([given_box("a.png")], image_writer)


coordinates = st.floats(-20, 120)


@given(st.tuples(*[coordinates] * 4), st.tuples(*[st.integers(1, 100)] * 2), st.floats(0, 10))
def test_a_crop_is_never_empty_and_holds_all_of_the_box_that_is_in_the_image(
    edges: tuple[float, ...], size: tuple[int, int], pad: float
) -> None:
    x, y = sorted(edges[::2]), sorted(edges[1::2])
    window = crop_window(np.array([x[0], y[0], x[1], y[1]]), size, pad)
    assert window is not None
    left, top, right, bottom = window
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    for lower, upper, start, stop, side in ((*x, left, right, size[0]), (*y, top, bottom, size[1])):
        if lower < side and upper > 0:
            assert start <= max(lower, 0)
            assert stop >= min(upper, side)
            assert stop - start <= (1 + 2 * pad) * (upper - lower) + 2


def test_a_box_of_no_area_is_one_pixel() -> None:
    assert crop_window(np.array([10.0, 5, 10, 5]), SIZE) == (10, 5, 11, 6)
    assert crop_window(np.array([60.0, 40, 60, 40]), SIZE, 0.5) == (59, 39, 60, 40)
    assert crop_window(np.full(4, np.nan), SIZE) is None
