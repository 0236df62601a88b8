import shutil
from pathlib import Path

import pytest
from check_sets import ImageSet

from solobox.data import checks
from solobox.data.formats.records import Annotations

A, B = (10.0, 35.0, 55.0, 65.0), (60.0, 10.0, 95.0, 40.0)
NEAR_A = (12.0, 33.0, 58.0, 64.0)


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    data = ImageSet(tmp_path)
    data.fine(6)
    return data


def twin(data: ImageSet, of: str, name: str) -> None:
    shutil.copyfile(data.folder / of, data.folder / name)


def test_no_records_at_all(tmp_path: Path) -> None:
    (finding,) = checks.check(Annotations(tmp_path / "boxes.csv", "csv", "", ())).findings
    assert (finding.code, finding.level) == ("no-records", "error")


def test_no_boxes_at_all(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.add("a.png", None)
    data.add("b.png", None)
    assert (data.only().code, data.only().level) == ("no-boxes", "error")
    data.add("c.png", A)
    assert data.codes() == []


def test_two_objects_in_one_image_are_several_boxes(data: ImageSet) -> None:
    data.add("a.png", A)
    data.add("a.png", B)
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.row) == ("several-boxes", "warning", 8)
    assert "2 boxes" in finding.message
    assert diagnosis.bad_rows == ()
    assert diagnosis.n_images == 7


def test_two_boxes_around_one_thing_contradict_each_other(data: ImageSet) -> None:
    data.add("a.png", A)
    data.add("a.png", NEAR_A)
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level) == ("conflicting-boxes", "error")
    assert "row 9" in finding.message
    assert diagnosis.bad_rows == (6, 7)


@pytest.mark.parametrize("name", ["voc", "coco", "yolo"])
def test_where_many_objects_are_natural_they_may_overlap(tmp_path: Path, name: str) -> None:
    data = ImageSet(tmp_path, name)
    data.add("a.png", A)
    data.add("a.png", NEAR_A)
    assert data.codes() == ["several-boxes"]


def test_one_box_with_two_labels_contradicts_itself(data: ImageSet) -> None:
    data.add("a.png", A, label="cat")
    data.add("a.png", A, label="dog")
    assert data.codes() == ["conflicting-boxes"]


def test_with_and_without_a_box_is_a_contradiction(data: ImageSet) -> None:
    data.add("a.png", A)
    data.add("a.png", None)
    assert data.codes() == ["conflicting-boxes"]
    assert data.check().bad_rows == (6, 7)


def test_a_row_twice_is_told_once(data: ImageSet) -> None:
    data.add("a.png", A)
    data.add("a.png", A)
    finding = data.only()
    assert (finding.code, finding.level, finding.row) == ("duplicate-row", "warning", 9)
    assert "row 8" in finding.message


def test_a_negative_twice_is_a_duplicate(data: ImageSet) -> None:
    data.add("a.png", None)
    data.add("a.png", None)
    assert data.codes() == ["duplicate-row"]


def test_two_spellings_of_a_path_are_one_image(data: ImageSet) -> None:
    data.add("a.png", A)
    data.add("./a.png", A)
    data.add("sub/../a.png", A, draw=False)
    assert data.codes() == ["duplicate-row"] * 2


@pytest.mark.parametrize("guarded", ["test", "val"])
def test_the_same_bytes_in_train_and_test(data: ImageSet, guarded: str) -> None:
    data.add("a.png", A, split=guarded)
    twin(data, "a.png", "b.png")
    data.add("b.png", A, split="train")
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.image) == ("leaked-image", "error", "b.png")
    assert "a.png" in finding.message
    assert guarded in finding.message
    assert diagnosis.bad_rows == (7,)  # the test image stays
    assert data.codes("headers") == []


def test_the_same_path_in_train_and_test_is_found_without_reading(data: ImageSet) -> None:
    data.add("a.png", A, split="train")
    data.add("a.png", A, split="test")
    assert data.codes("numbers") == ["leaked-image"]
    assert data.check("numbers").bad_rows == (6,)


def test_the_same_bytes_within_a_split_are_a_warning(data: ImageSet) -> None:
    data.add("a.png", A, split="train")
    twin(data, "a.png", "b.png")
    data.add("b.png", A, split="train")
    finding = data.only()
    assert (finding.code, finding.level, finding.image) == ("same-bytes", "warning", "b.png")
    assert "another box" not in finding.message


def test_the_same_bytes_with_another_box_say_so(data: ImageSet) -> None:
    data.add("a.png", A)
    twin(data, "a.png", "b.png")
    data.add("b.png", B)
    assert "another box" in data.only().message


def test_a_row_without_a_split_is_trained_on_where_others_have_one(data: ImageSet) -> None:
    data.add("a.png", A, split="test")
    twin(data, "a.png", "b.png")
    data.add("b.png", A)
    finding = data.only()
    assert (finding.code, finding.image) == ("leaked-image", "b.png")
    assert "no split is given" in finding.message


def test_a_row_without_a_split_goes_with_its_group_or_its_image(data: ImageSet) -> None:
    data.add("a.png", A, split="test", group="ann")
    twin(data, "a.png", "b.png")
    data.add("b.png", A, group="ann")
    data.add("c.png", A, split="test")
    data.add("c.png", B)
    assert data.codes() == ["same-bytes", "several-boxes"]


def test_a_group_in_two_splits(data: ImageSet) -> None:
    data.add("a.png", A, split="train", group="ann")
    data.add("b.png", A, split="test", group="ann")
    data.add("c.png", A, split="train", group="ann")
    data.add("d.png", A, split="train", group="bob")
    data.add("e.png", A, group="bob")
    diagnosis = data.check()
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.image) == ("leaked-group", "error", "a.png")
    assert "'ann'" in finding.message
    assert "train (2), test (1)" in finding.message
    assert diagnosis.bad_rows == (6, 8)


def test_images_of_no_group_are_no_group(data: ImageSet) -> None:
    data.add("a.png", A, split="train")
    data.add("b.png", A, split="test")
    assert data.codes() == []
