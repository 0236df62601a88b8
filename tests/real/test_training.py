"""The main job on real images, small: it must find faces, and survive a set with a broken file in it."""

from pathlib import Path

import numpy as np
import pytest

from solobox import Dataset, Localizer, Recipe, evaluate, train
from solobox.errors import DataError

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_faces_of_people_it_has_not_seen(real_data: Path, tmp_path: Path) -> None:
    faces = Dataset.read(real_data / "caltech" / "face.csv")
    # Images of one person follow one another: the first 120 to learn from, the last 80 to measure on.
    rows = np.r_[0:120, 355:435]
    some = faces.select(rows)
    split = ["train"] * 100 + ["val"] * 20 + ["test"] * 80
    dataset = Dataset(some.images, some.boxes, split=split, label=some.label, names=some.names)
    train(dataset, tmp_path / "run", Recipe.from_preset("quick", {"size": 160}))
    found = evaluate(Localizer.load(tmp_path / "run"), dataset)
    assert found.metrics.n == 80
    middle = np.median(dataset.of_split("train").boxes, axis=0)
    guess = evaluate_fixed(middle, dataset.of_split("test"))
    assert found.metrics.mean_iou > 0.8
    assert found.metrics.mean_iou > guess + 0.2


def evaluate_fixed(box: np.ndarray, dataset: Dataset) -> float:
    from solobox.boxes import iou

    return float(iou(box, dataset.boxes).mean())


def test_a_set_with_a_truncated_image_and_several_boxes(real_data: Path, tmp_path: Path) -> None:
    kangaroos = Dataset.read(real_data / "kangaroo")
    assert len(kangaroos) == 107
    broken = [row for row, name in enumerate(kangaroos.names) if "00090" in name]
    if not broken:  # it has several boxes, so it takes `keep` to meet it
        kangaroos = Dataset.read(real_data / "kangaroo", keep="largest")
        broken = [row for row, name in enumerate(kangaroos.names) if "00090" in name]
    rows = sorted({*broken, *range(24)})
    split = ["train" if row in broken or row % 4 else "val" for row in rows]
    some = kangaroos.select(rows)
    dataset = Dataset(some.images, some.boxes, split=split, names=some.names)
    recipe = Recipe.from_preset("quick", {"size": 64, "epochs": 1, "crops": 2})
    with pytest.raises(DataError, match=r"00090\.jpg"):
        train(dataset, tmp_path / "a", recipe)
    localizer = train(dataset, tmp_path / "b", recipe, skip_bad=True)
    unreadable = localizer.metadata["unreadable"]
    assert isinstance(unreadable, list)
    assert len(unreadable) == 1
