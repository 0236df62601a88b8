import csv
import shutil
from math import nan
from pathlib import Path

import pytest
from check_sets import ImageSet

from solobox.data import checks, formats
from solobox.errors import DataError


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    """Twelve fine records, then one of each thing that `fix` treats in its own way."""
    folder = tmp_path / "images"
    folder.mkdir()
    data = ImageSet(folder)
    data.fine(12)
    data.add("swapped.png", (60, 20, 10, 60), label="x", extra={"by": "Ann", "note": "a, b"})
    data.add("over.png", (10, 20, 101.5, 60))
    data.add("far.png", (10, 20, 160, 60))
    data.add("twice.png", (10, 20, 60, 60))
    data.add("twice.png", (10, 20, 60, 60))
    data.add("turned.jpg", (60, 10, 95, 50), size=(100, 60), orientation=6)
    data.add("nan.png", (nan, 1, 2, 3), text="?, 1, 2, 3")
    data.add("gone.png", (10, 20, 60, 60), draw=False)
    data.add("empty.png", None)
    data.add("small.png", (10, 20, 12, 60))
    return data


def left_out_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {line["image"]: line for line in csv.DictReader(file)}


def test_the_clean_copy_has_no_errors_left_and_keeps_all_else(data: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "fixed" / "clean.csv"
    annotations = data.annotations()
    report = checks.fix(checks.check(annotations), out)
    again = formats.read(out)
    assert not checks.check(again).errors
    boxes = {record.path.name: record.box for record in again.records}
    expected = {
        "swapped.png": (10, 20, 60, 60),
        "over.png": (10, 20, 100, 60),
        "turned.jpg": (10, 60, 50, 95),
        "empty.png": None,
        "small.png": (10, 20, 12, 60),
    }
    assert {name: boxes[name] for name in expected} == expected
    assert {"far.png", "nan.png", "gone.png"}.isdisjoint(boxes)
    assert [record.path.name for record in again.records].count("twice.png") == 1
    swapped = next(record for record in again.records if record.path.name == "swapped.png")
    assert (swapped.label, dict(swapped.extra)) == ("x", {"by": "Ann", "note": "a, b"})
    assert (report.n_kept, report.n_left_out, report.n_changed) == (len(again.records), 4, 3)
    assert report.n_kept + report.n_left_out == len(annotations.records)


def test_what_was_left_out_or_changed_is_listed_with_the_reason(data: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "clean.csv"
    report = checks.fix(data.check(), out)
    assert report.left_out == tmp_path / "clean.left-out.csv"
    story = left_out_of(report.left_out)
    assert {name: line["done"] for name, line in story.items()} == {
        "swapped.png": "changed",
        "over.png": "changed",
        "far.png": "left out",
        "twice.png": "left out",
        "turned.jpg": "changed",
        "nan.png": "left out",
        "gone.png": "left out",
    }
    assert story["far.png"]["code"] == "box-outside"
    assert "60 px out of the image" in story["far.png"]["why"]
    assert (story["nan.png"]["row"], story["nan.png"]["box_before"]) == ("20", "?, 1, 2, 3")
    assert story["over.png"]["box_after"] == "10, 20, 100, 60"
    assert sorted(path.name for path in tmp_path.glob("*.csv")) == ["clean.csv", "clean.left-out.csv"]


def test_two_mends_of_one_box_add_up(data: ImageSet, tmp_path: Path) -> None:
    data.add("both.png", (101, 20, 10, 60))
    report = checks.fix(data.check("headers"), tmp_path / "clean.csv")
    line = left_out_of(report.left_out)["both.png"]
    assert line["code"] == "corners-swapped; box-over-edge"
    assert line["box_after"] == "10, 20, 100, 60"


def test_a_file_of_fractions_is_converted(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    for number in range(12):
        data.add(f"{number}.png", (0.4, 0.25 + number / 80, 0.9, 0.75))
    data.add("flat.png", (0.4, 0.5, 0.9, 0.5))
    report = checks.fix(data.check(), tmp_path / "clean.csv")
    assert (report.n_kept, report.n_left_out, report.n_changed) == (12, 1, 12)
    again = formats.read(report.out)
    assert again.records[2].box == pytest.approx((40, 22, 90, 60))
    assert checks.check(again).findings == ()


def test_of_a_leak_the_test_part_is_kept(data: ImageSet, tmp_path: Path) -> None:
    box = (10.0, 20.0, 60.0, 60.0)
    data.add("a.png", box, split="train")
    data.add("b.png", box, split="test", group="ann")
    data.add("c.png", box, split="train", group="ann")
    shutil.copyfile(data.folder / "a.png", data.folder / "d.png")
    data.add("d.png", box, split="test")
    report = checks.fix(data.check(), tmp_path / "clean.csv")
    assert {"a.png", "c.png"} <= set(left_out_of(report.left_out))
    assert {"b.png", "d.png"} <= {record.path.name for record in formats.read(report.out).records}
    assert checks.check(formats.read(report.out)).errors == ()


def test_boxes_that_only_a_person_can_decide_are_left_out(data: ImageSet, tmp_path: Path) -> None:
    data.add("both.jpg", (10, 10, 50, 50), size=(100, 60), orientation=6)
    report = checks.fix(data.check("headers"), tmp_path / "clean.csv")
    assert left_out_of(report.left_out)["both.jpg"]["code"] == "maybe-unrotated"


def test_nothing_wrong_makes_an_equal_copy_and_an_empty_list(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.fine(4)
    report = checks.fix(data.check(), tmp_path / "clean.csv")
    assert [record.box for record in formats.read(report.out).records] == [
        record.box for record in data.records
    ]
    assert left_out_of(report.left_out) == {}


def test_the_original_is_never_replaced(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.fine(4)
    formats.write(tmp_path / "boxes.csv", data.records)
    before = (tmp_path / "boxes.csv").read_bytes()
    annotations = formats.read(tmp_path / "boxes.csv")
    diagnosis = checks.check(annotations)
    (tmp_path / "link.csv").symlink_to(tmp_path / "boxes.csv")
    for out in (tmp_path / "boxes.csv", tmp_path / "sub" / ".." / "boxes.csv", tmp_path / "link.csv"):
        with pytest.raises(DataError, check=lambda error: error.code == "output-is-input"):
            checks.fix(diagnosis, out)
    assert (tmp_path / "boxes.csv").read_bytes() == before
    assert not list(tmp_path.glob("*left-out*"))


def test_a_list_named_like_the_left_out_list_is_not_replaced_by_it(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.fine(4)
    formats.write(tmp_path / "boxes.left-out.csv", data.records)
    annotations = formats.read(tmp_path / "boxes.left-out.csv")
    with pytest.raises(DataError, check=lambda error: error.code == "output-is-input"):
        checks.fix(checks.check(annotations), tmp_path / "boxes.csv")


def test_only_a_csv_is_written(data: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, check=lambda error: error.code == "not-csv"):
        checks.fix(data.check("headers"), tmp_path / "clean.json")


def test_when_nothing_would_be_left_nothing_is_written(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.add("gone.png", (10, 20, 60, 60), draw=False)
    with pytest.raises(DataError, check=lambda error: error.code == "nothing-left"):
        checks.fix(data.check(), tmp_path / "out" / "clean.csv")
    assert list(tmp_path.iterdir()) == []


def test_when_the_copy_cannot_be_written_its_list_is_not_either(data: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "clean.csv").mkdir()
    with pytest.raises(DataError):
        checks.fix(data.check("headers"), tmp_path / "clean.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.csv", "images"]
