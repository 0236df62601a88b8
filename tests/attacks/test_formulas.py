"""Names that a spreadsheet would run as formulas: escaped in every CSV, and read back as they were."""

import csv
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from solobox import Dataset, autolabel
from solobox.cli import predict as command
from solobox.cli import predict_jobs
from solobox.cli.check import check
from solobox.data import formats
from solobox.predict import plan
from solobox.predict.inputs import expand
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.utils.text import escape_cell, unescape_cell
from stand_in_predictor import StandIn

DANGEROUS = "=+-@\t\r\n＝＋－＠"
NAMES = (
    "=1+1.jpg",
    "+a.jpg",
    "-a.jpg",
    "@SUM(A1).jpg",
    "'=1+1.jpg",
    "''-a.jpg",
    "'a.jpg",
    "a=.jpg",
    "-5.jpg",
)


def harmless(cell: str) -> bool:
    """Whether a spreadsheet shows the cell as text or a number."""
    with suppress(ValueError):
        return math.isfinite(float(cell))
    return cell[:1] not in set(DANGEROUS)


@given(st.text(alphabet=f"'{DANGEROUS}ab1. ", max_size=6))
@example("'=")
@example("-1e5")
def test_an_escaped_cell_is_harmless_and_reads_back(text: str) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert harmless(cell)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


class Whole(StandIn):
    """The box is the whole image."""

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        for name in images:
            yield Prediction(name, np.array([-4, 0, 30, 20.0]), (30, 20))


def cells(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_rows_of_predict(folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str, raw: bool) -> None:
    monkeypatch.setattr(predict_jobs, "load", lambda *_: Whole())
    monkeypatch.setattr(plan, "model_fingerprint", lambda _: "f" * 64)
    monkeypatch.chdir(folder)
    output = folder / f"boxes{ending}"
    assert command.predict("model", ["."], output=output, raw=raw) == 0
    if ending == ".jsonl":
        assert '"image": "=1+1.jpg"' in output.read_text()
        return
    assert all(map(harmless, cells(output))) is not raw
    assert "-4.00" in cells(output)
    named = {Path(name).name for name in expand([output])}
    # In a raw file '=1+1.jpg and =1+1.jpg, which both exist, cannot be told apart.
    assert named == set(NAMES) - ({"'=1+1.jpg"} if raw else set())


def test_labels_and_their_other_columns(folder: Path, tmp_path: Path) -> None:
    paths = [folder / name for name in NAMES]
    texts = ["=cmd|'/c calc'!A1", "@x", "-1", "'=x", "", "'x", "+", "-x", "2"]
    data = Dataset(
        paths, [[1, 2, 10, 12]] * len(paths), group=texts, label=texts, extra={"=note": tuple(texts)}
    )
    for kind, path in (("csv", folder / "labels.csv"), ("article", folder / "article.csv")):
        data.write(path, kind)
        assert all(map(harmless, cells(path)))
        back = formats.read(path).records
        assert [record.path for record in back] == paths
        if kind == "csv":
            assert [record.group for record in back] == [record.label for record in back] == texts
            assert [record.extra["=note"] for record in back] == texts
    assert check(folder / "labels.csv", fix=tmp_path / "in" / "clean.csv") == 0
    assert all(map(harmless, cells(folder / "clean.csv")))
    assert [record.path for record in formats.read(folder / "clean.csv").records] == paths


def test_a_file_that_nothing_escaped_names_what_exists(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "'=a.jpg")
    (tmp_path / "labels.csv").write_text("image,x1,y1,x2,y2\n'=a.jpg,1,2,3,4\n'=b.jpg,1,2,3,4\n")
    names = [record.path.name for record in formats.read(tmp_path / "labels.csv").records]
    assert names == [Path(name).name for name in expand([tmp_path / "labels.csv"])] == ["'=a.jpg", "=b.jpg"]


def test_first_labels(folder: Path) -> None:
    found = [autolabel.ImageCandidates(folder / name, (), "") for name in NAMES]
    found[0] = autolabel.ImageCandidates(folder / NAMES[0], (), "=why")
    report = autolabel.write(found, folder / "boxes.csv", "=source")
    assert all(map(harmless, cells(report.rejected)))
    assert [Path(name).name for name in expand([report.rejected])] == list(NAMES)
    raw = autolabel.write(found, folder / "boxes.csv", "=source", raw=True)
    assert "=1+1.jpg" in cells(raw.rejected)
