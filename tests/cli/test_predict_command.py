import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from error_codes import has_code
from solobox.cli import predict_jobs
from solobox.cli.predict import predict
from solobox.errors import ConfigError, DataError, ImageError
from solobox.images.reading import probe, read
from solobox.predict import output_file, plan
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from stand_in_predictor import StandIn

MODEL = Path("model")


class Middle(StandIn):
    """The box in the middle; the object is there where the image's name has an even number."""

    def check(self, options: PredictOptions) -> PredictOptions:
        if options.level == 0.99:
            raise ConfigError("need 99 held-out images", code="margins-need-more-images")
        return options

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        return map(_one, images)


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
    monkeypatch.setattr(predict_jobs, "load", lambda *_: Middle())
    monkeypatch.setattr(plan, "model_fingerprint", lambda _: "f" * 64)


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
    (tmp_path / "list.txt").write_text("lost.jpg\n")
    assert predict(MODEL, [str(photos), str(tmp_path / "list.txt")], output=output) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, "list.txt", "photos"])
    if ending == ".csv":
        found = [(Path(row["image"]).name, row["x1"], bool(row["error"])) for row in rows(output)]
        assert found == [(f"{n}.jpg", "20.00", False) for n in range(4)] + [
            ("5.png", "", True),
            ("lost.jpg", "", True),
        ]


def test_absence_has_a_row_and_litter_is_counted(photos: Path, tmp_path: Path, capsys: Any) -> None:
    (photos / "6.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (photos / "7.jxl").write_bytes(b"\xff\x0a")
    (photos / "8.jpg").symlink_to(photos / "gone.jpg")
    for name in ("._0.jpg", "Thumbs.db", "notes.md"):
        (photos / name).write_text("x")
    output = tmp_path / "b.csv"
    assert predict(MODEL, [str(photos)], output=output) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "4 of 8 images could not be read" in said
    assert "left out of the folders: 2 hidden or system files and folders, 1 file that is no image" in said
    errors = {Path(row["image"]).name: row["error"] for row in rows(output) if row["error"]}
    assert list(errors) == ["5.png", "6.heic", "7.jxl", "8.jpg"]
    for name, why in (("6.heic", "damaged"), ("7.jxl", "JPEG XL"), ("8.jpg", "broken link")):
        assert why in errors[name]
    whole = output.read_bytes()
    predict(MODEL, [str(photos)], output=output, overwrite=True)
    assert output.read_bytes() == whole


def test_max_pixels_raises_the_limit_and_belongs_to_the_plan(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", "100")
    (photos / "5.png").unlink()
    Image.new("RGB", (80, 40)).save(photos / "6.png")
    output = tmp_path / "b.csv"
    assert predict(MODEL, [str(photos)], output=output) == 1
    assert all("--max-pixels 3200" in row["error"] for row in rows(output))
    assert predict(MODEL, [str(photos)], output=output, overwrite=True, max_pixels=3200) == 0
    assert os.environ["SOLOBOX_MAX_PIXELS"] == "3200"


def test_labels_are_a_list_of_their_images(photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("image,x1,y1,x2,y2\nphotos/1.jpg,1,1,5,5\nphotos/0.jpg,1,1,5,5\nphotos/1.jpg,2,2,7,7\n")
    assert predict(MODEL, [str(labels)], output=tmp_path / "b.csv") == 0
    assert [Path(row["image"]).name for row in rows(tmp_path / "b.csv")] == ["1.jpg", "0.jpg"]


def test_cocos_results_and_how_many_images_have_no_entry(photos: Path, tmp_path: Path, capsys: Any) -> None:
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


class Watched(Middle):
    """Images from the sixth to the thirtieth are unlike the training images."""

    n_reference = 400

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        for name in images:
            is_strange = 6 <= int(Path(name).stem) <= 30
            yield replace(_one(name), familiarity=1 / 401 if is_strange else 0.4)


@pytest.mark.parametrize("output", [None, "b.csv"])
@pytest.mark.parametrize(("count", "until"), [(30, "on"), (60, "to about 30"), (8, "")])
def test_it_says_where_the_images_stop_looking_like_the_training_images(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, output: str | None, count: int, until: str
) -> None:
    monkeypatch.setattr(predict_jobs, "load", lambda *_: Watched())
    (tmp_path / "in").mkdir()
    for number in range(1, count + 1):
        Image.new("RGB", (8, 4)).save(tmp_path / "in" / f"{number:02}.png")
    assert predict(MODEL, [str(tmp_path / "in")], output=tmp_path / output if output else None) == 0
    said = capsys.readouterr().err
    where = f"the images are unlike the training images from about image 6 (06.png) {until}"
    assert (f"{where} (of {count}):" in said) if until else ("unlike" not in said)


def test_a_resumed_run_counts_images_as_the_first_one_would() -> None:
    watch = predict_jobs.DriftWatch(Watched())
    rest = (Prediction(f"{number}.png", familiarity=1 / 401) for number in range(11, 31))
    assert len(list(watch.hook(rest, 10))) == 20
    assert [span.first for span in watch.spans] == [11]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"output": "b.txt"}, "unknown-format"),
        ({"resume": True}, "options-conflict"),
        ({"smooth": True}, "options-conflict"),
        ({"margins": 0.9, "outer": 0.9}, "options-conflict"),
        ({"max_cut": 0.02, "outer": 0.9}, "options-conflict"),
        ({"max_cut": 2}, "out-of-range"),
        ({"output": "b.csv", "coco_ids": "a.json"}, "options-conflict"),
        ({"pad": 0.1}, "options-conflict"),
        ({"crop": "c", "pad": -0.1}, "out-of-range"),
        ({"crop": "c", "pad": float("nan")}, "out-of-range"),
        ({"min_presence": float("nan")}, "out-of-range"),
        ({"margins": 0.99, "output": "b.csv"}, "margins-need-more-images"),
        ({"crop": "photos"}, "output-is-input"),
        ({"draw": "photos/drawn"}, "output-is-input"),
        ({"draw": "d", "crop": "d"}, "output-conflict"),
        ({"draw": "d.csv", "output": "d.csv"}, "output-conflict"),
        ({"output": "photos"}, "unknown-format"),
        ({"output": "folder.csv"}, "output-conflict"),
        ({"output": "input.csv"}, "output-is-input"),
        ({"crop": "input.csv"}, "output-conflict"),
    ],
)
def test_mistakes_are_errors_before_anything_is_written(
    photos: Path, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "input.csv").write_text("image\nlost.jpg\n")
    before = sorted(tmp_path.rglob("*"))
    given: dict[str, Any] = {
        name: tmp_path / value if isinstance(value, str) else value for name, value in options.items()
    }
    with pytest.raises((ConfigError, DataError)) as error:
        predict(MODEL, [str(photos), str(tmp_path / "input.csv")], **given)
    assert error.value.code == code
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "input.csv").read_text() == "image\nlost.jpg\n"


def test_an_output_that_is_a_listed_image_is_an_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/0.csv\n")
    (photos / "0.jpg").rename(photos / "0.csv")
    with pytest.raises(DataError) as error:
        predict(MODEL, [str(tmp_path / "list.txt")], output=photos / "0.csv")
    assert error.value.code == "output-is-input"


def test_images_of_a_store_have_their_rows_and_cannot_be_drawn(photos: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    bucket = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").pipe_file(f"{bucket}/in/0.jpg", (photos / "0.jpg").read_bytes())

    class Reading(Middle):
        def rows(self, images: Iterable[Any], options: PredictOptions) -> Iterator[Prediction]:
            for image in images:
                yield Prediction("<bytes>", np.zeros(4), read(image).size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_jobs, "load", lambda *_: Reading())
        inputs = [str(photos / "1.jpg"), f"{bucket}/in", f"{bucket}/lost.jpg", str(photos / "2.jpg")]
        assert predict(MODEL, inputs, output=tmp_path / "b.csv") == 1
        found = [(row["image"].rsplit("/", 1)[1], bool(row["error"])) for row in rows(tmp_path / "b.csv")]
        assert found == [("1.jpg", False), ("0.jpg", False), ("lost.jpg", True), ("2.jpg", False)]
        with pytest.raises(ConfigError) as error:
            predict(MODEL, inputs, crop=tmp_path / "crops")
    assert error.value.code == "options-conflict"


def test_an_interrupt_says_how_to_continue(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(output_file, "SHARD_SIZE", 2)
    output, inputs, crop = tmp_path / "b.csv", [str(photos)], tmp_path / "crops"

    class Stopping(Middle):
        def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
            for number, prediction in enumerate(super().rows(images, options)):
                if number == 3:
                    raise KeyboardInterrupt
                yield prediction

    with monkeypatch.context() as patch:
        patch.setattr(predict_jobs, "load", lambda *_: Stopping())
        with pytest.raises(KeyboardInterrupt):
            predict(MODEL, inputs, output=output)
    assert "2 of 5 rows are kept: the same command with --resume continues" in capsys.readouterr().err
    with pytest.raises(DataError, check=has_code("output-unfinished")):
        predict(MODEL, inputs, output=output)
    with pytest.raises(ConfigError, match=r"--crop was not set and is .*crops"):
        predict(MODEL, inputs, output=output, crop=crop, resume=True)
    Image.new("RGB", (9, 9)).save(photos / "9.jpg")
    with pytest.raises(ConfigError, match="the images changed"):
        predict(MODEL, inputs, output=output, resume=True)
    (photos / "9.jpg").unlink()
    # Another image of the same name and size, then the old one again.
    first = min(photos.iterdir())
    old = first.stat()
    os.utime(first, ns=(old.st_atime_ns, old.st_mtime_ns + 1_000_000_000))
    with pytest.raises(ConfigError, check=has_code("plan-differs")):
        predict(MODEL, inputs, output=output, resume=True)
    os.utime(first, ns=(old.st_atime_ns, old.st_mtime_ns))
    predict(MODEL, inputs, output=output, resume=True)
    assert "continuing after 2 of 5 images" in capsys.readouterr().err
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
