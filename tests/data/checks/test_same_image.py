"""Copies of an image that were saved again are found by `check`, in one split and across splits."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from solobox.data import checks, formats
from solobox.data.dataset import Dataset


def photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((160, 120), Image.Resampling.BICUBIC)


def codes(folder: Path, rows: list[str]) -> list[tuple[str, str]]:
    (folder / "boxes.csv").write_text("\n".join(["image,x1,y1,x2,y2,split,group", *rows]))
    found = checks.check(formats.read(folder / "boxes.csv")).findings
    return [(each.code, each.image) for each in found]


def test_saved_again_within_and_across_splits(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.png")
    photo(0).save(tmp_path / "b.jpg", quality=60)
    photo(0).resize((320, 240)).save(tmp_path / "c.jpg", quality=60)
    same = ["a.png,10,10,80,80,train,", "b.jpg,10,10,80,80,train,"]
    assert codes(tmp_path, same) == [("same-image", "b.jpg")]
    across = ["a.png,10,10,80,80,train,", "c.jpg,20,20,160,160,test,"]
    assert codes(tmp_path, across) == [("leaked-image", "a.png")]


def test_saved_again_in_memory(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.jpg", quality=60)
    copies: list[Any] = [
        photo(0),
        np.asarray(photo(0).resize((320, 240))),
        (tmp_path / "a.jpg").read_bytes(),
    ]
    boxes = [(10, 10, 80, 80), (20, 20, 160, 160), (10, 10, 80, 80)]
    dataset = Dataset.from_arrays(copies, boxes)
    found = [(each.code, each.image) for each in dataset.check().findings]
    assert found == [("same-image", "image-000002"), ("same-image", "image-000003")]


def test_a_copy_of_another_size_has_the_same_box(tmp_path: Path) -> None:
    photo(0).save(tmp_path / "a.png")
    photo(0).resize((320, 240)).save(tmp_path / "b.png")
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\na.png,10,10,80,80\nb.png,20,20,160,160\n")
    (finding,) = checks.check(formats.read(tmp_path / "boxes.csv")).findings
    assert "another box" not in finding.message


def test_a_scene_that_nothing_names_is_a_warning(tmp_path: Path) -> None:
    for name, left in (("a.png", 20), ("b.png", 60)):
        pixels = np.array(photo(0))
        pixels[50:64, left : left + 14] = 255
        Image.fromarray(pixels).save(tmp_path / name)
    rows = ["a.png,10,10,80,80,,", "b.png,10,10,80,80,,"]
    assert codes(tmp_path, rows) == [("similar-images", "")]
    grouped = ["a.png,10,10,80,80,,one", "b.png,10,10,80,80,,one"]
    assert codes(tmp_path, grouped) == []


def test_the_groups_that_training_makes_are_told_as_training_tells_them(tmp_path: Path) -> None:
    for number in range(3):
        photo(number).save(tmp_path / f"{chr(97 + number)}.png")
    photo(0).save(tmp_path / "again.jpg", quality=60)
    for name in ("plain.png", "same.png"):  # equal by their bytes alone
        Image.new("RGB", (160, 120), "grey").save(tmp_path / name)
    names = ["a.png", "b.png", "c.png", "again.jpg", "plain.png", "same.png"]
    (tmp_path / "boxes.csv").write_text(
        "image,x1,y1,x2,y2\n" + "".join(f"{name},10,10,80,80\n" for name in names)
    )
    told = checks.check(formats.read(tmp_path / "boxes.csv")).auto_groups
    assert told.startswith("4 images are 2 sources")
    assert told == Dataset.read(tmp_path / "boxes.csv").with_auto_groups().notes.auto_groups
    assert not checks.check(formats.read(tmp_path / "boxes.csv"), "headers").auto_groups
