"""``train --folds``: what heads say of images that they did not learn from."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_process import solobox, solobox_here
from test_commands import SMALL

from solobox import synthetic
from solobox.evaluation.bootstrap import mean_intervals


def test_folds_are_measured_with_an_interval_over_groups(tmp_path: Path) -> None:
    dataset = synthetic.write(tmp_path / "drawn", 36, seed=3, size=(96, 72))
    films = tuple("" if row < 12 else f"film {row // 3}" for row in range(36))
    replace(dataset, group=films).write(tmp_path / "data.csv")
    run = tmp_path / "run"
    done = solobox("train", tmp_path / "data.csv", "-o", run, *SMALL, "--folds", "3", brief=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((run / "out_of_fold.csv").read_text().splitlines()))
    groups = [row["group"] for row in rows]
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row["group"] or row["image"], set()).add(row["fold"])
    assert all(len(numbers) == 1 for numbers in folds.values())
    assert set().union(*folds.values()) == {"0", "1", "2"}
    iou = np.array([float(row["iou"]) for row in rows])
    line = next(line for line in done.stdout.splitlines() if line.startswith("out of fold"))
    said = [float(number) for number in re.findall(r"\b[01]\.\d{3}\b", line)]
    (wanted,) = mean_intervals(iou[:, None], groups)
    assert said == pytest.approx([iou.mean(), wanted.lower, wanted.upper], abs=0.0006)
    assert said[1] < said[0] < said[2]
    assert f"{len(rows)} images in {len(folds)} groups in 3 folds" in line


def test_folds_that_the_groups_do_not_fill_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "drawn", 6, seed=3, size=(96, 72))
    done = solobox_here(
        "train", tmp_path / "drawn" / "annotations.csv", "-o", tmp_path / "run", *SMALL, "--folds", "9"
    )
    assert done.returncode == 2
    assert "error[too-few-groups]" in done.stderr
    assert "out of fold" not in done.stdout
