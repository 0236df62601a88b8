from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import pytest

from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.errors import DataError
from solobox.evaluation.evaluate import evaluate, evaluate_selection
from solobox.predict.prediction import Prediction
from solobox.uncertainty.familiarity import Familiarity, shift_p_value

if TYPE_CHECKING:
    from solobox.model.localizer import Localizer

NONE = [np.nan] * 4


class ConstantLocalizer:
    """Predicts the same box for every image, and presence by the name of the image."""

    def __init__(
        self, fingerprints: Fingerprints | None = None, familiarity: Familiarity | None = None
    ) -> None:
        self.fingerprints = fingerprints
        self.familiarity = familiarity
        self.n_reference = familiarity.n_groups if familiarity else None
        self.inputs: list[Path] = []

    def stream(self, inputs: Iterable[Path]) -> Iterator[Prediction]:
        for path in inputs:
            self.inputs.append(path)
            presence = 0.2 if "empty" in path.name else 0.7
            yield Prediction(
                str(path), np.array([0.0, 0, 10, 10]), (20, 20), presence=presence, familiarity=0.05
            )


class CountingProgress:
    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, stage: str, total: int | None) -> None:
        self.total = total or 0

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


def test_images_without_a_box_are_predicted_too(dataset: Dataset) -> None:
    localizer, count = ConstantLocalizer(), CountingProgress()
    found = evaluate(cast("Localizer", localizer), dataset, "all", progress=count)
    assert localizer.inputs == list(dataset.images)
    assert (count.total, count.done) == (5, 5)
    assert [Path(p.image).name for p in found.predictions] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [Path(p.image).name for p in found.negatives] == ["empty_1.jpg", "empty_2.jpg"]
    assert found.n_negatives == 2
    assert found.metrics.mean_iou == 1
    assert found.presence is not None
    assert found.presence.auroc == 1


@pytest.mark.parametrize("split", ["", "test"])
def test_boxes_that_nobody_looked_at_measure_nothing(dataset: Dataset, split: str) -> None:
    source = ("predicted", "", "drawn", "", "predicted")
    mixed = replace(dataset, source=source, split=(split,) * len(dataset))
    found = evaluate(cast("Localizer", ConstantLocalizer()), mixed, "test" if split else "all")
    assert [Path(p.image).name for p in found.predictions] == ["b.jpg"]
    assert found.n_negatives == 2


def test_images_seen_in_training_are_counted(dataset: Dataset) -> None:
    seen = Fingerprints.of(dataset.images[:3], [])
    found = evaluate_selection(cast("Localizer", ConstantLocalizer(seen)), dataset, "all")
    assert found.n_seen_in_training == 2  # a and b; the third one has no box
    assert evaluate_selection(cast("Localizer", ConstantLocalizer()), dataset, "all").n_seen_in_training == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_boxes_raises(dataset: Dataset, split: Literal["train", "val"]) -> None:
    with pytest.raises(DataError) as error:
        evaluate(cast("Localizer", ConstantLocalizer()), dataset, split)
    assert error.value.code == "no-boxes"


def test_images_of_one_group_are_one_reference(dataset: Dataset) -> None:
    rng = np.random.default_rng(0)
    familiarity = Familiarity.fit(
        rng.normal(size=(40, 4)), rng.normal(size=(120, 4)), held_out_groups=["a", "b", "c"] * 40
    )
    found = evaluate(
        cast("Localizer", ConstantLocalizer(familiarity=familiarity)), dataset, "all"
    ).familiarity
    assert found is not None
    assert found.p_value == shift_p_value([0.05] * 3, 3)
    assert found.share_unfamiliar == 0
