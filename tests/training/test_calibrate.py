"""What training leaves beside the weights: presence, margins, familiarity."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from torch.nn import functional as F

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.model.heads import Output
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss, with_presence
from solobox.model.presence import Presence, temperature
from solobox.predict.predictor import PredictOptions
from solobox.training import cross_conformal, training_run
from solobox.training.calibrate import CalibrationResult, HeldOut, calibrate, cross_fit_temperature
from solobox.training.feature_cache import FeatureCache
from solobox.training.loop import fit
from solobox.training.stages import presence_stage
from solobox.training.tensor_store import TensorStore
from solobox.training.train import train
from solobox.utils.progress import NullProgress

pytestmark = pytest.mark.usefixtures("without_openvino")

SMALL: dict[str, Any] = {"size": 64, "crops": 2, "epochs": 2, "width": 16, "bins": 8, "batch": 16}


class Heard(NullProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn things, and images of nothing: a plain colour with noise."""
    folder = tmp_path_factory.mktemp("mixed")
    things = synthetic.write(folder, 40, seed=5, size=(96, 72))
    rng = np.random.default_rng(1)
    empty = []
    for number in range(30):
        level = rng.integers(0, 256, 3) + rng.normal(0, 6, (72, 96, 3))
        empty.append(folder / f"empty{number:02}.png")
        Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)).save(empty[-1])
    boxes = np.concatenate([things.boxes, np.full((30, 4), np.nan)])
    # A third of either kind is held out and tells the margins.
    split = ["val" if row % 3 == 0 else "train" for row in range(70)]
    return Dataset([*things.images, *empty], boxes, split=split)


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its margins are those of the validation images alone."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "_ENOUGH_GROUPS", 14)
        train(dataset, folder, Recipe.from_preset("quick", SMALL))
    return folder


def test_presence_is_learnt_and_kept(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    told = np.array([one.presence for one in localizer.predict(list(dataset.images))])
    assert told[dataset.has_box].min() > told[~dataset.has_box].max()
    assert (told > 0).all()
    assert (told < 1).all()
    assert localizer.presence is not None
    assert float(localizer.presence.temperature) != 1
    counts: Any = localizer.metadata["counts"]
    assert counts["negatives"] == 30


def test_images_without_the_object_cost_the_boxes_nothing(
    dataset: Dataset, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes are learnt as if there were none of them."""
    monkeypatch.setattr(training_run, "_ENOUGH_GROUPS", 14)
    other = train(dataset.positives(), tmp_path / "run", Recipe.from_preset("quick", SMALL))
    images = list(dataset.positives().images)
    for one, two in zip(Localizer.load(run).predict(images), other.predict(images), strict=True):
        # But for what is rounded otherwise when images are shown to the backbone in other company.
        np.testing.assert_allclose(one.box, two.box, atol=1e-3)
        np.testing.assert_allclose(one.lower, two.lower, atol=1e-3)


def features_of(folder: Path, cells: np.ndarray, boxes: np.ndarray) -> FeatureCache:
    """A cache of maps of a single cell (n, 1, 1, C), one crop of each image. boxes: (n, 4) as fractions."""
    store = TensorStore(len(cells), [cells.shape[1:]], torch.bfloat16, budget=1e9, folder=folder)
    store.put(0, [torch.from_numpy(cells).bfloat16()])
    return FeatureCache(store, torch.arange(len(cells)), torch.from_numpy(boxes).float(), 1)


def test_the_temperature_suits_new_images(tmp_path: Path) -> None:
    """The first feature gives presence a known probability: the temperature must be close to the best one."""
    rng = np.random.default_rng(0)
    count, learning = 900, 600
    cells = rng.normal(size=(count, 1, 1, 6)).astype(np.float32)
    present = rng.uniform(size=count) < 1 / (1 + np.exp(-2.5 * cells[:, 0, 0, 0]))
    boxes = np.where(present[:, None], [1.0, 1, 2, 2], np.nan)
    features = features_of(tmp_path, cells[:learning], boxes[:learning] / 4)
    training = Dataset([f"{row}.png" for row in range(learning)], boxes[:learning])
    recipe = Recipe.from_preset("quick", {"epochs": 4, "batch": 32})
    options: dict[str, Any] = {"fabric": Fabric(accelerator="cpu", devices=1), "progress": NullProgress()}
    divisor = cross_fit_temperature(features, training, recipe, (6,), **options)
    assert divisor is not None
    assert divisor == cross_fit_temperature(features, training, recipe, (6,), **options)
    torch.manual_seed(0)
    branch = Presence((6,))
    fabric = Fabric(accelerator="cpu", devices=1)
    fit(presence_stage(branch, features, recipe, fabric=fabric), fabric=fabric, progress=NullProgress())
    with torch.inference_mode():
        logits = branch.eval()([torch.from_numpy(cells[learning:]).permute(0, 3, 1, 2)])
    new = torch.from_numpy(present[learning:])

    def cross_entropy(divisor: float) -> float:
        return float(F.binary_cross_entropy_with_logits(logits / divisor, new.float()))

    assert cross_entropy(divisor) < cross_entropy(float(temperature(logits, new))) + 0.01


def test_too_few_images_of_a_kind_have_no_cross_fit_temperature(tmp_path: Path) -> None:
    boxes = np.array([[1.0, 1, 2, 2]] * 3 + [[np.nan] * 4])
    features = features_of(tmp_path, np.zeros((4, 1, 1, 3), np.float32), boxes / 4)
    images = Dataset([f"{row}.png" for row in range(4)], boxes)
    options: dict[str, Any] = {"fabric": Fabric(accelerator="cpu", devices=1), "progress": NullProgress()}
    assert cross_fit_temperature(features, images, Recipe(), (3,), **options) is None


def test_margins_hold_on_the_images_that_they_were_made_from(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    validation = dataset.of_split("val")
    held, positive = validation.positives(), np.flatnonzero(validation.has_box)
    assert localizer.calibration is not None
    assert localizer.calibration.n_images == len(held) == 14
    # In one batch, as when the margins were made: one score is the margin itself, and another batch rounds differently.
    images = list(validation.paths)
    together = [localizer.predict(images, margins=0.8), localizer.predict(images, outer=0.8)]
    predictions, outer = ([rows[row] for row in positive] for rows in together)
    inside = [
        ((box >= one.lower - 1e-6) & (box <= one.upper + 1e-6)).all()
        for box, one in zip(held.boxes, predictions, strict=True)
    ]
    # The 12th of 14 scores is the quantile: as prediction gives them, not only as training saw them.
    assert sum(inside) == 12
    for both, one in zip(predictions, outer, strict=True):
        np.testing.assert_array_equal(both.box, one.box)
        assert (one.outer[:2] <= one.box[:2]).all()
        assert (one.outer[2:] >= one.box[2:]).all()
        assert one.upper[0] == one.box[0]


@pytest.mark.usefixtures("few_steps")
def test_few_validation_images_are_joined_by_the_training_images(dataset: Dataset, tmp_path: Path) -> None:
    few = dataset.positives().select(np.arange(20))
    localizer = train(few, tmp_path / "run", Recipe.from_preset("quick", SMALL | {"epochs": 1}))
    assert localizer.calibration is not None
    assert (localizer.calibration.n_images, max(localizer.calibration.two_sided)) == (20, 0.95)
    again = Localizer.load(tmp_path / "run").predict(few.images[0], margins=0.95)
    np.testing.assert_array_equal(again.lower, localizer.predict(few.images[0], margins=0.95).lower)


def test_refined_boxes_are_calibrated_on_all_images_by_refined_boxes(tmp_path: Path) -> None:
    """The errors of the first look are not those of the second one."""
    seen: list[HeldOut] = []

    def recorded(*arguments: Any, more: HeldOut | None = None, **options: Any) -> CalibrationResult:
        assert more is not None
        seen.append(more)
        return calibrate(*arguments, more=more, **options)

    small = synthetic.write(tmp_path / "data", 16, seed=5, size=(192, 144))
    for refine in ("off", 1):
        recipe = Recipe.from_preset("quick", SMALL | {"epochs": 1, "refine": refine, "val": 0.25})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training_run, "calibrate", recorded)
            localizer = train(small, tmp_path / str(refine), recipe)
        counts: Any = localizer.metadata["counts"]
        assert localizer.calibration is not None
        assert localizer.calibration.n_images == counts["val"] + counts["train"]
    # Of enough images one half is predicted.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_conformal, "_ENOUGH", 5)
        localizer = train(small, tmp_path / "half", recipe)
    assert localizer.calibration is not None
    assert localizer.calibration.n_images == counts["val"] + counts["train"] // 2
    once, twice = seen
    np.testing.assert_array_equal(once.truth, twice.truth)
    assert (once.predicted != twice.predicted).any(axis=1).all()


def test_by_default_margins_are_given_where_there_are_enough_images(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    first = str(dataset.images[0])
    assert np.isfinite(localizer.predict(first).lower).all()
    with pytest.raises(ConfigError) as error:
        localizer.predict(first, margins=0.99)
    assert error.value.code == "margins-need-more-images"
    localizer.calibration = None
    assert np.isnan(localizer.predict(first).lower).all()
    with pytest.raises(ConfigError) as error:
        localizer.stream([first], PredictOptions(margins=0.9))
    assert error.value.code == "no-margins"


def test_familiarity_tells_the_training_images_from_others(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    held = [one.familiarity for one in localizer.predict(list(dataset.of_split("val").images))]
    assert localizer.familiarity is not None
    assert len(localizer.familiarity.distances) == len(
        dataset
    )  # the training images, cross-fitted, and the others
    assert np.mean(held) == pytest.approx(0.5, abs=0.2)
    rng = np.random.default_rng(0)
    noise = localizer.predict([rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(5)])
    assert max(one.familiarity for one in noise) < 0.25


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune_epochs": 1},
        {"vectorizer": "gap", "head": "regression", "loss": "mse"},
        {
            "strides": (32,), "size": "native", "vectorizer": "gap", "head": "regression", "loss": "mse", "epochs": 0,
            "finetune_epochs": 1, "batch": 1,
        },
    ],
)  # fmt: skip
@pytest.mark.usefixtures("few_steps")
def test_every_recipe_is_calibrated(dataset: Dataset, tmp_path: Path, changes: dict[str, Any]) -> None:
    made = train(dataset, tmp_path / "run", Recipe.from_preset("quick", SMALL | {"epochs": 1} | changes))
    images = [str(dataset.images[row]) for row in (0, 3, 60)]
    again = Localizer.load(tmp_path / "run").predict(images)
    for a, b in zip(made.predict(images), again, strict=True):
        assert np.isfinite([*a.lower, *a.upper, a.presence, a.familiarity]).all()
        np.testing.assert_array_equal(a.lower, b.lower)
        assert (a.presence, a.familiarity) == (b.presence, b.familiarity)


def test_presence_needs_images_without_the_object_in_both_parts(dataset: Dataset, tmp_path: Path) -> None:
    split = ["train" if not box else own for own, box in zip(dataset.split, dataset.has_box, strict=True)]
    heard = Heard()
    lacking = Dataset(dataset.images, dataset.boxes, split=split)
    localizer = train(
        lacking, tmp_path / "run", Recipe.from_preset("quick", SMALL | {"epochs": 1}), progress=heard
    )
    assert localizer.presence is None
    assert np.isnan(localizer.predict(dataset.images[0]).presence)
    assert any("presence is not learned" in line for line in heard.said)


def test_images_without_the_object_alone_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(dataset.select(~dataset.has_box), tmp_path / "run", Recipe.from_preset("quick", SMALL))


def test_the_loss_of_a_batch_is_the_mean_of_its_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(6, 4, generator=generator).sort(dim=1).values
    truth = torch.rand(6, 4, generator=generator).sort(dim=1).values
    truth[[1, 4]] = torch.nan
    logits = torch.randn(6, generator=generator)
    loss = with_presence(Loss.parse("l1 + giou", sigma=0.01))

    def of(rows: slice) -> torch.Tensor:
        return loss(Output(boxes[rows], presence=logits[rows]), truth[rows])

    assert float(of(slice(6))) == pytest.approx(float((2 * of(slice(2)) + 4 * of(slice(2, 6))) / 6), rel=1e-5)
    only = loss(Output(boxes[1:2], presence=logits[1:2]), truth[1:2])
    assert float(only) == pytest.approx(float(F.softplus(logits[1])), rel=1e-6)


def test_a_image_without_the_object_teaches_nothing_about_boxes() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.6]], requires_grad=True)
    truth = torch.tensor([[0.2, 0.2, 0.5, 0.5], [torch.nan] * 4])
    logits = torch.zeros(2, requires_grad=True)
    loss = with_presence(Loss.parse("l1 + giou", sigma=0.01))
    loss(Output(boxes, presence=logits), truth).backward()  # type: ignore[no-untyped-call]
    assert boxes.grad is not None
    assert boxes.grad[0].abs().sum() > 0
    assert boxes.grad[1].tolist() == [0, 0, 0, 0]
    assert logits.grad is not None
    assert logits.grad.tolist() == [-0.25, 0.25]


def test_the_temperature_undoes_a_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(4000, generator=generator)
    present = torch.rand(4000, generator=generator) < logits.sigmoid()
    assert float(temperature(logits, present)) == pytest.approx(1, abs=0.08)
    assert float(temperature(5 * logits, present)) == pytest.approx(5, rel=0.08)


def test_a_mistakeless_branch_is_not_called_certain() -> None:
    logits = torch.tensor([-9.0, -8, -7, 7, 8, 9])
    own = temperature(logits, logits > 0)
    assert 0.7 < float((7 / own).sigmoid()) < 0.95


def test_the_branch_reads_maps_of_any_size() -> None:
    branch = Presence([3, 5]).eval()
    for side in (4, 7):
        maps = [torch.randn(2, 3, 2 * side, 2 * side), torch.randn(2, 5, side, side)]
        assert branch(maps).shape == (2,)
