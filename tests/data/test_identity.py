"""Which images are one: by bytes, by pixels, by spelling; and which get a group by themselves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from solobox.data.auto_groups import PREFIX
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import FILE, Fingerprints
from solobox.data.identity import canonical_paths, matches, pairs, signatures
from solobox.errors import DataError

BOX = [4.0, 4.0, 60.0, 50.0]


def photo(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Smooth random patches with an edge, as photographs have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def dataset(folder: Path, names: list[str], group: list[str] | None = None) -> Dataset:
    return Dataset([folder / name for name in names], [BOX] * len(names), names=names, group=group)


@pytest.mark.parametrize(
    ("suffix", "options", "factor"),
    [
        (".jpg", {"quality": 30}, 1.0),
        (".jpg", {"quality": 90}, 2.0),
        (".png", {}, 0.5),
        (".webp", {"quality": 60}, 1.0),
    ],
)
def test_saved_again_it_is_the_same_image(
    tmp_path: Path, suffix: str, options: dict[str, Any], factor: float
) -> None:
    originals = [photo(seed) for seed in range(12)]
    for number, image in enumerate(originals):
        image.save(tmp_path / f"{number}.jpg", quality=95)
        again = image.resize((round(image.width * factor), round(image.height * factor)))
        again.save(tmp_path / f"again{number}{suffix}", **options)
    paths = [tmp_path / f"{number}.jpg" for number in range(12)]
    paths += [tmp_path / f"again{number}{suffix}" for number in range(12)]
    assert pairs(signatures(paths)).tolist() == [[number, number + 12] for number in range(12)]


def test_turned_upright_it_is_the_same_image(tmp_path: Path) -> None:
    image = photo(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    image.save(tmp_path / "upright.png")
    assert pairs(signatures([tmp_path / "turned.jpg", tmp_path / "upright.png"])).tolist() == [[0, 1]]


def test_a_moved_object_and_plain_images_are_not_copies() -> None:
    def scene(x: int) -> npt.NDArray[np.uint8]:
        pixels = np.array(photo(3))
        pixels[40:70, x : x + 30] = (250, 20, 20)
        return pixels

    plain = [np.full((20, 20, 3), value, np.uint8) for value in (0, 0, 255)]
    assert pairs(signatures([scene(10), scene(40), *plain])).tolist() == []


def test_many_alike_are_found_in_linear_memory() -> None:
    signs = np.repeat(signatures([photo(5)]), 3000)
    found = pairs(signs)
    assert len(found) <= 64 * len(signs)
    assert set(np.unique(found)) == set(range(3000))
    assert matches(signs[:10], signs[10:]).all()


def test_spellings_of_a_path_are_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photo(0).save(tmp_path / "images" / "2.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "images" / "2.png")
    (tmp_path / "also").symlink_to(tmp_path / "images")
    ways = ["images/2.png", "images/../images/2.png", "link.png", "also/2.png", "images/./2.png"]
    assert set(canonical_paths([tmp_path / way for way in ways])) == {tmp_path / "images/2.png"}
    assert canonical_paths([Path("a/../none.png"), Path("none.png"), Path("b.png")]) == [
        Path("none.png"),
        Path("none.png"),
        Path("b.png"),
    ]


def test_paths_are_one_where_their_real_paths_are(tmp_path: Path) -> None:
    (tmp_path / "store" / "deep").mkdir(parents=True)
    (tmp_path / "store" / "1.png").touch()
    (tmp_path / "store" / "deep" / "2.png").touch()
    links = {
        "relative.png": "store/1.png",
        "chain.png": "relative.png",
        "folder": "store/deep",
        "folder/up.png": "../1.png",  # relative to the folder that the link leads to
        "through.png": "folder/../1.png",  # of store, not of this folder
        "broken.png": "store/none.png",
        "circle.png": "other.png",
        "other.png": "circle.png",
        "slash": "store/",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    names = [
        *links,
        "store/1.png",
        "folder/2.png",
        "slash/1.png",
        "1.png",
        "store/none.png",
        "",
        "store/deep/..",
    ]
    paths = [tmp_path / name for name in names]
    first: dict[str, Path] = {}
    expected = [first.setdefault(os.path.realpath(path), path) for path in paths]
    assert canonical_paths(paths) == [Path(os.path.normpath(path)) for path in expected]


def test_two_spellings_are_one_row(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        photo(number).save(tmp_path / "images" / f"{number}.png")
    rows = ["images/0.png", "images/1.png", "images/2.png", "images/../images/2.png"]
    text = "\n".join(["image,x1,y1,x2,y2", *(f"{row},4,4,60,50" for row in rows)])
    (tmp_path / "boxes.csv").write_text(text)
    read = Dataset.read(tmp_path / "boxes.csv")
    assert (len(read), read.notes.duplicates) == (3, 1)


def test_copies_stay_in_one_split(tmp_path: Path) -> None:
    names = [f"p{chr(97 + number)}.jpg" for number in range(20)]
    for number, name in enumerate(names):
        photo(number).save(tmp_path / name, quality=95)
        photo(number).save(tmp_path / f"again-{name}", quality=50)
    both = dataset(tmp_path, [*names, *(f"again-{name}" for name in names)])
    split = both.with_splits(0.25, 0.25)
    assert split.split[:20] == split.split[20:]
    assert set(split.split) == {"train", "val", "test"}
    assert "40 images are 20 sources" in (split.notes.auto_groups or "")
    refused = both.with_splits(0.25, 0.25, auto_group=False)
    assert refused.split[:20] != refused.split[20:]
    assert set(refused.group) == {""}


def test_what_is_no_image_is_no_copy(tmp_path: Path) -> None:
    page = b"<html>404 Not Found</html>"
    for name, content in (("a.jpg", b""), ("b.jpg", b""), ("c.jpg", page), ("d.jpg", page)):
        (tmp_path / name).write_bytes(content)
    for name in ("e.png", "f.png"):  # without contrast, and equal by their bytes
        Image.new("RGB", (40, 30), "grey").save(tmp_path / name)
    names = [*(f"{letter}.jpg" for letter in "abcd"), "gone.jpg", "none.jpg", "e.png", "f.png"]
    found = dataset(tmp_path, names).with_auto_groups()
    assert found.group == ("",) * 6 + (f"{PREFIX}e.png",) * 2
    assert "2 images are 1 source" in (found.notes.auto_groups or "")


def test_files_without_any_box_and_empty_ones_are_split_or_refused(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    names = [f"{number}.jpg" for number in range(6)]
    assert set(dataset(tmp_path, names).with_splits(0.3, 0.3).split) == {"train", "val", "test"}
    without = Dataset([tmp_path / name for name in names], np.full((6, 4), np.nan), names=names)
    with pytest.raises(DataError) as raised:
        without.with_splits()
    assert raised.value.code == "too-few-images"


def test_copies_between_splits_of_the_data_are_counted_in_the_later_one(tmp_path: Path) -> None:
    names = [f"{letter}.png" for letter in "abcdef"]
    for number, name in enumerate(names):
        photo(number % 3).save(tmp_path / name)
    paths = [tmp_path / name for name in names]
    splits = [
        "train",
        "test",
        "",
        "val",
        "test",
        "train",
    ]  # d is a copy of a; e is in test as b is; c has no split
    found = Dataset(paths, [BOX] * 6, split=splits, names=names).with_auto_groups()
    assert found.notes.leaked.startswith("1 image is a copy of images in another split (1 in val)")
    assert found.split == tuple(splits)
    inside = Dataset(paths, [BOX] * 6, split=["train", "val", "test"] * 2, names=names)
    assert inside.with_auto_groups().notes.leaked == ""


def test_data_without_copies_is_split_as_ever(tmp_path: Path) -> None:
    names = [f"{number:03}.png" for number in range(40)]
    for number, name in enumerate(names):
        photo(number).save(tmp_path / name)
    data = dataset(tmp_path, names)
    assert data.with_splits().split == data.with_splits(auto_group=False).split
    assert data.with_auto_groups().group == data.group


@pytest.mark.parametrize(
    ("names", "grouped"),
    [
        (["a_jpg.rf.0123456789abcdef.jpg", "a_jpg.rf.ffff456789abcdef.jpg", "b_jpg.rf.aaaa456789abcdef.jpg"],
         [0, 0, 2]),
        (["a.png", "a_flip.png", "a_rot90_aug1.png", "b_flip.png", "a copy.png"], [0, 0, 0, 3, 0]),
        (["image (1).png", "image (2).png", "x_1.png", "x_2.png"], [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_names_that_say_one_source(tmp_path: Path, names: list[str], grouped: list[int]) -> None:
    for number, name in enumerate(names):
        photo(number).save(tmp_path / name)
    group = dataset(tmp_path, names).with_auto_groups().group
    expected = [
        PREFIX + min(names[k] for k in range(len(names)) if grouped[k] == first)
        if grouped.count(first) > 1
        else ""
        for first in grouped
    ]
    assert list(group) == expected


def test_frames_that_look_alike_are_one_scene(tmp_path: Path) -> None:
    names = [f"clip_{number:04}.png" for number in range(6)]
    for number, name in enumerate(names):
        pixels = np.array(photo(0 if number < 3 else 1))
        pixels[50:62, 20 + 8 * number : 30 + 8 * number] = 255
        Image.fromarray(pixels).save(tmp_path / name)
    group = dataset(tmp_path, names).with_auto_groups().group
    assert group == (PREFIX + names[0],) * 3 + (PREFIX + names[3],) * 3


def test_a_group_of_the_data_is_never_changed(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "a_flip.png", "a_rot90.png"]
    for number, name in enumerate(names):
        photo(number).save(tmp_path / name)
    group = dataset(tmp_path, names, group=["", "two", "one", ""]).with_auto_groups().group
    assert group == ("one", "two", "one", "one")


def test_a_training_image_saved_again_is_recognized(tmp_path: Path) -> None:
    for number in range(4):
        photo(number).save(tmp_path / f"{number}.png")
        photo(number).save(tmp_path / f"{number}.jpg", quality=60)
    known = Fingerprints.of([tmp_path / "0.png", tmp_path / "1.png"], [tmp_path / "2.png"])
    known.save(tmp_path / FILE)
    again = Fingerprints.load(tmp_path)
    assert again is not None
    copies = [tmp_path / f"{number}.jpg" for number in range(4)]
    assert again.splits(copies).tolist() == ["train", "train", "val", ""]
