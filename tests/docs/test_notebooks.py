"""The notebooks of the documentation run from their first cell to their last, as plain Python."""

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.py"))


@pytest.mark.usefixtures("few_steps", "without_openvino")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(path))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) > 3
    assert (tmp_path / "notebook" / "run" / "config.json").is_file()
    if path.stem == "train-look-export":
        assert (tmp_path / "notebook" / "report.html").stat().st_size > 0
        assert 0 < names["evaluation"].metrics.mean_iou <= 1
    else:
        assert names["widths"][0] > 0
        # The spoiled labels are among the worst; of so small and quick a model not always all of them.
        assert len(names["found"] & set(names["spoiled"])) >= 2


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["margins-and-review", "train-look-export"]
