"""``solobox curve``, as a person runs it."""

import csv
from pathlib import Path

from command_process import solobox, solobox_here
from defusedxml import ElementTree
from test_commands import SMALL

from solobox import synthetic


def test_it_says_what_twice_as_many_labels_would_bring(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "drawn", 24, seed=9, size=(96, 72))
    table, plot = tmp_path / "curve.csv", tmp_path / "curve.svg"
    done = solobox(
        "curve", tmp_path / "drawn" / "annotations.csv", "-o", table, "--plot", plot, "--repetitions", "3", *SMALL,
        brief=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["images"], row["kind"]) for row in rows] == [
        *((size, "measured") for size in ("3", "6", "12", "16")), ("24", "expected"), ("48", "expected"),
    ]  # fmt: skip
    for row in rows:
        assert f"{float(row['mean_iou']):.3f}" in done.stdout
    assert "wice as many labels (48 images)" in done.stdout
    root = ElementTree.fromstring(plot.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in plot.read_text()
    words = {text for element in root.iter() if (text := (element.text or "").strip())}
    assert {"3", "24", "48", "labelled images", "mean IoU", "measured", "expected"} <= words


def test_too_few_images_and_knobs_without_a_use_are_refused(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "drawn", 9, seed=9, size=(96, 72))
    data = tmp_path / "drawn" / "annotations.csv"
    done = solobox_here("curve", data, "-o", tmp_path / "curve.csv")
    assert done.returncode == 2
    assert "9 images with a box that can be read are too few" in done.stderr
    assert not (tmp_path / "curve.csv").exists()
    done = solobox_here("curve", data, "--finetune-epochs", "2")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
