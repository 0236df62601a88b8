"""Outputs that would destroy something: inputs by any name, files of a run, what exists already."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from error_codes import has_code
from solobox import Architecture, Dataset, Localizer, synthetic
from solobox.cli import predict as command
from solobox.cli import predict_jobs
from solobox.data import formats
from solobox.errors import DataError
from solobox.images.reading import probe
from solobox.predict import plan
from solobox.training.run_folder import LOCK
from solobox.utils.atomic import replacing
from solobox.utils.outputs import RUN_FILES, check_outputs
from stand_in_predictor import WholeImage

LINKS: dict[str, Callable[[Path, Path], object]] = {
    "hard": lambda link, file: os.link(file, link),
    "symbolic": lambda link, file: link.symlink_to(file),
}


def solobox(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "from solobox.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images in two formats, a run, and inputs of other kinds."""
    folder = tmp_path_factory.mktemp("made")
    dataset = synthetic.write(folder, 6, seed=1, size=(64, 48))
    (folder / "annotations.csv").rename(folder / "labels.csv")
    dataset.write(folder / "voc", "voc")
    dataset.write(folder / "yolo", "yolo")
    architecture = Architecture(backbone="test_efficientnet", size=64, width=16, bins=8)
    Localizer(architecture).eval().save(folder / "run")
    (folder / "run" / "history.csv").write_text("epoch\n1\n")
    images = [{"id": row, "file_name": path.name} for row, path in enumerate(dataset.paths)]
    (folder / "ids.json").write_text(json.dumps({"images": images, "categories": []}))
    (folder / "list.csv").write_text("image\nimages/00000.jpg\n")
    (folder / "recipe.toml").write_text("epochs = 1\n")
    (folder / "decisions.json").write_text('{"format": "solobox audit decisions 1", "decisions": []}')
    for kind, link in LINKS.items():
        link(folder / f"{kind}.csv", folder / "labels.csv")
        link(folder / f"{kind}.json", folder / "run" / "config.json")
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("evaluate run labels.csv --report labels.csv", "output-is-input"),
        ("evaluate run labels.csv --json hard.csv", "output-is-input"),
        ("evaluate run labels.csv --json images/00001.jpg", "output-is-input"),
        ("evaluate run labels.csv --json run/config.json", "output-in-run"),
        ("evaluate run labels.csv --json run/data_source.json", "output-in-run"),
        ("evaluate run labels.csv --report symbolic.json", "output-in-run"),
        ("evaluate run labels.csv --report hard.json", "output-is-input"),
        ("evaluate run labels.csv --report new.html --json new.html", "output-conflict"),
        ("predict run images -o ids.json --coco-ids ids.json", "output-is-input"),
        ("predict run images -o run/history.csv", "output-in-run"),
        ("predict run list.csv -o list.csv", "output-is-input"),
        ("export run -o run/model.safetensors", "output-in-run"),
        ("autolabel list.csv -o list.csv", "output-is-input"),
        ("audit labels.csv -o symbolic.csv", "output-is-input"),
        ("audit labels.csv --report recipe.toml --config recipe.toml", "output-is-input"),
        ("audit labels.csv --fix hard.csv --apply decisions.json", "output-is-input"),
        ("curve labels.csv -o labels.csv", "output-is-input"),
        ("curve labels.csv --plot images/00002.jpg", "output-is-input"),
        ("check labels.csv --fix hard.csv", "output-is-input"),
        ("check labels.csv --json labels.csv", "output-is-input"),
        ("check voc --json voc/Annotations/00003.xml", "output-is-input"),
        ("check yolo/data.yaml --json yolo/data.yaml", "output-is-input"),
        ("summary run --json hard.json", "output-is-input"),
        ("summary run --plot run/layers.svg --json run/history.csv", "output-in-run"),
    ],
)
def test_no_command_writes_over_what_it_reads_or_over_a_run(made: Path, words: str, code: str) -> None:
    before = contents(made)
    done = solobox(made, *words.split(), "--overwrite")
    assert (done.returncode, f"error[{code}]" in done.stderr) == (2, True), done.stderr
    assert contents(made) == before


@pytest.mark.parametrize(
    "words",
    [
        "evaluate run labels.csv --report old", "evaluate run labels.csv --json old",
        "predict run images -o old.csv", "predict run images --draw olds", "predict run images --crop olds",
        "export run -o old.onnx", "autolabel images -o new.csv", "audit labels.csv -o old",
        "audit labels.csv --fix new.csv", "curve labels.csv --plot old", "check labels.csv --json old",
        "check labels.csv --fix new.csv", "summary run --plot old.svg",
    ],
)  # fmt: skip
def test_what_exists_is_replaced_only_when_asked(made: Path, tmp_path: Path, words: str) -> None:
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    (folder / "olds").mkdir()
    for name in (
        "old",
        "old.csv",
        "old.onnx",
        "old.svg",
        "olds/1.jpg",
        "new.left-out.csv",
        "new.rejected.csv",
    ):
        (folder / name).write_text("mine")
    before = contents(folder)
    done = solobox(folder, *words.split())
    assert (done.returncode, "error[output-exists]" in done.stderr) == (2, True), done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("data", ["labels.csv", "voc", "yolo", "yolo/data.yaml"])
def test_all_files_of_a_data_set_are_known(made: Path, data: str) -> None:
    known = {path.resolve() for path in formats.files(formats.read(made / data))}
    images = {path.resolve() for path in Dataset.read(made / data).paths}
    labels = {path.resolve() for path in (made / data).parent.rglob("*.txt")} if "yolo" in data else set()
    xml = {path.resolve() for path in (made / "voc").rglob("*.xml")} if data == "voc" else set()
    assert images | labels | xml <= known


def test_training_replaces_no_foreign_file(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "images", tmp_path / "images")
    shutil.copy(made / "labels.csv", tmp_path / "history.csv")
    before = contents(tmp_path)
    done = solobox(tmp_path, "train", "history.csv", "-o", ".")
    assert (done.returncode, "error[output-exists]" in done.stderr) == (2, True), done.stderr
    assert contents(tmp_path) == before


def test_the_files_of_a_run_are_those_of_the_rule(made: Path, tmp_path: Path) -> None:
    words = "--size 64 --crops 1 --epochs 1 --width 16 --bins 8 --batch 2 --folds 2"
    synthetic.write(tmp_path, 20, seed=3, size=(64, 48))
    done = solobox(tmp_path, "train", "annotations.csv", "-o", "run", *words.split())
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "model.safetensors", "checkpoint.pt", "history.csv", "out_of_fold.csv"} <= names
    assert names <= {*RUN_FILES, LOCK}  # the lock is empty


def test_a_copy_over_an_older_one_keeps_a_link_to_it(made: Path, tmp_path: Path) -> None:
    """Only the file that a link leads to is replaced, and by --overwrite."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "found.json")
    words = ["check", str(made / "labels.csv"), "--json", "link.json"]
    for extra, status in (([], 0), ([], 2), (["--overwrite"], 0)):
        assert solobox(tmp_path, *words, *extra).returncode == status
        assert (tmp_path / "link.json").is_symlink()
        assert "counts" in json.loads((tmp_path / "real" / "found.json").read_text())
        assert [path.name for path in (tmp_path / "real").iterdir()] == ["found.json"]


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    with pytest.raises(DataError), replacing(pipe):
        pass
    with pytest.raises(DataError, check=has_code("output-conflict")):
        check_outputs({"-o": pipe}, [], overwrite=True)
    assert pipe.is_fifo()


# Folders and files of predict -----------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(predict_jobs, "load", lambda *_: WholeImage())
    monkeypatch.setattr(plan, "model_fingerprint", lambda _: "f" * 64)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / "photos" / f"{number}.jpg")
    return tmp_path / "photos"


def test_drawn_images_are_replaced_only_when_asked(photos: Path, tmp_path: Path) -> None:
    drawn, output = tmp_path / "drawn", tmp_path / "boxes.csv"
    (tmp_path / "other").mkdir()

    def run(*, overwrite: bool = False) -> int:
        return command.predict("model", [str(photos)], output=output, draw=drawn, overwrite=overwrite)

    assert run() == 0
    with pytest.raises(DataError, check=has_code("output-exists")):
        run()
    output.unlink()
    with pytest.raises(DataError, check=has_code("output-exists")):  # of the folder
        run()
    (drawn / "0.jpg").write_text("old")
    (drawn / "2.jpg").unlink()
    (drawn / "2.jpg").symlink_to(photos / "2.jpg")
    before = (photos / "2.jpg").read_bytes()
    assert run(overwrite=True) == 0
    assert (photos / "2.jpg").read_bytes() == before
    assert sorted(path.name for path in drawn.iterdir()) == ["0.jpg", "1.jpg", "2-2.jpg", "2.jpg"]
    assert probe(drawn / "0.jpg").size == (30, 20)


@pytest.mark.parametrize("kind", LINKS)
def test_rows_do_not_replace_an_image_by_another_name(photos: Path, tmp_path: Path, kind: str) -> None:
    output = tmp_path / "link.csv"
    LINKS[kind](output, photos / "1.jpg")
    before = (photos / "1.jpg").read_bytes()
    with pytest.raises(DataError, check=has_code("output-is-input")):
        command.predict("model", [str(photos)], output=output, overwrite=True)
    assert (photos / "1.jpg").read_bytes() == before


def test_rows_go_where_a_link_leads(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    output = tmp_path / "boxes.csv"
    output.symlink_to(tmp_path / "disk" / "real.csv")
    for _ in range(2):
        assert command.predict("model", [str(photos)], output=output, overwrite=True) == 0
        assert output.is_symlink()
        assert output.read_text().count("\n") == 4
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.csv"]
