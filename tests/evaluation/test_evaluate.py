from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.evaluation.evaluate import evaluate, evaluate_selection
from solobox.predict.prediction import Prediction

if TYPE_CHECKING:
    from solobox.model.localizer import Localizer

NONE = [np.nan] * 4


class Still:
    """Stands in for a localizer: the same box for every image, and presence by the image's name."""

    def __init__(self, seen: Fingerprints | None = None) -> None:
        self.seen = seen
        self.asked: list[Path] = []

    def stream(self, inputs: Iterable[Path]) -> Iterator[Prediction]:
        for path in inputs:
            self.asked.append(path)
            presence = 0.2 if "empty" in path.name else 0.7
            yield Prediction(str(path), np.array([0.0, 0, 10, 10]), (20, 20), presence=presence)


class Count:
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, stage: str, total: int) -> None:
        self.total = total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps

    def say(self, text: str) -> None:
        pass


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    names = ["a.jpg", "empty_1.jpg", "b.jpg", "empty_2.jpg", "c.jpg"]
    for name in names:
        (tmp_path / name).write_text(name)
    boxes = [NONE if "empty" in name else [0, 0, 10, 10] for name in names]
    return Dataset(images=[tmp_path / name for name in names], boxes=boxes)


def test_images_without_the_object_are_predicted_too(dataset: Dataset) -> None:
    still, count = Still(), Count()
    found = evaluate(cast("Localizer", still), dataset, "all", progress=count)
    assert still.asked == list(dataset.images)
    assert (count.total, count.done) == (5, 5)
    assert [Path(p.image).name for p in found.predictions] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [Path(p.image).name for p in found.negatives] == ["empty_1.jpg", "empty_2.jpg"]
    assert found.n_negatives == 2
    assert found.metrics.mean_iou == 1
    assert found.presence is not None
    assert found.presence.auroc == 1


def test_what_training_saw_is_counted_on_given_images(dataset: Dataset) -> None:
    seen = Fingerprints.of(dataset.images[:3], [])
    found = evaluate_selection(cast("Localizer", Still(seen)), dataset, "all")
    assert found.n_seen_in_training == 2  # a and b: of those without a box no metric of boxes is made
    assert evaluate_selection(cast("Localizer", Still()), dataset, "all").n_seen_in_training == 0
