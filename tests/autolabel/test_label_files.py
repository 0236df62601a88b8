import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from solobox import Dataset
from solobox.autolabel import Candidate, ImageCandidates, write
from solobox.errors import DataError

BEST, RIVAL, WEAK = (
    Candidate((1, 2, 11.126, 12), 5), Candidate((20, 3, 39, 29), 4.9), Candidate((20, 3, 39, 29), 1),
)  # fmt: skip


def results(folder: Path) -> list[ImageCandidates]:
    return [
        ImageCandidates(folder / "in" / "a.jpg", (WEAK, BEST)),
        ImageCandidates(folder / "in" / "b.jpg"),
        ImageCandidates(folder / "in" / "c.jpg", (RIVAL, BEST)),
        ImageCandidates(folder / "in" / "d.jpg", error="cannot be read: d.jpg: the file is empty"),
        ImageCandidates(folder / "in" / "e.jpg", (RIVAL,)),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_image_is_in_one_of_the_two_files(tmp_path: Path) -> None:
    out = tmp_path / "labels" / "boxes.csv"
    report = write(results(tmp_path), out, "haar:frontalface")
    boxes, rejected = rows(out), rows(report.rejected)
    assert report.rejected == tmp_path / "labels" / "boxes.rejected.csv"
    assert list(boxes[0]) == ["image", "x1", "y1", "x2", "y2", "source", "score"]
    assert list(boxes[0].values()) == ["../in/a.jpg", "1", "2", "11.13", "12", "haar:frontalface", "5"]
    assert [row["image"] for row in boxes] == ["../in/a.jpg", "../in/e.jpg"]
    assert [row["image"] for row in rejected] == ["../in/b.jpg", "../in/c.jpg", "../in/d.jpg"]
    assert [row["count"] for row in rejected] == ["0", "2", "0"]
    assert json.loads(rejected[1]["candidates"]) == [[1, 2, 11.13, 12, 5], [20, 3, 39, 29, 4.9]]
    assert rejected[0]["reason"] == "nothing found"
    assert rejected[2]["reason"].endswith("the file is empty")
    assert (report.n_labelled, report.n_nothing, report.n_several, report.n_failed) == (2, 1, 1, 1)
    assert report.first_error == rejected[2]["reason"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["boxes.csv", "boxes.rejected.csv"]


def test_what_is_written_can_be_trained_on(tmp_path: Path) -> None:
    write(results(tmp_path), tmp_path / "boxes.csv", "mine:find", label="face")
    dataset = Dataset.read(tmp_path / "boxes.csv", check="off")
    assert dataset.boxes.tolist() == [[1, 2, 11.13, 12], [20, 3, 39, 29]]
    assert set(dataset.source) == {"mine:find"}
    assert set(dataset.label) == {"face"}
    assert dataset.extra == {"score": ("5", "4.9")}
    assert dataset.paths[0].resolve() == (tmp_path / "in" / "a.jpg").resolve()


def test_what_breaks_on_the_way_leaves_both_files_as_they_were(tmp_path: Path) -> None:
    def breaks() -> Iterator[ImageCandidates]:
        yield from results(tmp_path)
        raise KeyboardInterrupt

    for name in ("boxes.csv", "boxes.rejected.csv"):
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write(breaks(), tmp_path / "boxes.csv", "x")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "boxes.csv": "old", "boxes.rejected.csv": "old",
    }  # fmt: skip


def test_another_format_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    images = iter(results(tmp_path))
    with pytest.raises(DataError) as caught:
        write(images, tmp_path / "boxes.json", "x")
    assert caught.value.code == "format-unknown"
    assert len(list(images)) == 5
