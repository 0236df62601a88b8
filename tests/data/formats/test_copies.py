"""A copy reads back under the options of its original and without them, and gives the same images the same splits."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox.data import checks, formats
from solobox.data.dataset import Dataset

COUNT = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two folders, with the same file names in both."""
    root = tmp_path_factory.mktemp("root") / "images"
    for row in range(COUNT):
        path = root / "ab"[row % 2] / f"{row // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Each another one: equal images would be copies of one, which stay together.
        pixels = np.random.default_rng(row).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(path)
    return root


def original(folder: Path, groups: bool) -> Path:
    folder.mkdir(parents=True)
    lines = [
        f"{'ab'[row % 2]}/{row // 2}.png,1,2,{20 + row},30,{row // 4 if groups else ''}"
        for row in range(COUNT)
    ]
    path = folder / "data.csv"
    path.write_text("\n".join(["image,x1,y1,x2,y2,group", *lines]) + "\n")
    return path


def splits(dataset: Dataset) -> dict[Path, str]:
    with_splits = dataset.with_splits(0.25, 0.25)
    return {path.resolve(): split for path, split in zip(dataset.paths, with_splits.split, strict=True)}


def test_a_fixed_copy_reads_back_with_and_without_images(tmp_path: Path, images: Path) -> None:
    data = original(tmp_path / "labels", groups=False)
    annotations = formats.read(data, images)
    out = tmp_path / "fixed" / "deep" / "clean.csv"
    checks.fix(checks.check(annotations), out)
    before = Dataset.read(data, images)
    for folder in (images, None):
        again = Dataset.read(out, folder)
        assert again.names == before.names
        assert splits(again) == splits(before)
    copy = tmp_path / "copy.csv"
    Dataset.read(out).write(copy)  # a copy of a copy
    assert splits(Dataset.read(copy, images)) == splits(Dataset.read(copy)) == splits(before)


# VOC has no place for groups
@pytest.mark.parametrize(
    ("name", "groups"), [("csv", False), ("csv", True), ("coco", False), ("coco", True), ("voc", False)]
)
@pytest.mark.parametrize("place", ["labels/new", "elsewhere/a/b/new", "new"])
def test_every_format_keeps_the_splits(
    tmp_path: Path, images: Path, name: str, place: str, groups: bool
) -> None:
    before = Dataset.read(original(tmp_path / "labels", groups), images)
    out = (tmp_path / place).with_suffix({"csv": ".csv", "coco": ".json", "voc": ""}[name])
    before.write(out, name)
    for folder in (images, None):
        again = Dataset.read(out, folder)
        assert splits(again) == splits(before)
        assert set(again.names) == set(before.names)


def test_a_data_frame_of_a_copy_is_the_copy(tmp_path: Path, images: Path) -> None:
    before = Dataset.read(original(tmp_path / "labels", groups=False), images)
    before.write(tmp_path / "copy.csv")
    pandas = pytest.importorskip("pandas")
    again = Dataset.from_dataframe(pandas.read_csv(tmp_path / "copy.csv"), images)
    assert splits(again) == splits(before)


def test_a_copy_is_read_from_moved_images(tmp_path: Path, images: Path) -> None:
    """With other `images`, an image in that folder comes first; one that is not there is found from the copy."""
    before = Dataset.read(original(tmp_path / "labels", groups=False), images)
    before.write(tmp_path / "copy.csv")
    moved = tmp_path / "moved"
    (moved / "a").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(moved / "a" / "0.png")
    again = Dataset.read(tmp_path / "copy.csv", moved)
    assert again.paths[0] == moved / "a" / "0.png"
    assert again.paths[1].resolve() == images / "b" / "0.png"
    assert again.names == before.names


@given(depth=st.integers(0, 4), upwards=st.integers(0, 2), absolute=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_place_of_the_copy(
    tmp_path_factory: pytest.TempPathFactory, images: Path, depth: int, upwards: int, absolute: bool
) -> None:
    place = tmp_path_factory.mktemp("place")
    root = images.parents[upwards - 1] if upwards else images
    prefix = f"{images}/" if absolute else f"{os.path.relpath(images, root)}/"
    data = place / "data.csv"
    lines = [f"{prefix}{'ab'[row % 2]}/{row // 2}.png,1,2,20,30" for row in range(COUNT)]
    data.write_text("\n".join(["image,x1,y1,x2,y2", *lines]) + "\n")
    annotations = formats.read(data, root)
    out = place.joinpath(*"wxyz"[:depth], "clean.csv")
    checks.fix(checks.check(annotations), out)
    before = splits(Dataset.read(data, root))
    assert splits(Dataset.read(out, root)) == splits(Dataset.read(out)) == before


def test_names_that_are_paths_from_the_copy_need_no_column(tmp_path: Path, images: Path) -> None:
    data = original(tmp_path / "labels", groups=False)
    (tmp_path / "labels" / "a").symlink_to(images / "a")
    (tmp_path / "labels" / "b").symlink_to(images / "b")
    Dataset.read(data).write(data.with_name("copy.csv"))
    assert data.with_name("copy.csv").read_text().splitlines()[0] == "image,x1,y1,x2,y2"
