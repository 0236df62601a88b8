import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solobox.cli import predict as command
from solobox.cli.predict import predict
from solobox.cli.predict_model import Predictor
from solobox.errors import ConfigError, DataError, ImageError
from solobox.images.reading import probe
from solobox.predict.prediction import Prediction
from solobox.predict.writers import resume

MODEL = Path("model")


def _stream(
    inputs: Iterable[str], *, level: float | None = None, outer: bool = False
) -> Iterator[Prediction]:
    """The box in the middle; the object is there where the image's name has an even number."""
    if level == 0.99:
        raise ConfigError("need 99 held-out images")
    return map(_one, inputs)


def _one(name: str) -> Prediction:
    try:
        width, height = probe(name).size
    except ImageError as error:
        return Prediction(name, error=str(error))
    box = np.array([width / 4, height / 4, width / 2, height / 2])
    presence = 0.9 if int(Path(name).stem[-1]) % 2 == 0 else 0.2
    return Prediction(
        name, box, (width, height), lower=box - 2, upper=box + 2, presence=presence, familiarity=0.5
    )


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load", lambda *_: Predictor(_stream, True, True, "f" * 64))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (80, 40), (10, 60 * number, 90)).save(folder / f"{number}.jpg")
    (folder / "5.png").write_bytes(b"no image")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_every_input_has_its_row_and_only_the_output_is_left(
    photos: Path, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"boxes{ending}"
    assert predict(MODEL, [str(photos), str(tmp_path / "lost.jpg")], output=output) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, "photos"])
    if ending == ".csv":
        found = [(Path(row["image"]).name, row["x1"], bool(row["error"])) for row in rows(output)]
        assert found == [(f"{n}.jpg", "20.00", False) for n in range(4)] + [
            ("5.png", "", True),
            ("lost.jpg", "", True),
        ]


def test_cocos_results_and_how_many_are_not_in_them(photos: Path, tmp_path: Path, capsys: Any) -> None:
    images = [{"id": 10 + n, "file_name": f"{n}.jpg"} for n in range(4)] + [{"id": 15, "file_name": "5.png"}]
    content = {
        "images": images,
        "annotations": [],
        "categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    output = tmp_path / "boxes.json"
    status = predict(MODEL, [str(photos)], output=output, min_presence=0.5, coco_ids=tmp_path / "a.json")
    assert status == 1
    entry = {"category_id": 3, "bbox": [20.0, 10.0, 20.0, 10.0], "score": 0.9}
    assert json.loads(output.read_text()) == [{"image_id": 10} | entry, {"image_id": 12} | entry]
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of 5 images have no entry: 2 without the object, 1 that could not be read" in said
    assert "useCats=0" in said


def test_crops_and_drawn_images(photos: Path, tmp_path: Path) -> None:
    folders: dict[str, Any] = {"draw": tmp_path / "drawn", "crop": tmp_path / "crops"}
    output = photos / "boxes.csv"  # in the folder of the images, which is fine
    assert predict(MODEL, [str(photos)], output=output, pad=0.1, outer=0.9, min_presence=0.5, **folders) == 1
    assert sorted(path.name for path in folders["crop"].iterdir()) == ["0.jpg", "2.jpg"]
    assert sorted(path.name for path in folders["draw"].iterdir()) == [f"{n}.jpg" for n in range(4)]
    with Image.open(folders["crop"] / "0.jpg") as image:
        assert image.size == (30, 18)  # 24 by 14 with margins, and a tenth on each side
    assert [row["x1_outer"] for row in rows(output)] == ["18.00", "", "18.00", "", ""]


def test_rows_are_printed_where_no_file_is_named(photos: Path, capsys: Any) -> None:
    assert predict(MODEL, [str(photos / "0.jpg")]) == 0
    assert capsys.readouterr().out == (
        f"image,x1,y1,x2,y2,presence,familiarity,error\n{photos}/0.jpg,20.00,10.00,40.00,20.00,0.9000,0.5000,\n"
    )


def test_the_rate_is_shown(photos: Path, tmp_path: Path, capsys: Any) -> None:
    predict(MODEL, [str(photos)], output=tmp_path / "b.csv")
    assert "images/s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "b.txt"}, r"\.csv, \.jsonl, \.parquet, \.json"),
        ({"resume": True}, "needs the -o"),
        ({"output": "b.csv", "coco_ids": "a.json"}, "-o NAME.json"),
        ({"pad": 0.1}, "--pad belongs to --crop"),
        ({"crop": "c", "pad": -0.1}, "from 0 to 10"),
        ({"crop": "c", "pad": float("nan")}, "from 0 to 10"),
        ({"min_presence": float("nan")}, "from 0 to 1"),
        ({"margins": 0.99, "output": "b.csv"}, "need 99"),
        ({"crop": "photos"}, "--crop .*photos holds some of these images"),
        ({"draw": "photos/drawn"}, "--draw .* the next time"),
        ({"draw": "d", "crop": "d"}, "--draw and --crop are the same folder"),
        ({"draw": "d.csv", "output": "d.csv"}, "are the same"),
        ({"output": "photos"}, "no ending"),
        ({"output": "folder.csv"}, "is a folder"),
        ({"output": "input.csv"}, "is one of the inputs"),
        ({"crop": "input.csv"}, "is a file"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    photos: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "input.csv").write_text("no image")
    before = sorted(tmp_path.rglob("*"))
    given: dict[str, Any] = {
        name: tmp_path / value if isinstance(value, str) else value for name, value in options.items()
    }
    with pytest.raises((ConfigError, DataError), match=says):
        predict(MODEL, [str(photos), str(tmp_path / "input.csv")], **given)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "input.csv").read_text() == "no image"


def test_a_name_that_is_no_utf8_is_told_before_hours_of_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rename it"):
        predict(MODEL, [os.fsdecode(b"\xff1.jpg")], output=tmp_path / "b.csv")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(resume, "TOGETHER", 2)
    output, inputs, crop = tmp_path / "b.csv", [str(photos)], tmp_path / "crops"

    def stopping(names: Iterable[str], **options: Any) -> Iterator[Prediction]:
        for number, prediction in enumerate(_stream(names)):
            if number == 3:
                raise KeyboardInterrupt
            yield prediction

    with monkeypatch.context() as patch:
        patch.setattr(command, "load", lambda *_: Predictor(stopping, True, True, "f" * 64))
        with pytest.raises(KeyboardInterrupt):
            predict(MODEL, inputs, output=output)
    # Of crops a few images are in work at once; of rows alone it is the third that was not kept.
    assert "2 of 5 rows are kept: the same command with --resume goes on" in capsys.readouterr().err
    with pytest.raises(DataError, match="--resume"):
        predict(MODEL, inputs, output=output)
    with pytest.raises(ConfigError, match=r"--crop was not given and is .*crops"):
        predict(MODEL, inputs, output=output, crop=crop, resume=True)
    Image.new("RGB", (9, 9)).save(photos / "9.jpg")
    with pytest.raises(ConfigError, match="the list of images changed"):
        predict(MODEL, inputs, output=output, resume=True)
    (photos / "9.jpg").unlink()
    predict(MODEL, inputs, output=output, resume=True)
    assert "going on after 2 of 5 images" in capsys.readouterr().err
    predict(MODEL, inputs, output=tmp_path / "whole.csv")
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.csv", "photos", "whole.csv"]


def test_a_trained_run_and_its_export_give_the_same_rows(tmp_path: Path) -> None:
    """By the command itself; the exported file where PyTorch cannot be imported."""
    from solobox import Architecture, Localizer
    from solobox.export import export

    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 9, 3), dtype=np.uint8))
        coarse.resize((180, 120), Image.Resampling.BICUBIC).save(images / f"{number}.jpg")
    shutil.copy(images / "0.jpg", tmp_path / "broken.jpg")
    (tmp_path / "broken.jpg").write_bytes((images / "0.jpg").read_bytes()[:300])
    localizer = Localizer(Architecture(backbone="test_efficientnet", size=64, width=16, bins=8)).eval()
    localizer.save(tmp_path / "run")
    made = export(localizer, tmp_path / "model.onnx").path
    tables = []
    for model, blocked in ((tmp_path / "run", ""), (made, "sys.modules['torch'] = None\n")):
        output = tmp_path / f"{model.name}.csv"
        code = f"import sys\n{blocked}from solobox.cli import main\nmain()"
        words = ["predict", model, images, tmp_path / "broken.jpg", "-o", output]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        tables.append(rows(output))
    assert len(tables[0]) == 7
    assert [(row["image"], row["error"]) for row in tables[0]] == [
        (row["image"], row["error"]) for row in tables[1]
    ]
    assert [list(row) for row in tables[0]] == [list(row) for row in tables[1]]
    for one, other in zip(*tables, strict=True):
        for edge in ("x1", "y1", "x2", "y2"):
            assert one[edge] == other[edge] == "" or abs(float(one[edge]) - float(other[edge])) < 0.015
