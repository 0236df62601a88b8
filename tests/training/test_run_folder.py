from pathlib import Path

import pytest

from solobox import synthetic
from solobox.errors import ConfigError
from solobox.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    DATA_SOURCE,
    DataSource,
    must_be_unfinished,
    must_be_vacant,
)


def test_a_data_source_comes_back_with_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = synthetic.write(tmp_path / "drawn", 4, seed=1, size=(32, 24))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "drawn" / "annotations.csv").rename(tmp_path / "elsewhere" / "labels.csv")
    monkeypatch.chdir(tmp_path)
    source = DataSource(Path("elsewhere/labels.csv"), images=Path("drawn"), keep="first", skip_bad=True)
    source.save(tmp_path / "run")
    monkeypatch.chdir("/")
    loaded = DataSource.load(tmp_path / "run")
    labels = tmp_path / "elsewhere" / "labels.csv"
    assert loaded == DataSource(labels, tmp_path / "drawn", "first", skip_bad=True)
    assert loaded.read().images == drawn.images
    assert loaded.to_args() == [
        str(labels), "--images", str(tmp_path / "drawn"), "--keep", "first", "--skip-bad"
    ]  # fmt: skip
    assert DataSource(labels).to_args() == [str(labels)]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"data": 1, "images": null}'])
def test_a_missing_or_damaged_data_source_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / DATA_SOURCE).write_text(content)
    with pytest.raises(ConfigError) as error:
        DataSource.load(tmp_path)
    assert error.value.code == "data-source-missing"


@pytest.mark.parametrize(
    ("files", "to_start", "to_resume"),
    [
        ([], None, "run-missing"),
        ([CHECKPOINT], "run-unfinished", None),
        ([CHECKPOINT, CONFIG], "run-exists", "run-finished"),
    ],
)
def test_what_a_folder_is_fit_for(
    tmp_path: Path, files: list[str], to_start: str | None, to_resume: str | None
) -> None:
    for name in files:
        (tmp_path / name).touch()
    for check, code in ((must_be_vacant, to_start), (must_be_unfinished, to_resume)):
        if code is None:
            check(tmp_path)
        else:
            with pytest.raises(ConfigError) as error:
                check(tmp_path)
            assert error.value.code == code
