"""COCO as people have it: ids that do not fit, no boxes, masks, recorded sizes, images that are missing."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_files import BOX, SIZE, codes, draw, draw_all, in_pixels, index_of, put, xywh

from error_codes import has_code
from solobox.data import checks, formats
from solobox.data.dataset import Dataset
from solobox.data.formats import Annotations
from solobox.errors import DataError


def content(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": index, "file_name": f"{index}.png", "width": SIZE[0], "height": SIZE[1]}
            for index in range(6)
        ],
        "annotations": [
            {"id": index, "image_id": index, "category_id": 1, "bbox": xywh(index)} for index in range(6)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    } | changes


def dataset(root: Path, value: object, file: str = "annotations.json", images: str = "images") -> Annotations:
    draw_all(root / images)
    put(root / file, json.dumps(value))
    return formats.read(root)


def assert_right(found: Annotations, count: int = 6) -> None:
    boxed = [record for record in found.records if record.box is not None]
    assert len(boxed) == count
    for record in boxed:
        assert record.path.exists()
        assert in_pixels(record, found) == pytest.approx(BOX[index_of(record)])


def changed(index: int, **changes: object) -> dict[str, Any]:
    value = content()
    value["annotations"][index] |= changes
    return value


def test_recorded_sizes_are_kept(tmp_path: Path) -> None:
    value = content()
    value["images"][1] |= {"width": 0}
    del value["images"][2]["height"]
    value["images"][3] |= {"width": "240", "height": 160.0}
    found = dataset(tmp_path, value)
    assert [record.size for record in found.records] == [SIZE, None, None, (240, 160), SIZE, SIZE]


def test_the_first_image_is_missing(tmp_path: Path) -> None:
    draw_all(tmp_path / "train")
    (tmp_path / "train" / "0.png").unlink()
    put(tmp_path / "train.json", json.dumps(content()))
    found = formats.read(tmp_path)
    assert [record.path.exists() for record in found.records] == [False, *[True] * 5]
    assert found.records[0].path == tmp_path / "train" / "0.png"  # where the others are
    assert not found.problems


def test_faults_of_rows_leave_the_others(tmp_path: Path) -> None:
    value = changed(0, image_id=99)
    found = dataset(tmp_path, value)
    assert codes(found) == ["bad-reference"]
    assert_right(found, 5)
    assert found.problems[0].record is None
    assert [record.box for record in found.records].count(None) == 0
    assert found.unlabelled == ("0.png",)


def test_an_image_whose_annotation_is_lost_is_no_negative(tmp_path: Path) -> None:
    """It goes with its row where rows with errors are left out."""
    value = changed(0, image_id=99)
    draw(tmp_path / "images" / "9.png", 9)
    value["images"].append({"id": 9, "file_name": "9.png"})
    found = dataset(tmp_path, value)
    assert sorted(found.unlabelled) == ["0.png", "9.png"]  # of either, nothing tells
    with pytest.raises(DataError):
        Dataset.from_annotations(found)
    data = Dataset.from_annotations(found, skip_bad=True)
    assert list(data.names) == [f"{index}.png" for index in range(1, 6)]
    assert data.has_box.all()
    value["annotations"][0]["image_id"] = 0
    assert [record.image for record in dataset(tmp_path, value).records if record.box is None] == ["9.png"]


def test_an_empty_box_of_an_image_in_doubt_is_no_negative(tmp_path: Path) -> None:
    value = changed(0, bbox=[])
    value["images"].append({"id": 0, "file_name": "5.png"})
    found = dataset(tmp_path, value)
    data = Dataset.from_annotations(found, skip_bad=True)
    assert data.has_box.all()
    assert "0.png" not in data.names


@pytest.mark.parametrize("category", [0, 5, "thing"])
def test_unknown_categories_are_told_and_kept(tmp_path: Path, category: object) -> None:
    found = dataset(tmp_path, changed(0, category_id=category))
    assert codes(found) == ["unknown-class"]
    assert_right(found)
    assert found.records[0].label == str(category)


@pytest.mark.parametrize("drop", ["categories", "category_id"])
def test_without_categories(tmp_path: Path, drop: str) -> None:
    value = content()
    for entry in (value, *value["annotations"]):
        entry.pop(drop, None)
    found = dataset(tmp_path, value)
    assert not found.problems
    assert_right(found)


def test_ids_of_any_type(tmp_path: Path) -> None:
    value = content()
    for image, annotation, identity in zip(
        value["images"],
        value["annotations"],
        [("0", 0), (1.0, 1), (2, "2"), ("x", "x"), (4, 4.0), (5, 5)],
        strict=True,
    ):
        image["id"], annotation["image_id"] = identity
    found = dataset(tmp_path, value)
    assert not found.problems
    assert_right(found)


def test_two_images_of_one_id(tmp_path: Path) -> None:
    value = content()
    value["images"][1]["id"] = 0
    found = dataset(tmp_path, value)
    at_fault = {problem.record for problem in found.problems if problem.code == "duplicate-id"}
    boxed = [index for index, record in enumerate(found.records) if record.image == "0.png"]
    assert set(boxed) <= at_fault
    assert "bad-reference" in codes(found)  # the annotation of id 1


def test_one_image_listed_twice_is_one(tmp_path: Path) -> None:
    value = content()
    value["images"].append(dict(value["images"][0]))
    found = dataset(tmp_path, value)
    assert not found.problems
    assert_right(found)


@pytest.mark.parametrize("bbox", [[], None])
def test_no_object(tmp_path: Path, bbox: object) -> None:
    found = dataset(tmp_path, changed(2, bbox=bbox))
    assert not found.problems
    assert found.records[2].box is None
    assert_right(found, 5)


def test_a_box_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    value = content()
    del value["annotations"][2]["bbox"]
    box = dataset(tmp_path, value).records[2].box
    assert box is not None
    assert all(map(math.isnan, box))


@pytest.mark.parametrize("bbox", ["absent", [], None, [0, 0, 0, 0]])
def test_an_empty_box_beside_an_outline_or_key_points_is_no_negative(tmp_path: Path, bbox: object) -> None:
    value = content()
    value["annotations"][1] |= {"segmentation": polygon(1), "bbox": bbox}
    value["annotations"][2] |= {"keypoints": [9, 9, 2], "num_keypoints": 1, "bbox": bbox}
    value["annotations"][3] |= {"keypoints": [0, 0, 0], "segmentation": [[]], "bbox": []}
    if bbox == "absent":
        for annotation in value["annotations"][1:3]:
            del annotation["bbox"]
    found = dataset(tmp_path, value)
    errors = [(each.code, each.where) for each in checks.check(found).errors]
    assert errors == [("no-box", "annotations.json, annotation 3")]
    assert in_pixels(found.records[1], found) == BOX[1]
    assert [record.image for record in found.records if record.box is None] == ["3.png"]


@pytest.mark.parametrize("iscrowd", [1, True, "1", 1.0])
def test_an_image_of_a_crowd_alone_is_left_out(tmp_path: Path, iscrowd: object) -> None:
    found = dataset(tmp_path, changed(2, iscrowd=iscrowd))
    assert "2.png" not in {record.image for record in found.records}
    assert "1 crowd annotations skipped" in found.convention


def test_an_entry_that_is_no_object_is_named(tmp_path: Path) -> None:
    value = content()
    value["annotations"].insert(2, None)
    with pytest.raises(DataError, match="entry 3 of 'annotations'", check=has_code("bad-coco")):
        dataset(tmp_path, value)


def polygon(index: int) -> object:
    x1, y1, x2, y2 = BOX[index]
    return [[x1, y1, (x1 + x2) / 2, y1, x1, y2], [x2, y2, x2 - 3, y2, x2, y2 - 4]]


def mask(index: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    x1, y1, x2, y2 = map(int, BOX[index])
    pixels = np.zeros((SIZE[1], SIZE[0]), dtype=np.bool_)
    pixels[y1:y2, x1:x2] = True
    pixels[y1:y2, x1 + 1 : x2 - 1] &= (np.indices((y2 - y1, x2 - x1 - 2)).sum(0) % 3) > 0
    return pixels


def runs(pixels: np.ndarray[Any, np.dtype[np.bool_]]) -> list[int]:
    flat = np.concatenate([[False], pixels.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    return [int(value) for value in np.diff([0, *edges, pixels.size])]


def compressed(counts: list[int]) -> str:
    """COCO's text of runs, as its own code writes it."""
    text = ""
    for at, count in enumerate(counts):
        value, more = count - (counts[at - 2] if at > 2 else 0), True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def whole_columns(index: int) -> object:
    """Runs of one mask whose object spans columns: from the top to the bottom."""
    return {"size": [SIZE[1], SIZE[0]], "counts": runs(mask(index))}


@pytest.mark.parametrize(
    "segmentation",
    [
        polygon,
        whole_columns,
        lambda index: {"size": [SIZE[1], SIZE[0]], "counts": compressed(runs(mask(index)))},
    ],
)
@pytest.mark.parametrize("bbox", ["absent", None])
def test_the_bounds_of_segmentations(
    tmp_path: Path, segmentation: Callable[[int], object], bbox: str | None
) -> None:
    value = content()
    for index, annotation in enumerate(value["annotations"]):
        annotation["segmentation"] = segmentation(index)
        if bbox is None:
            annotation["bbox"] = None
        else:
            del annotation["bbox"]
    found = dataset(tmp_path, value)
    assert_right(found)
    assert "6 boxes are the bounds of a segmentation" in found.convention


def test_a_mask_of_whole_columns(tmp_path: Path) -> None:
    height = SIZE[1]
    value = changed(
        0, segmentation={"size": [height, SIZE[0]], "counts": [2 * height, 3 * height, 5 * height]}
    )
    del value["annotations"][0]["bbox"]
    assert dataset(tmp_path, value).records[0].box == (2, 0, 3, height)


@pytest.mark.parametrize("counts", ["\x00", "abc", "~~~", [1, -2], [1.5, 2], None, []])
def test_masks_that_are_none(tmp_path: Path, counts: object) -> None:
    value = changed(0, segmentation={"size": [SIZE[1], SIZE[0]], "counts": counts})
    del value["annotations"][0]["bbox"]
    assert dataset(tmp_path, value).records[0].box is not None


def test_instances_and_keypoints_together(tmp_path: Path) -> None:
    draw_all(tmp_path / "train2017")
    put(
        tmp_path / "annotations" / "person_keypoints_train2017.json",
        json.dumps(changed(0, bbox=[1, 1, 2, 2])),
    )
    put(tmp_path / "annotations" / "instances_train2017.json", json.dumps(content()))
    found = formats.read(tmp_path)
    assert_right(found)
    assert {record.split for record in found.records} == {"train"}
