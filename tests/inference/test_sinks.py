import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from solobox.inference.sinks import Columns, write_csv
from solobox.prediction import Prediction

FOUND = [
    Prediction("a, with a comma.jpg", np.array([1.0, 2.5, 30.125, 40.0]), (50, 60)),
    Prediction("b.jpg", error='broken "header"'),
]


def test_a_row_for_each_prediction_and_each_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    assert list(write_csv(path, FOUND)) == FOUND
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == Columns().names
    assert rows[1] == ["a, with a comma.jpg", "1.00", "2.50", "30.12", "40.00", ""]
    assert rows[2] == ["b.jpg", "", "", "", "", 'broken "header"']


def test_a_run_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("old")

    def breaking() -> Iterator[Prediction]:
        yield FOUND[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        list(write_csv(path, breaking()))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["boxes.csv"]
