"""The stage of the second look."""

from pathlib import Path

import numpy as np
import pytest
import torch

from small_objects import bright_rectangles
from solobox import Dataset, Localizer, Recipe, train
from solobox.boxes import iou
from solobox.errors import ConfigError, Paused
from solobox.model.refiner import regions_around
from solobox.training.refining import Errors, _augmented

pytestmark = pytest.mark.usefixtures("without_openvino", "half_the_steps")


def test_the_box_of_each_crop_is_where_the_object_is_also_when_flipped() -> None:
    square = np.zeros((120, 120, 3), np.uint8)
    square[50:60, 48:72] = 255
    box = np.array([48, 50, 72, 60]) / 120
    rng = np.random.default_rng(0)
    around = Errors(np.full(4, 0.1)).jitter(box, 12, rng)
    crops = _augmented(square, box, regions_around(torch.from_numpy(around)), 96, rng)
    for pixels, found in zip(crops.pixels, crops.boxes * 96, strict=True):
        grey = pixels.astype(float).mean(axis=0)
        bright = grey > (grey.min() + grey.max()) / 2
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        measured = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(found.clip(0, 96), measured, atol=2)


def test_errors_are_measured_robustly() -> None:
    rng = np.random.default_rng(0)
    true = np.tile([0.4, 0.4, 0.6, 0.5], (400, 1))
    moved = true + np.tile(rng.normal(0, 0.02, (400, 2)), 2)
    moved[:40] = [0.0, 0.0, 0.1, 0.1]  # lost ones
    scale = Errors.of(moved, true).scale
    assert scale[0] == pytest.approx(0.02 / 0.2, rel=0.3)
    assert scale[1] == pytest.approx(0.02 / 0.1, rel=0.3)
    assert Errors.of(true, true).scale.tolist() == [0.05] * 4


@pytest.fixture(scope="module")
def small_objects() -> Dataset:
    images, boxes = bright_rectangles()
    return Dataset.from_arrays(images, boxes)


RECIPE = Recipe.from_preset("quick", {"size": 64, "refine": 1, "epochs": 1, "test": 0.2})


def test_small_objects_are_found_better_and_the_model_comes_back(
    small_objects: Dataset, tmp_path: Path
) -> None:
    localizer = train(small_objects, tmp_path / "run", RECIPE, auto_group=False)
    assert (localizer.architecture.refinements, localizer.architecture.detail) == (1, 2)
    test = small_objects.without_auto_groups().with_splits(val=RECIPE.val, test=RECIPE.test).of_split("test")
    images = list(test.images)
    found = localizer.predict(images)
    again = Localizer.load(tmp_path / "run").predict(images)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.box, other.box)
        np.testing.assert_array_equal(one.lower, other.lower)
    squares = np.stack([localizer.preprocess(image).pixels for image in images])
    first = localizer.locate_fast(squares, first_look=True).boxes.numpy() * [256, 192, 256, 192]
    refined = float(iou(np.stack([each.box for each in found]), test.boxes).mean())
    assert refined > float(iou(first, test.boxes).mean()) + 0.05


@pytest.mark.usefixtures("few_steps")
def test_a_run_paused_in_the_second_look_ends_as_if_it_had_not_been(
    small_objects: Dataset, tmp_path: Path
) -> None:
    recipe = Recipe.from_preset(
        "quick", RECIPE.to_dict() | {"crops": 1, "epochs": 3, "width": 8, "bins": 4, "batch": 4}
    )
    whole = train(small_objects, tmp_path / "whole", recipe, auto_group=False)
    epochs = sum(epoch["stage"] == "head" for epoch in whole.metadata["history"])  # type: ignore[attr-defined]
    with pytest.raises(Paused):
        train(small_objects, tmp_path / "paused", recipe, stop_after=epochs + 1, auto_group=False)
    resumed = train(small_objects, tmp_path / "paused", resume=True, auto_group=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.calibration == resumed.calibration


def test_what_cannot_be_refined_is_refused() -> None:
    with pytest.raises(ConfigError, match="refine needs the vectorizer"):
        Recipe.from_preset("article", {"refine": 1})
    assert Recipe.from_preset("article", {"refine": "auto"}).refine == "auto"
