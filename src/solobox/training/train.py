"""The whole of a training run: split, features, head, perhaps the trunk, and the folder that is left."""

import copy
import importlib.metadata
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.errors import ConfigError, DataError
from solobox.files import explained
from solobox.localizer.head import Output
from solobox.localizer.localizer import Localizer, decide
from solobox.localizer.losses import Loss, box_iou, within_reach
from solobox.localizer.runtime import fastest, has_fast_bf16
from solobox.samples import Samples
from solobox.seen import Seen
from solobox.training.features import Kept, keep
from solobox.training.loop import Batch, Epoch, Schedule, fit
from solobox.training.progress import Progress, Silent
from solobox.training.recipe import Recipe
from solobox.training.squares import Squares
from solobox.training.tuning import seconds_of_tuning, squares_for_tuning, tune_everything


def train(
    samples: Samples,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Localizer:
    """Train a localizer and leave it in the folder `out`, ready for `Localizer.load`.

    samples: labelled pictures; those without a box are not used yet. Rows without a split are split by hash,
        and those of the test split are not even opened.
    out: a folder that holds no model yet.
    recipe: default `Recipe()`, the quick one.
    skip_bad: leave out pictures that cannot be read, and count them, rather than stop.

    Two runs of the same recipe on the same data and machine give the same weights, bit for bit. Raises DataError
    for data that cannot be trained on, ConfigError for settings that do not work here.
    """
    recipe, progress = recipe or Recipe(), progress or Silent()
    out = Path(out)
    if (out / "config.json").exists():
        raise ConfigError(f"{out} already holds a model: choose another folder, or remove this one first")
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    parts = samples.with_splits(val=recipe.val, test=recipe.test)
    training, validation = (parts.of_split(name).positives() for name in ("train", "val"))
    negatives = len(parts) - int(parts.has_box.sum())
    if negatives:
        progress.say(f"{negatives} pictures without a box are kept in the table; training uses the others")
    if not len(training) or not len(validation):
        raise DataError(
            f"{len(training)} pictures to train on and {len(validation)} to validate with: both need one"
        )

    fabric = Fabric(accelerator="auto", devices=1, precision=_precision())
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        localizer = Localizer(recipe.architecture, pretrained=recipe.pretrained, head_start=recipe.head_start)
    localizer.to(fabric.device).eval()
    localizer.backbone.requires_grad_(False)
    watch.lap("model")

    loss = Loss.parse(recipe.loss, sigma=recipe.sigma)
    if recipe.full_epochs and fabric.device.type == "cpu":
        minutes = seconds_of_tuning(localizer, len(training), recipe, loss, fabric) / 60
        progress.say(
            f"training the trunk, {recipe.full_epochs} epochs, will take about {max(minutes, 1):.0f} min on this CPU "
            "(Ctrl-C stops it; --recipe quick does without)"
        )
    history: list[Epoch] = []
    chosen = 0
    unreadable: list[str] = []
    budget = recipe.ram_gb * 1e9 / (2 if recipe.epochs and recipe.full_epochs else 1)
    squares: tuple[Squares, Squares] | None = None
    if recipe.full_epochs:
        squares = squares_for_tuning(
            training, validation, recipe, out, progress, budget=budget, skip_bad=skip_bad
        )
        unreadable = [*squares[0].unreadable, *squares[1].unreadable]
        watch.lap("pictures")
    if recipe.epochs:
        history, chosen, found = _train_head(
            localizer, training, validation, squares, recipe, loss, out, fabric, progress, watch,
            budget=budget, skip_bad=skip_bad,
        )  # fmt: skip
        unreadable += found
    if squares is not None:
        before = copy.deepcopy(localizer.state_dict())
        more, place = tune_everything(localizer, *squares, recipe, loss, fabric, progress)
        if history and history[chosen].val_iou > more[place].val_iou:
            progress.say("training the trunk did not help: the localizer from before it is kept")
            localizer.load_state_dict(before)
        else:
            chosen = len(history) + place
        history += more
        watch.lap("trunk")
    if unreadable:
        progress.say(f"{len(unreadable)} pictures could not be read and were left out: {unreadable[0]}")
    localizer.to("cpu").eval()
    localizer.seen = Seen.of(training.images, validation.images)
    best = history[chosen]
    localizer.facts = {
        "recipe": _recipe_facts(recipe),
        "history": [line.to_dict() for line in history],
        "best": {"stage": best.stage, "epoch": best.epoch, "val_iou": best.val_iou},
        "counts": {
            "train": len(training),
            "val": len(validation),
            "test": int(parts.of_split("test").has_box.sum()),
            "negatives": negatives,
            "unreadable": len(unreadable),
        },
        "unreadable": unreadable,
        "data": str(samples.notes.path or ""),
        "seconds": watch.laps,
        "versions": versions(),
    }
    localizer.save(out)
    return localizer


def _train_head(
    localizer: Localizer,
    training: Samples,
    validation: Samples,
    squares: tuple[Squares, Squares] | None,
    recipe: Recipe,
    loss: Loss,
    out: Path,
    fabric: Fabric,
    progress: Progress,
    watch: "Stopwatch",
    *,
    budget: float,
    skip_bad: bool,
) -> tuple[list[Epoch], int, list[str]]:
    """The quick stage: feature maps once, then the head on them."""
    trunk = fastest(localizer.backbone, recipe.architecture.size)
    watch.lap("runtime")
    # Validation rows are about a tenth of the pictures with one view each: their share of the budget is small.
    views_each = recipe.views_each(len(training))
    share = len(validation) / (len(validation) + len(training) * views_each)

    def kept(samples: Samples, index: int, views: int, part: float, stage: str) -> Kept:
        decoded = squares[index] if squares else None
        return keep(
            decoded.samples if decoded else samples, trunk, recipe, views_each=views, budget=budget * part,
            folder=out, skip_bad=skip_bad, progress=progress, stage=stage, squares=decoded,
        )  # fmt: skip

    fitting = kept(training, 0, views_each, 1 - share, "features")
    checking = kept(validation, 1, 1, share, "features of the validation pictures")
    progress.say(f"{trunk.name}; features of {len(fitting)} views: {fitting.store.place}")
    watch.lap("features")
    head = Decide(localizer)
    steps = -(-len(fitting) // recipe.batch)

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(fitting))
        for rows in torch.split(torch.from_numpy(order), recipe.batch):
            maps = [feature.to(fabric.device) for feature in fitting.maps(rows)]
            yield maps, within_reach(fitting.targets[rows], recipe.architecture.cells).to(fabric.device)

    schedule = Schedule(
        "head", recipe.passes(len(fitting)), steps, recipe.lr, recipe.weight_decay, recipe.ema, recipe.seed
    )
    history, chosen = fit(
        head, batches, lambda module: ious(module, checking, fabric), loss, schedule,
        fabric=fabric, progress=progress,
    )  # fmt: skip
    watch.lap("head")
    return history, chosen, [*fitting.unreadable, *checking.unreadable]


class Decide(nn.Module):
    """The parts of a localizer after its trunk as a module of their own: maps in, `Output` out."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.extra, self.vectorizer, self.head = localizer.extra, localizer.vectorizer, localizer.head

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps in any float type; computed in the weights' type, or autocast's."""
        if not torch.is_autocast_enabled(maps[0].device.type):
            maps = [feature.float() for feature in maps]
        return decide(self.extra, self.vectorizer, self.head, maps)


def ious(module: nn.Module, kept: Kept, fabric: Fabric) -> Tensor:
    """IoU of each kept picture (N,) by a head, boxes clipped to the picture as in prediction."""
    found = []
    with torch.inference_mode():
        for rows in torch.split(torch.arange(len(kept)), 64):
            with fabric.autocast():
                boxes = module([feature.to(fabric.device) for feature in kept.maps(rows)]).boxes
            found.append(box_iou(boxes.float().cpu().clamp(0, 1), kept.targets[rows]))
    return torch.cat(found)


class Stopwatch:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What went by since the last lap was `name`."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    found = {}
    for name in ("solobox", "torch", "timm", "lightning-fabric", "openvino", "numpy", "pillow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _precision() -> Any:
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if has_fast_bf16() else "32-true"


def _recipe_facts(recipe: Recipe) -> dict[str, object]:
    facts = asdict(recipe)
    del facts["architecture"]  # it has its own place in config.json
    return facts
