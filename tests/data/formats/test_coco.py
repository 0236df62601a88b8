import json
import math
from pathlib import Path
from typing import Any

import pytest
from format_records import draw, record

from solobox.data import formats
from solobox.data.formats import coco
from solobox.errors import DataError


def content(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "in/a.jpg", "width": 40, "height": 30},
            {"id": 8, "file_name": "b.jpg"},
            {"id": 9, "file_name": "crowd.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10.5, 20], "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 4, "bbox": [0, 0, 5, 5]},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }
    return whole | changes


def put(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def test_a_plain_file(tmp_path: Path) -> None:
    found = formats.read(put(tmp_path / "train.json", content()))
    assert found.format == "coco"
    assert "1 crowd annotations skipped" in found.convention
    first, second, negative = found.records
    assert first.path == tmp_path / "in" / "a.jpg"
    assert (first.box, first.label, first.row) == ((1, 2, 10.5, 20), "cat", 1)
    assert first.where == "train.json, annotation 1"
    assert first.text == "[1, 2, 10.5, 20]"
    assert (second.box, second.label, second.where) == ((0, 0, 5, 5), "dog", "train.json, annotation 3")
    assert (negative.image, negative.box, negative.where) == ("b.jpg", None, "train.json, image 2")
    # One file is taken as it is: its name does not make all of it a training set.
    assert {each.split for each in found.records} == {""}


@pytest.mark.parametrize(
    "names",
    [
        ("train.json", "val.json", "test.json"),
        (
            "annotations/instances_train2017.json",
            "annotations/instances_val2017.json",
            "annotations/instances_test.json",
        ),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json", "test/_annotations.coco.json"),
    ],
)
def test_a_folder_of_files_with_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for index, name in enumerate(names):
        put(tmp_path / name, content(images=[{"id": index, "file_name": f"{index}.jpg"}], annotations=[]))
    if names[0].startswith("annotations"):
        put(tmp_path / "annotations" / "captions_train2017.json", {"images": [], "annotations": []})
    found = formats.read(tmp_path)
    assert {each.image: each.split for each in found.records} == {
        "0.jpg": "train",
        "1.jpg": "val",
        "2.jpg": "test",
    }


@pytest.mark.parametrize(
    "place", [".", "images", "../train2017", "../images/train2017", "../train", "../images"]
)
def test_the_usual_places_of_images(tmp_path: Path, place: str) -> None:
    file = put(tmp_path / "annotations" / "instances_train2017.json", content())
    image = draw(file.parent / place / "in" / "a.jpg")
    found = formats.read(tmp_path).records[0]
    assert found.path.samefile(image)
    assert formats.read(tmp_path, file.parent / place).records[0].path.samefile(image)


@pytest.mark.parametrize("bbox", ["", [1, 2, 3], "1,2,3,4", [1, 2, "x", 4], [1, 2, math.nan, 4], {}])
def test_a_bad_bbox_is_nan(tmp_path: Path, bbox: object) -> None:
    images = [{"id": "a", "file_name": "a.jpg"}]
    annotations = [{"image_id": "a", "bbox": bbox}]
    (found,) = formats.read(put(tmp_path / "a.json", {"images": images, "annotations": annotations})).records
    assert found.box is not None
    assert any(map(math.isnan, found.box))
    assert found.label == ""


@pytest.mark.parametrize(
    ("value", "code", "where"),
    [
        (content(images={}), "bad-coco", "images"),
        (content(annotations=[3]), "bad-coco", "annotations"),
        (content(images=[]), "bad-coco", "images"),
        ({"images": [{"id": 7, "file_name": "a"}]}, "bad-coco", "annotations"),
        (
            content(images=[{"id": 7, "file_name": "a", "split": "holdout"}], annotations=[]),
            "unknown-split",
            "image 1",
        ),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, value: object, code: str, where: str
) -> None:
    with pytest.raises(DataError, match=where, check=lambda error: error.code == code):
        formats.read(put(tmp_path / "a.json", value))


def test_broken_json_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [\n}')
    with pytest.raises(DataError, match="line 2, column 1", check=lambda error: error.code == "bad-json"):
        formats.read(path)


def test_categories_may_be_missing(tmp_path: Path) -> None:
    found = formats.read(put(tmp_path / "a.json", content(categories=[])))
    assert [each.label for each in found.records] == ["3", "4", ""]


def test_written(tmp_path: Path) -> None:
    rows = [
        record(
            draw(tmp_path / "a.png", (40, 30)),
            (1, 2, 3, 4.5),
            label="cat",
            split="val",
            source="me",
            note="x",
        ),
        record(tmp_path / "gone.png", None, source="you", group="g"),
    ]
    coco.write(tmp_path / "out.json", rows)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["images"] == [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30, "split": "val"},
        {"id": 2, "file_name": "gone.png", "group": "g", "source": "you"},
    ]
    (annotation,) = written["annotations"]
    assert annotation["bbox"] == [1, 2, 2, 2.5]
    assert annotation["area"] == 5
    assert written["categories"] == [{"id": 1, "name": "cat"}]
    first, second = formats.read(tmp_path / "out.json").records
    assert (first.split, first.source, first.extra) == ("val", "me", {"note": "x"})
    assert (second.box, second.group, second.source) == (None, "g", "you")
