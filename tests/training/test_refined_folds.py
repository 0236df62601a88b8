"""The second look of cross-validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_objects import bright_rectangles
from solobox import Dataset, Recipe
from solobox.boxes import Floats, iou
from solobox.config import recipe as recipe_module
from solobox.training.crossval import CrossValidator, OutOfFold

pytestmark = pytest.mark.usefixtures("without_openvino", "half_the_steps")

FOLDS = 2
RECIPE = Recipe.from_preset("quick", {"size": 64, "epochs": 1, "crops": 2})


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    """Small objects, the first image without its box."""
    images, boxes = bright_rectangles()
    return Dataset.from_arrays(images, np.concatenate([np.full((1, 4), np.nan), boxes[1:]]))


def predicted(dataset: Dataset, folder: Path, refine: int | str) -> OutOfFold:
    recipe = Recipe.from_preset("quick", RECIPE.to_dict() | {"refine": refine})
    return CrossValidator.from_dataset(dataset, recipe, folder=folder).out_of_fold(FOLDS)


def boxes_of(found: OutOfFold) -> Floats:
    return np.stack([prediction.box for prediction in found.predictions])


@pytest.fixture(scope="module")
def twice(drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> OutOfFold:
    return predicted(drawn, tmp_path_factory.mktemp("twice"), 1)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of training."""
    monkeypatch.setattr(recipe_module, "_MIN_CROPS", 1)
    monkeypatch.setattr(recipe_module, "_MIN_STEPS", 4)


def test_small_objects_are_found_better_by_looking_twice(
    drawn: Dataset, twice: OutOfFold, tmp_path: Path
) -> None:
    once = predicted(drawn, tmp_path, "off")
    assert (len(once.refined), len(twice.refined)) == (0, FOLDS)
    measured = drawn.has_box
    first, second = (iou(boxes_of(found)[measured], drawn.boxes[measured]).mean() for found in (once, twice))
    assert second > first + 0.05
    # Presence and familiarity are the first look's.
    for one, other in zip(once.predictions, twice.predictions, strict=True):
        assert (one.presence, one.familiarity) == (other.presence, other.familiarity)
    assert np.isfinite(boxes_of(twice)).all()


@pytest.mark.usefixtures("brief")
def test_a_box_is_refined_by_a_model_that_knows_nothing_of_it(drawn: Dataset, tmp_path: Path) -> None:
    """Nothing but one number for all, how far the first look is off, hears of a label of the fold."""
    found = predicted(drawn, tmp_path / "one", 1)
    row = int(np.flatnonzero((found.fold == 0) & drawn.has_box)[0])
    boxes = drawn.boxes.copy()
    boxes[row] = [0, 0, 250, 190]
    again = predicted(replace(drawn, boxes=boxes), tmp_path / "other", 1)
    np.testing.assert_allclose(again.predictions[row].box, found.predictions[row].box, atol=4)
    others = np.flatnonzero(found.fold == 1)
    assert np.abs(boxes_of(again)[others] - boxes_of(found)[others]).max() > 4


def test_changed_pixels_are_looked_at_twice_too(drawn: Dataset, twice: OutOfFold) -> None:
    for row in (0, 1, 2):
        pixels = np.asarray(drawn.images[row])
        found = twice.predict_pixels(row, pixels)
        assert found.image == twice.predictions[row].image
        np.testing.assert_allclose(found.box, twice.predictions[row].box, atol=0.1)


@pytest.mark.usefixtures("brief")
def test_where_it_does_not_help_the_first_looks_stay(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not trained, a second look finds worse boxes."""
    monkeypatch.setattr("solobox.training.refined_folds.fit", lambda *_, **__: None)
    found = predicted(drawn, tmp_path, "auto")
    assert not found.refined
    np.testing.assert_array_equal(boxes_of(found), boxes_of(predicted(drawn, tmp_path / "off", "off")))
