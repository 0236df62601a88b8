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
from solobox.model.losses import Loss
from solobox.model.presence import Presence, temperature
from solobox.predict.predictor import PredictOptions
from solobox.training.distributed import Ranks
from solobox.training.feature_cache import Kept
from solobox.training.image_cache import Squares
from solobox.training.on_device import Resident
from solobox.training.presence_crossval import temperature_out_of_fold
from solobox.training.stages import fit_presence
from solobox.training.tensor_store import Store
from solobox.training.train import train
from solobox.utils.progress import Silent

SMALL: dict[str, Any] = {"size": 64, "crops": 2, "epochs": 2, "width": 16, "bins": 8, "batch": 16}


class Heard(Silent):
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
    folder = tmp_path_factory.mktemp("run") / "run"
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
    counts: Any = localizer.facts["counts"]
    assert counts["negatives"] == 30


def test_images_without_the_object_cost_the_boxes_nothing(
    dataset: Dataset, run: Path, tmp_path: Path
) -> None:
    """Boxes are learnt as if there were none of them."""
    other = train(dataset.positives(), tmp_path / "run", Recipe.from_preset("quick", SMALL))
    images = list(dataset.positives().images)
    for one, two in zip(Localizer.load(run).predict(images), other.predict(images), strict=True):
        # But for what is rounded otherwise when images are shown to the backbone in other company.
        np.testing.assert_allclose(one.box, two.box, atol=1e-3)
        np.testing.assert_allclose(one.lower, two.lower, atol=1e-3)


def test_the_temperature_suits_images_that_were_never_seen(tmp_path: Path) -> None:
    """Features of which the first tells presence by a known probability: what is found has to be near the best."""
    rng = np.random.default_rng(0)
    count = 900
    cells = rng.normal(size=(count, 1, 1, 6)).astype(np.float32)
    there = rng.uniform(size=count) < 1 / (1 + np.exp(-2.5 * cells[:, 0, 0, 0]))
    store = Store(count, [(1, 1, 6)], torch.bfloat16, budget=1e9, folder=tmp_path)
    store.put(0, [torch.from_numpy(cells).bfloat16()])
    boxes = np.where(there[:, None], [1.0, 1, 2, 2], np.nan)
    targets = torch.from_numpy(boxes / 4).float()
    images = Dataset([f"{row}.png" for row in range(count)], boxes)
    learning = 600
    kept = Kept(store, torch.arange(learning), targets[:learning], ())
    recipe = Recipe.from_preset("quick", {"epochs": 4, "batch": 32})
    cpu = torch.device("cpu")
    training = images.select(np.arange(count) < learning)
    found = temperature_out_of_fold(kept, training, recipe, (6,), device=cpu, progress=Silent())
    assert found is not None
    again = temperature_out_of_fold(kept, training, recipe, (6,), device=cpu, progress=Silent())
    assert found == again
    torch.manual_seed(0)
    whole = Presence((6,))
    fabric = Fabric(accelerator="cpu", devices=1)
    fit_presence(whole, kept, recipe, torch.arange(learning), fabric=fabric, progress=Silent())
    with torch.inference_mode():
        logits = whole.eval()([torch.from_numpy(cells[learning:]).permute(0, 3, 1, 2)])
    fresh = torch.from_numpy(there[learning:])
    best = float(temperature(logits, fresh))

    def surprise(warmth: float) -> float:
        return float(F.binary_cross_entropy_with_logits(logits / warmth, fresh.float()))

    assert surprise(found) < surprise(best) + 0.01


def test_too_few_images_of_a_kind_for_two_halves(tmp_path: Path) -> None:
    store = Store(4, [(1, 1, 3)], torch.bfloat16, budget=1e9, folder=tmp_path)
    store.put(0, [torch.zeros(4, 1, 1, 3, dtype=torch.bfloat16)])
    boxes = np.array([[1.0, 1, 2, 2]] * 3 + [[np.nan] * 4])
    kept = Kept(store, torch.arange(4), torch.from_numpy(boxes).float() / 4, ())
    images = Dataset([f"{row}.png" for row in range(4)], boxes)
    found = temperature_out_of_fold(
        kept, images, Recipe(), (3,), device=torch.device("cpu"), progress=Silent()
    )
    assert found is None


def test_margins_hold_on_the_images_that_they_were_made_from(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    validation = dataset.of_split("val")
    held, positive = validation.positives(), np.flatnonzero(validation.has_box)
    assert localizer.calibration is not None
    assert localizer.calibration.count == len(held) == 14
    # In one batch, as when the margins were made: one score is the margin itself, and another batch rounds differently.
    images = list(validation.images)
    together = [
        localizer.predict(images, options)
        for options in (PredictOptions(margins=0.8), PredictOptions(outer=0.8))
    ]
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


def test_by_default_margins_are_given_where_there_are_enough_images(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    first = str(dataset.images[0])
    assert np.isfinite(localizer.predict(first)[0].lower).all()
    with pytest.raises(ConfigError, match="need 99 held-out images, and this model was calibrated on 14"):
        localizer.predict(first, level=0.99)
    localizer.calibration = None
    assert np.isnan(localizer.predict(first)[0].lower).all()
    with pytest.raises(ConfigError, match="was not calibrated"):
        localizer.stream([first], level=0.9)


def test_familiarity_tells_the_training_images_from_others(dataset: Dataset, run: Path) -> None:
    localizer = Localizer.load(run)
    held = [one.familiarity for one in localizer.predict(list(dataset.of_split("val").images))]
    # Each of the held-out images has its own place among them.
    assert np.mean(held) == pytest.approx(0.5, abs=0.05)
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
    localizer = train(lacking, tmp_path / "run", Recipe.from_preset("quick", SMALL | {"epochs": 1}), progress=heard)
    assert localizer.presence is None
    assert np.isnan(localizer.predict(dataset.images[0])[0].presence)
    assert any(
        "presence is not learned" in line and "30 are to train on and 0" in line for line in heard.said
    )


def test_images_without_the_object_alone_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        train(dataset.select(~dataset.has_box), tmp_path / "run", Recipe.from_preset("quick", SMALL))


def test_the_loss_of_a_batch_is_the_mean_of_its_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(6, 4, generator=generator).sort(dim=1).values
    truth = torch.rand(6, 4, generator=generator).sort(dim=1).values
    truth[[1, 4]] = torch.nan
    logits = torch.randn(6, generator=generator)
    loss = Loss.parse("l1 + giou", sigma=0.01)

    def of(rows: slice) -> torch.Tensor:
        return loss(Output(boxes[rows], presence=logits[rows]), truth[rows])

    assert float(of(slice(6))) == pytest.approx(float((2 * of(slice(2)) + 4 * of(slice(2, 6))) / 6), rel=1e-5)
    only = loss(Output(boxes[1:2], presence=logits[1:2]), truth[1:2])
    assert float(only) == pytest.approx(float(F.softplus(logits[1])), rel=1e-6)


def test_a_image_without_the_object_teaches_nothing_about_boxes() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.6]], requires_grad=True)
    truth = torch.tensor([[0.2, 0.2, 0.5, 0.5], [torch.nan] * 4])
    logits = torch.zeros(2, requires_grad=True)
    Loss.parse("l1 + giou", sigma=0.01)(Output(boxes, presence=logits), truth).backward()  # type: ignore[no-untyped-call]
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


def test_on_a_gpu_windows_of_such_images_are_drawn_around_a_stand_in(
    dataset: Dataset, tmp_path: Path
) -> None:
    squares = Squares(
        dataset, 64, budget=1e9, folder=tmp_path, progress=Silent(), stage="images", skip_bad=False, ranks=Ranks(),
    )  # fmt: skip
    resident = Resident.of(squares, torch.device("cpu"))
    empty = torch.isnan(resident.boxes).any(dim=1)
    assert empty.tolist() == (~dataset.has_box).tolist()
    assert torch.isfinite(resident.aims).all()
    assert torch.equal(resident.aims[~empty], resident.boxes[~empty])
    numbers = torch.rand(len(resident), 11, generator=torch.Generator().manual_seed(0))
    pixels, targets = resident.batch(torch.arange(len(resident)), 48, numbers)
    assert torch.isfinite(pixels).all()
    assert torch.isnan(targets).all(dim=1).tolist() == empty.tolist()
