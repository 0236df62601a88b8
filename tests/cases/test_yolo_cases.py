"""YOLO as people have it: poses, polygons, no data.yaml, label files that are missing, folders of other computers."""

from pathlib import Path

import numpy as np
import pytest
from case_files import BOX, SIZE, codes, draw_all, in_pixels, index_of, put, yolo_line

from solobox.data import formats
from solobox.data.formats import Annotations
from solobox.errors import DataError

YAML = "train: train/images\nval: valid/images\nnames: [thing]\n"


def dataset(
    root: Path, line: object = yolo_line, yaml: str = YAML, labels: tuple[str, ...] = ("train", "valid")
) -> Path:
    for split, indices in (("train", range(4)), ("valid", range(4, 6))):
        draw_all(root / split / "images", indices)
        for index in indices if split in labels else ():
            put(root / split / "labels" / f"{index}.txt", f"{line(index)}\n")  # type: ignore[operator]
    put(root / "data.yaml", yaml)
    return root


def assert_right(found: Annotations, count: int = 6) -> None:
    assert len(found.records) == count
    for record in found.records:
        assert record.path.exists()
        assert in_pixels(record, found) == pytest.approx(BOX[index_of(record)], abs=0.01)


def points(index: int, extra: str = "") -> str:
    """Three points well inside the box."""
    x1, y1, x2, y2 = BOX[index]
    inner = [(x1 + 9, y1 + 9), (x2 - 9, y1 + 12), (x2 - 15, y2 - 9)]
    return " ".join(f"{x / SIZE[0]:.6f} {y / SIZE[1]:.6f}{extra}" for x, y in inner)


def corners(index: int) -> str:
    x1, y1, x2, y2 = BOX[index]
    return " ".join(
        f"{x / SIZE[0]:.6f} {y / SIZE[1]:.6f}" for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    )


@pytest.mark.parametrize(("shape", "extra"), [("[3, 2]", ""), ("[3, 3]", " 2")])
def test_poses_are_read_by_their_shape(tmp_path: Path, shape: str, extra: str) -> None:
    root = dataset(
        tmp_path, lambda index: f"{yolo_line(index)} {points(index, extra)}", f"{YAML}kpt_shape: {shape}\n"
    )
    found = formats.read(root)
    assert_right(found)
    assert not found.problems
    assert "6 poses" in found.convention


@pytest.mark.parametrize("extra", ["", " 2"])
def test_poses_without_a_shape_are_suspected_and_not_read(tmp_path: Path, extra: str) -> None:
    root = dataset(tmp_path, lambda index: f"{yolo_line(index)} {points(index, extra)}")
    found = formats.read(root)
    assert codes(found) == ["maybe-pose"]
    assert all(np.isnan(record.box or 0).all() for record in found.records)


def test_lines_of_another_length_than_the_shape_are_no_boxes(tmp_path: Path) -> None:
    root = dataset(
        tmp_path, lambda index: f"{yolo_line(index)} {points(index)}", f"{YAML}kpt_shape: [4, 2]\n"
    )
    assert all(np.isnan(record.box or 0).all() for record in formats.read(root).records)


@pytest.mark.parametrize("shape", ["3", "[3]", "[3, 4]", "[0, 2]", "[a, b]"])
def test_a_shape_that_is_none_is_refused(tmp_path: Path, shape: str) -> None:
    with pytest.raises(DataError, check=lambda error: error.code == "bad-yaml"):
        formats.read(dataset(tmp_path, yaml=f"{YAML}kpt_shape: {shape}\n"))


def test_oriented_boxes_and_polygons_are_no_poses(tmp_path: Path) -> None:
    for name, line in (
        ("obb", lambda index: f"0 {corners(index)}"),
        ("polygon", lambda index: f"0 {corners(index)} {' '.join(corners(index).split()[:2])}"),
    ):
        found = formats.read(dataset(tmp_path / name, line))
        assert_right(found)
        assert not found.problems
        assert "6 polygons" in found.convention


def test_a_task_says_that_they_are_polygons(tmp_path: Path) -> None:
    def line(index: int) -> str:
        return f"{yolo_line(index)} {points(index)}"

    found = formats.read(dataset(tmp_path, line, f"{YAML}task: segment\n"))
    assert not found.problems
    assert not any(np.isnan(record.box or 0).any() for record in found.records)


def test_a_confidence_is_no_part_of_the_box(tmp_path: Path) -> None:
    assert_right(formats.read(dataset(tmp_path, lambda index: f"{yolo_line(index)} 0.87")))


def test_a_split_without_any_label_file_is_an_error(tmp_path: Path) -> None:
    found = formats.read(dataset(tmp_path, labels=("train",)))
    assert_right(found, 4)
    assert codes(found) == ["labels-missing"]
    assert found.unlabelled == ("valid/images/4.png", "valid/images/5.png")


def test_a_missing_label_file_is_no_empty_one(tmp_path: Path) -> None:
    root = dataset(tmp_path)
    (root / "train" / "labels" / "0.txt").unlink()
    put(root / "train" / "labels" / "1.txt", "\n")
    found = formats.read(root)
    assert not found.problems
    assert found.unlabelled == ("train/images/0.png",)
    assert [record.path.name for record in found.records if record.box is None] == ["1.png"]


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [thing]\n",
        "train: train/images\nval: valid/images\ntest: /content/none\nnames: [thing]\n",
    ],
)
def test_an_absent_folder_is_told(tmp_path: Path, yaml: str) -> None:
    found = formats.read(dataset(tmp_path, yaml=yaml))
    assert_right(found)
    assert codes(found) == ["missing-folder"]


@pytest.mark.parametrize(
    "root", ["/content/datasets/Set-1/", "D:\\sets\\Set-1\\", "../../Set-1/", "https://host/Set-1/"]
)
def test_folders_of_another_computer(tmp_path: Path, root: str) -> None:
    yaml = f"train: '{root}train/images'\nval: '{root}valid/images'\nnames: [thing]\n"
    found = formats.read(dataset(tmp_path, yaml=yaml))
    assert_right(found)
    assert {record.split for record in found.records} == {"train", "val"}
    assert codes(found) in (["images-found-elsewhere"], [])


def test_one_folder_is_not_guessed_for_two_splits(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    put(tmp_path / "data.yaml", "train: /x/a/images\nval: /x/b/images\n")
    with pytest.raises(DataError, check=lambda error: error.code == "not-found"):
        formats.read(tmp_path)


def test_a_class_without_a_name_is_told(tmp_path: Path) -> None:
    root = dataset(tmp_path)
    put(root / "train" / "labels" / "0.txt", "7 0.5 0.5 0.1 0.1\n")
    found = formats.read(root)
    assert codes(found) == ["unknown-class"]
    assert found.records[0].label == "7"


def labels(folder: Path, indices: range = range(6), name: str = "{}.txt") -> None:
    for index in indices:
        put(folder / name.format(index), f"{yolo_line(index)}\n")


def test_images_and_labels_without_a_data_file(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    labels(tmp_path / "labels")
    for names in ("", "classes.txt", "labels/classes.txt", "obj.names"):
        if names:
            put(tmp_path / names, "thing\nother\n")
        found = formats.read(tmp_path)
        assert found.format == "yolo"
        assert_right(found)
        assert {record.label for record in found.records} == {"thing" if names else "0"}
        assert {record.split for record in found.records} == {""}


@pytest.mark.parametrize("place", ["{split}/{kind}", "{kind}/{split}"])
def test_splits_of_folders_without_a_data_file(tmp_path: Path, place: str) -> None:
    for split, indices in (("train", range(4)), ("val", range(4, 6))):
        draw_all(tmp_path / place.format(split=split, kind="images"), indices)
        labels(tmp_path / place.format(split=split, kind="labels"), indices)
    found = formats.read(tmp_path)
    assert_right(found)
    assert [record.split for record in found.records] == ["train"] * 4 + ["val"] * 2


def test_images_and_text_files_side_by_side(tmp_path: Path) -> None:
    draw_all(tmp_path)
    labels(tmp_path, range(5))
    put(tmp_path / "classes.txt", "thing\n")
    found = formats.read(tmp_path)
    assert_right(found, 5)
    assert found.unlabelled == ("5.png",)


@pytest.mark.parametrize("name", ["{}.txt", "0a1b2c3d-{}.txt"])
def test_text_files_whose_images_are_elsewhere(tmp_path: Path, name: str) -> None:
    draw_all(tmp_path / "photos")
    labels(tmp_path / "export" / "labels", name=name)
    put(tmp_path / "export" / "classes.txt", "thing\n")
    found = formats.read(tmp_path / "export", tmp_path / "photos")
    assert_right(found)


def test_darknets_files(tmp_path: Path) -> None:
    draw_all(tmp_path / "obj_train_data")
    labels(tmp_path / "obj_train_data")
    put(tmp_path / "obj.names", "thing\n")
    put(tmp_path / "train.txt", "".join(f"data/obj_train_data/{index}.png\n" for index in range(6)))
    put(
        tmp_path / "obj.data",
        "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    for data in (tmp_path, tmp_path / "obj.data"):
        found = formats.read(data)
        assert_right(found)
        assert {record.label for record in found.records} == {"thing"}


def test_a_list_of_another_computer(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    labels(tmp_path / "labels")
    put(tmp_path / "train.txt", "".join(f"/home/me/set/images/{index}.png\n" for index in range(6)))
    put(tmp_path / "data.yaml", "train: train.txt\nnames: [thing]\n")
    found = formats.read(tmp_path)
    assert_right(found)
    assert codes(found) == ["images-found-elsewhere"]


def test_a_folder_of_images_and_other_texts_is_no_yolo(tmp_path: Path) -> None:
    draw_all(tmp_path)
    put(tmp_path / "0.txt", "a caption of this image and more words\n")
    with pytest.raises(DataError, check=lambda error: error.code == "unknown-format"):
        formats.read(tmp_path)
