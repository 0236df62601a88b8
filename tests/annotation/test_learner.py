"""A model of a few boxes: it finds the object, forgets what changed, and is measured by what it did not learn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folders import measured_by
from PIL import Image

from error_codes import has_code
from small_objects import bright_rectangles
from solobox import synthetic
from solobox.annotation.learner import Learner
from solobox.boxes import iou
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("without_openvino")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("drawn"), 20, seed=3, size=(160, 120)).positives()


@pytest.fixture(scope="module")
def learner(without_openvino: None) -> Learner:
    return Learner(Recipe.from_preset("quick", {"size": 96, "refine": "off"}))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solobox.annotation.learner._STEPS", 1)


@pytest.fixture(scope="module")
def small_objects(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    images, boxes = bright_rectangles()
    folder = tmp_path_factory.mktemp("small")
    paths = [folder / f"{number:02}.png" for number in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    return Dataset(paths, boxes, names=[path.name for path in paths])


def labels_of(dataset: Dataset, count: int) -> dict[str, tuple[Path, tuple[float, ...]]]:
    return {
        name: (path, tuple(box))
        for name, path, box in zip(dataset.names[:count], dataset.paths, dataset.boxes.tolist(), strict=False)
    }


def test_it_learns_measures_and_is_a_function_of_the_labels(learner: Learner, drawn: Dataset) -> None:
    labels = labels_of(drawn, 12)
    assert learner.learn(labels) == 12
    rest = drawn.select(np.arange(12, len(drawn)))
    found = np.stack([learner.predict(path).box for path in rest.paths])
    assert iou(found, rest.boxes).mean() > 0.5
    measured = list(labels)[:10]
    crossfit = measured_by(learner, measured)
    sizes = np.array([learner.predict(path).size * 2 for path, _ in list(labels.values())[:10]])
    np.testing.assert_allclose(crossfit.true * sizes, drawn.boxes[:10], atol=1e-3)
    inside = np.stack([learner.predict(path).box for path, _ in list(labels.values())[:10]])
    held_out = np.asarray(iou(crossfit.predicted, crossfit.true)).mean()
    assert held_out < iou(inside, drawn.boxes[:10]).mean()  # what it learned from it knows better
    learner.calibrate(crossfit)
    prediction = learner.predict(rest.paths[0])
    assert (prediction.lower <= prediction.box).all()
    assert (prediction.box <= prediction.upper).all()
    learner.learn(labels_of(drawn, 3))
    assert not np.allclose(learner.predict(rest.paths[0]).box, found[0])
    learner.learn(labels)
    np.testing.assert_array_equal(learner.predict(rest.paths[0]).box, found[0])


@pytest.mark.usefixtures("few_steps")
def test_a_box_that_was_corrected_is_learned_anew(learner: Learner, drawn: Dataset) -> None:
    labels = labels_of(drawn, 5)
    learner.learn(labels)
    name, path = drawn.names[0], drawn.paths[0]
    learner.learn(labels | {name: (path, (1.0, 1.0, 30.0, 30.0))})
    crossfit = measured_by(learner, [name])
    width, height = learner.predict(path).size
    corners = crossfit.true[0] * np.array([width, height, width, height])
    np.testing.assert_allclose(corners, [1, 1, 30, 30], atol=1e-3)


@pytest.mark.usefixtures("few_steps")
def test_images_that_cannot_be_read_are_left_out(learner: Learner, drawn: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    labels = labels_of(drawn, 5)
    assert learner.learn({"broken": (broken, (0.0, 0.0, 5.0, 5.0)), **labels}) == 5
    assert len(measured_by(learner, ["broken", drawn.names[0]]).true) == 1
    with pytest.raises(DataError, check=has_code("no-images")):
        learner.learn({"broken": (broken, (0.0, 0.0, 5.0, 5.0))})
    with pytest.raises(ValueError, match="no image"):
        measured_by(learner, ["broken"])


def test_small_objects_get_a_second_look_if_it_helps(
    small_objects: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solobox.annotation.learner._STEPS", 24)
    learner = Learner(Recipe.from_preset("quick", {"size": 64, "batch": 16}))
    learner.learn(labels_of(small_objects, 9))
    assert learner.localizer.architecture.refinements == 0  # too few to tell
    labels = labels_of(small_objects, 14)
    learner.learn(labels)
    rest = small_objects.select(np.arange(14, len(small_objects)))
    refined = np.stack([learner.predict(path).box for path in rest.paths])
    crossfit = measured_by(learner, list(labels)[:6])
    assert crossfit.refined
    inside = np.stack([learner.predict(path).box for path, _ in list(labels.values())[:6]])
    scale = np.array([256, 192, 256, 192])
    assert not np.allclose(crossfit.predicted * scale, inside)  # by models that did not see these
    learner.calibrate(replace(crossfit, refined=False))  # as if the first look had been better
    assert learner.localizer.architecture.refinements == 0
    once = np.stack([learner.predict(path).box for path in rest.paths])
    assert iou(refined, rest.boxes).mean() > iou(once, rest.boxes).mean() + 0.05
    learner.learn(labels)
    np.testing.assert_array_equal(learner.predict(rest.paths[0]).box, once[0])


def test_native_sizes_are_refused() -> None:
    options = {"size": "native", "epochs": 0, "finetune_epochs": 1, "batch": 1}
    with pytest.raises(ConfigError, check=has_code("options-conflict")):
        Learner(Recipe.from_preset("quick", options))
