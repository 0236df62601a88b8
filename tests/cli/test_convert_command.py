from pathlib import Path

import pytest
from PIL import Image

from solobox.cli.convert import convert
from solobox.data import formats
from solobox.errors import ConfigError, DataError


def labels(folder: Path, row: str = "a.png,1,2,30,20,train") -> Path:
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    path = folder / "labels.csv"
    path.write_text(f"image,x1,y1,x2,y2,split\n{row}\n")
    return path


def test_a_set_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "metadata.jsonl"
    convert(labels(tmp_path), out, to="hf")
    (record,) = formats.read(out).records
    assert (record.box, record.split) == ((1, 2, 29, 18), "train")
    convert(labels(tmp_path), tmp_path / "tasks.json", to="label-studio")
    assert "no room for: split" in "".join(capsys.readouterr())


def test_what_is_refused_leaves_no_file(tmp_path: Path) -> None:
    data, out = labels(tmp_path, "a.png,1,2,90,20,"), tmp_path / "out.json"
    with pytest.raises(DataError) as caught:
        convert(data, out, to="coco")
    assert caught.value.code == "data-errors"
    assert not out.exists()
    with pytest.raises(DataError) as caught:
        convert(data, data, to="csv", overwrite=True)
    assert caught.value.code == "output-is-input"
    with pytest.raises(ConfigError):
        convert(data, out, to="nothing")
