import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import timm
import torch

from solobox import synthetic
from solobox.config import recipe as recipes
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.evaluation.evaluate import evaluate
from solobox.model.heads import Output
from solobox.model.localizer import Localizer
from solobox.training.stages import initial_localizer
from solobox.training.train import train

pytestmark = pytest.mark.usefixtures("without_openvino", "fewer_steps")


@pytest.fixture(scope="module")
def fewer_steps() -> Iterator[None]:
    """A small training set gets more crops and epochs here too, but not as many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_MIN_CROPS", 96)
        patch.setattr(recipes, "_MIN_STEPS", 50)
        yield


def small(name: str = "quick", **changes: Any) -> Recipe:
    return Recipe.from_preset(
        name, {"size": 64, "crops": 2, "epochs": 2, "width": 16, "bins": 8, "batch": 8} | changes
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return synthetic.write(tmp_path_factory.mktemp("synthetic"), 40, seed=5, size=(96, 72))


class Heard:
    def __init__(self) -> None:
        self.stages: Counter[str] = Counter()
        self.said: list[str] = []
        self._stage, self._total = "", 0

    def start(self, stage: str, total: int | None) -> None:
        self._stage = stage
        self.stages[stage] -= total or 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.stages[self._stage] += steps

    def say(self, text: str) -> None:
        self.said.append(text)


class Run(NamedTuple):
    localizer: Localizer
    folder: Path
    heard: Heard


@pytest.fixture(scope="module")
def quick(drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run by small(), for tests that only read it."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    heard = Heard()
    return Run(train(drawn, folder, small(), progress=heard), folder, heard)


def test_training_leaves_a_localizer_that_is_used_the_same_after_loading(drawn: Dataset, quick: Run) -> None:
    localizer, folder, heard = quick
    assert all(left == 0 for left in heard.stages.values()), heard.stages
    assert any("in memory" in line for line in heard.said)
    again = Localizer.load(folder)
    images = [str(path) for path in drawn.images[:5]]
    for a, b in zip(localizer.predict(images), again.predict(images), strict=True):
        np.testing.assert_array_equal(a.box, b.box)
    facts = json.loads((folder / "config.json").read_text())
    history = facts["history"]
    assert len(history) > small().epochs
    assert [line["epoch"] for line in history] == list(range(1, len(history) + 1))
    assert len(history) == small().passes(
        facts["counts"]["train"] * small().crops_per_image(facts["counts"]["train"])
    )
    assert facts["best"]["val_iou"] == history[facts["best"]["epoch"] - 1]["val_iou"]
    counts = facts["counts"]
    assert counts["train"] + counts["val"] + counts["test"] == len(drawn)
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "fingerprints.npz",
        "history.csv",
        "model.safetensors",
    ]


def test_the_kept_epoch_is_what_evaluation_finds(drawn: Dataset, quick: Run) -> None:
    found = evaluate(quick.localizer, drawn, "val").metrics.mean_iou
    best: Any = quick.localizer.metadata["best"]
    # the features were kept in bfloat16, and the head computed in it where the processor can
    assert found == pytest.approx(best["val_iou"], abs=0.02)


def test_seeded_runs_repeat_bit_for_bit(drawn: Dataset, tmp_path: Path, quick: Run) -> None:
    torch.rand(7)  # what ran before must not matter
    np.random.default_rng().random(3)
    first = quick.localizer.state_dict()
    second = train(drawn, tmp_path / "b", small()).state_dict()
    other = train(drawn, tmp_path / "c", small(seed=4)).state_dict()
    for key in first:
        assert torch.equal(first[key], second[key]), key
    assert any(not torch.equal(first[key], other[key]) for key in other)


def test_the_global_random_state_is_left_alone(drawn: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(drawn, tmp_path / "run", small())
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_leave_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them here, which cannot be opened."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    one, other = (initial_localizer(Recipe(), presence=True) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_on_disk_it_trains_to_the_same_weights(drawn: Dataset, tmp_path: Path, quick: Run) -> None:
    heard = Heard()
    on_disk = train(drawn, tmp_path / "b", small(ram_gb=0.0001), progress=heard)
    assert any("on disk" in line for line in heard.said)
    for a, b in zip(quick.localizer.state_dict().values(), on_disk.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changes", [{}, {"finetune_epochs": 1}, {"folds": 2}, {"epochs": 0, "finetune_epochs": 1}]
)
def test_each_file_is_decoded_once_and_test_images_are_never_opened(
    drawn: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    opened: Counter[str] = Counter()
    files = {str(path) for path in drawn.images}
    plain = Path.open

    def counting(path: Path, *arguments: Any, **options: Any) -> Any:
        opened[str(path)] += str(path) in files
        return plain(path, *arguments, **options)

    split = drawn.without_auto_groups().with_splits().split
    monkeypatch.setattr(Path, "open", counting)
    train(drawn, tmp_path / "run", small(**changes), auto_group=False)
    # Those to train on once more, for the header: how large are the objects?
    times = {"train": 2, "val": 1}
    expected = {
        str(path): times[name] for path, name in zip(drawn.images, split, strict=True) if name != "test"
    }
    assert {path: count for path, count in opened.items() if path in files} == expected


def test_the_full_recipe_changes_the_backbone_and_the_quick_one_does_not(
    drawn: Dataset, tmp_path: Path, quick: Run
) -> None:
    heard = Heard()
    full = train(drawn, tmp_path / "full", small("finetune", epochs=0, finetune_epochs=1), progress=heard)
    fresh = Localizer(small().architecture, pretrained="bundled").backbone.state_dict()
    for key, value in fresh.items():
        assert torch.equal(quick.localizer.backbone.state_dict()[key], value), key
    changed = [key for key, value in full.backbone.state_dict().items() if not torch.equal(value, fresh[key])]
    assert any(key.endswith("weight") for key in changed)
    assert not any("running" in key for key in changed)
    # before anything is done, and where the pixels went
    assert any("min on this CPU" in line for line in heard.said[:2])
    assert any("in memory" in line for line in heard.said)
    history: Any = full.metadata["history"]
    assert [line["stage"] for line in history] == ["finetune"]


@pytest.mark.parametrize(
    "changes",
    [
        {"vectorizer": "gap", "head": "regression", "loss": "mse", "crops": 1},
        {"vectorizer": "flatten", "head": "regression", "loss": "smooth_l1"},
        {"vectorizer": "gap", "head": "distribution", "loss": "kl + ciou"},
        # the article's parts at a size that is no multiple of the stride
        {"strides": (32,), "size": 75, "extra": (64,), "vectorizer": "gap", "head": "regression", "width": 64,
         "box": "center_size", "loss": "mse", "epochs": 0, "finetune_epochs": 3, "crops": 1, "optimizer": "adam",
         "schedule": "exponential", "decay_steps": 10, "staircase": True, "warmup": 0.0, "finetune_lr": 0.001},
        {"strides": (32,), "size": "native", "vectorizer": "gap", "head": "regression", "loss": "smooth_l1",
         "box": "corner_size", "epochs": 0, "finetune_epochs": 2, "batch": 1, "accumulate": 4, "finetune_lr": 0.001},
    ],
)  # fmt: skip
def test_other_parts_train_too(drawn: Dataset, tmp_path: Path, changes: dict[str, Any]) -> None:
    localizer = train(drawn, tmp_path / "run", small(**changes))
    history: Any = localizer.metadata["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    best: Any = localizer.metadata["best"]
    assert evaluate(localizer, drawn, "val").metrics.mean_iou == pytest.approx(best["val_iou"], abs=0.02)


def test_an_unreadable_image_stops_training_or_is_counted(drawn: Dataset, tmp_path: Path) -> None:
    row = drawn.with_splits().split.index("train")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(drawn.paths[row].read_bytes()[:600])
    images = [*drawn.images[:row], broken, *drawn.images[row + 1 :]]
    dataset = Dataset(images, drawn.boxes, names=drawn.names)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        train(dataset, tmp_path / "a", small())
    localizer = train(dataset, tmp_path / "b", small(), skip_bad=True)
    unreadable: Any = localizer.metadata["unreadable"]
    assert len(unreadable) == 1
    assert "broken.jpg" in unreadable[0]


def test_a_run_is_not_written_over(drawn: Dataset, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a model"):
        train(drawn, tmp_path, small())


def test_a_backbone_that_got_worse_is_not_kept(drawn: Dataset, tmp_path: Path, quick: Run) -> None:
    heard = Heard()
    # a rate at which nothing survives
    full = train(
        drawn, tmp_path / "full", small("finetune", finetune_epochs=1, finetune_lr=10.0), progress=heard
    )
    assert any("did not help" in line for line in heard.said)
    history: Any = full.metadata["history"]
    assert {line["stage"] for line in history} == {"head", "finetune"}
    best: Any = full.metadata["best"]
    assert best["stage"] == "head"
    for key, value in quick.localizer.backbone.state_dict().items():
        assert torch.equal(full.backbone.state_dict()[key], value), key


def test_what_training_saw_is_not_measured_as_new(drawn: Dataset, tmp_path: Path, quick: Run) -> None:
    split = np.array(drawn.with_splits().split)
    assert evaluate(quick.localizer, drawn).metrics.n == (split == "test").sum()
    # under other names and in another order, as a mended copy of the labels has them
    renamed = Dataset(drawn.images, drawn.boxes, names=[f"copy/{name}" for name in drawn.names])
    shuffled = renamed.select(np.random.default_rng(0).permutation(len(drawn)))
    loaded = Localizer.load(quick.folder)
    assert set(evaluate(loaded, shuffled).dataset.images) == set(drawn.select(split == "test").images)
    assert evaluate(loaded, shuffled, "val").metrics.n == (split == "val").sum()
    # images from elsewhere are all new
    others = synthetic.write(tmp_path / "others", 7, seed=11, size=(96, 72))
    found = evaluate(loaded, others)
    assert (found.metrics.n, found.n_seen_in_training) == (7, 0)
    assert evaluate(loaded, drawn, "all").n_seen_in_training == (split != "test").sum()
    # a file that calls trained images test is believed, and its images are counted
    wrong = Dataset(drawn.images, drawn.boxes, split=["test"] * len(drawn))
    assert evaluate(loaded, wrong).n_seen_in_training == (split != "test").sum()


def test_evaluating_a_split_without_images_is_refused(drawn: Dataset, quick: Run) -> None:
    localizer = Localizer.load(quick.folder)  # a copy of its own, to change
    split = np.array(drawn.with_splits().split)
    with pytest.raises(DataError, match="has a box"):
        evaluate(localizer, drawn.select(split == "train"))
    localizer.fingerprints = None  # a model that does not say what it was made from
    other = Dataset(drawn.images, drawn.boxes, split=["train"] * 30 + ["val"] * 10, names=drawn.names)
    with pytest.raises(DataError, match="has a box"):
        evaluate(localizer, other)
    assert evaluate(localizer, other, "val").metrics.n == 10
    assert evaluate(localizer, other, "all").metrics.n == 40
    assert evaluate(localizer, drawn).metrics.n == 40


def test_options_callbacks_a_loss_and_a_backbone_of_ones_own(drawn: Dataset, tmp_path: Path) -> None:
    epochs: list[Any] = []
    losses: list[float] = []

    def loss(output: Output, boxes: torch.Tensor) -> torch.Tensor:
        value = (output.boxes - boxes).abs().mean()
        losses.append(float(value.detach()))
        return value

    torch.manual_seed(0)
    backbone = timm.create_model("mobilenetv3_small_050", features_only=True)
    localizer = train(
        drawn, tmp_path / "run", callbacks=[lambda epoch, module: epochs.append(epoch)], backbone=backbone, loss=loss,
        size=64, width=16, bins=8, batch=8, crops=1, epochs=1, finetune_epochs=1, seed=3,
    )  # fmt: skip
    assert localizer.architecture.size == 64
    assert localizer.backbone.body is backbone
    assert [epoch.to_dict() for epoch in epochs] == localizer.metadata["history"]
    assert {epoch.stage for epoch in epochs} == {"head", "finetune"}
    assert losses[-1] < losses[0]
    again = Localizer.load(
        tmp_path / "run", backbone=timm.create_model("mobilenetv3_small_050", features_only=True)
    )
    image = drawn.images[0]
    np.testing.assert_array_equal(again.predict(image).box, localizer.predict(image).box)


def test_options_change_a_recipe(drawn: Dataset, tmp_path: Path) -> None:
    localizer = train(drawn, tmp_path / "run", small(epochs=1), width=24, loss="l1")
    recipe: Any = localizer.metadata["recipe"]
    assert (localizer.architecture.size, localizer.architecture.width, recipe["loss"]) == (64, 24, "l1")
