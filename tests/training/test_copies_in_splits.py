"""Copies of training images in splits that the data names: they are told, and do not calibrate."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.evaluation.evaluate import evaluate
from solobox.model.localizer import Localizer
from solobox.training import training_run
from solobox.training.train import train

pytestmark = pytest.mark.usefixtures("without_openvino")

RECIPE = {"size": 64, "crops": 2, "epochs": 1, "width": 16, "bins": 8, "batch": 8}


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []

    def start(self, stage: str, total: int | None) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


def with_copies(folder: Path, *, held_out: int) -> Dataset:
    """Eight training images; in val three of them saved again, and other ones; in test one saved again."""
    drawn = synthetic.write(folder, 20, seed=5, size=(96, 72)).positives()
    assert len(drawn) >= 8 + held_out
    paths = list(drawn.paths[: 8 + held_out])
    for row in range(4):
        again = folder / f"again-{row}.jpg"
        Image.open(paths[row]).convert("RGB").save(again, quality=80)
        paths.append(again)
    boxes = np.concatenate([drawn.boxes[: 8 + held_out], drawn.boxes[:4]])
    split = ["train"] * 8 + ["val"] * held_out + ["val"] * 3 + ["test"]
    return Dataset(paths, boxes, split=split)


@pytest.mark.parametrize("grouped", [False, True])
def test_copies_of_training_images_are_told_and_do_not_calibrate(tmp_path: Path, grouped: bool) -> None:
    dataset = with_copies(tmp_path, held_out=5)
    if grouped:  # groups of the data do not hide them
        names = [f"group {row}" for row in range(len(dataset))]
        dataset = Dataset(dataset.images, dataset.boxes, split=dataset.split, group=names)
    heard = Heard()
    localizer = train(dataset, tmp_path / "run", Recipe.from_preset("quick", RECIPE), progress=heard)
    (told,) = [line for line in heard.said if "in another split" in line]
    assert told.startswith("4 images are copies of images in another split (3 in val, 1 in test)")
    assert "`solobox check`" in told
    assert localizer.calibration is not None
    assert localizer.calibration.n_images == 5 + 8  # and the training images, by cross-fitting
    assert evaluate(localizer, dataset).n_seen_in_training == 1


@pytest.mark.parametrize("has_others", [True, False])
def test_where_all_of_val_are_copies_they_do_not_calibrate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_others: bool
) -> None:
    if not has_others:
        monkeypatch.setattr(training_run, "held_out", lambda _, **__: None)
    heard = Heard()
    dataset = with_copies(tmp_path, held_out=0)
    train(dataset, tmp_path / "run", Recipe.from_preset("quick", RECIPE), progress=heard)
    (told,) = [line for line in heard.said if "all validation images with a box are copies" in line]
    assert ("the model has no margins" in told) != has_others
    loaded = Localizer.load(tmp_path / "run")
    assert loaded.calibration is not None
    assert loaded.calibration.n_images == (8 if has_others else 0)
    assert max(loaded.calibration.two_sided, default=0) == (0.88 if has_others else 0)
    assert loaded.predict(dataset.images[0]).has_box
