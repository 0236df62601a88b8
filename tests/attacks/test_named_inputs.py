"""Inputs that do not exist, and names that are not UTF-8."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from error_codes import has_code
from solobox import autolabel
from solobox.cli import predict as command
from solobox.cli import predict_jobs
from solobox.errors import DataError
from solobox.predict import plan
from stand_in_predictor import WholeImage

BAD = os.fsdecode(b"b\xff.jpg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(predict_jobs, "load", lambda *_: WholeImage())
    monkeypatch.setattr(plan, "model_fingerprint", lambda _: "f" * 64)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", BAD, "c.jpg"):
        try:
            Image.new("RGB", (30, 20)).save(tmp_path / "in" / name)
        except OSError:
            pytest.skip("this disk takes only names that are UTF-8")
    return tmp_path


@pytest.mark.parametrize("name", ["lost.jpg", "in/lost.png", "lost", "file://lost.jpg", BAD])
def test_a_named_image_that_does_not_exist_is_refused_before_any_work(folder: Path, name: str) -> None:
    with pytest.raises(DataError, check=has_code("not-found")):
        command.predict("model", ["in/a.jpg", name], output=folder / "boxes.csv")
    assert [path.name for path in folder.iterdir()] == ["in"]


def test_the_command_ends_with_status_2(folder: Path) -> None:
    for words in (["predict", "model.onnx", BAD], ["autolabel", BAD, "-o", "boxes.csv"]):
        done = subprocess.run(
            [sys.executable, "-c", "from solobox.cli import main; main()", *words],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, "error[not-found]" in done.stderr) == (2, True), done.stderr
        assert not done.stdout


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".json"])
def test_a_name_that_is_not_utf8_has_a_row_with_the_reason(folder: Path, ending: str) -> None:
    output = folder / f"boxes{ending}"
    assert command.predict("model", ["in"], output=output, draw=folder / "drawn", resume=True) == 1
    if ending == ".csv":
        with output.open(newline="", encoding="utf-8") as file:
            found = [(row["image"], row["x2"], "UTF-8" in row["error"]) for row in csv.DictReader(file)]
        good = [(f"in/{name}.jpg", "30.00", False) for name in "ac"]
        assert found == [good[0], ("in/b\\xff.jpg", "", True), good[1]]


def test_first_labels_reject_it(folder: Path) -> None:
    box = autolabel.Candidate((1, 2, 11, 12), 1.0)
    images = [autolabel.ImageCandidates(folder / "in" / name, (box,)) for name in ("a.jpg", BAD)]
    report = autolabel.write(images, folder / "boxes.csv", "me")
    assert (report.n_labelled, report.n_failed) == (1, 1)
    assert "in/b\\xff.jpg" in report.rejected.read_text(encoding="utf-8")


@pytest.mark.parametrize("box", ["0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0 0.5"])
def test_labels_of_it_are_checked_and_left_out_of_a_copy_or_refused(folder: Path, box: str) -> None:
    """As in YOLO's folders, where images are not named in a text."""
    data = folder / "data"
    shutil.copytree(folder / "in", data / "images")
    (data / "labels").mkdir()
    for number, name in enumerate(("a.jpg", BAD, "c.jpg")):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(data / "images" / name)
        line = box if name == BAD else "0 0.5 0.5 0.5 0.5"
        (data / "labels" / name).with_suffix(".txt").write_text(line)
    (data / "data.yaml").write_text("train: images\nnames: [thing]\n")
    done = subprocess.run(
        [sys.executable, "-c", "from solobox.cli import main; main()", "check", "data", "--fix", "clean.csv"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if box == "0 0.5 0.5 0.5 0.5":
        assert (done.returncode, "error[name-not-utf8]" in done.stderr) == (2, True), done.stderr
        assert not list(folder.glob("*.csv"))
    else:
        assert done.returncode == 1
        assert "images/b\\xff.jpg" in (folder / "clean.left-out.csv").read_text(encoding="utf-8")
