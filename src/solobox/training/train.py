"""The whole of a training run: split, features, head, perhaps the backbone, and the folder that is left."""

import copy
import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from solobox.config.options import options_of
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError, DataError
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss
from solobox.model.runtime import fastest
from solobox.training.calibrate import Source, calibrated, of_images, of_kept, of_shown
from solobox.training.checkpoint_manager import Progressed, recipe_of
from solobox.training.crossval import Bank, assigned
from solobox.training.distributed import Ranks, launched, precision_of
from solobox.training.feature_cache import Kept, keep
from solobox.training.finetune import Shown, images_for_tuning, seconds_of_tuning, tune_everything
from solobox.training.image_cache import Squares
from solobox.training.loggers import Logger, loggers
from solobox.training.on_device import fit_on
from solobox.training.presence_crossval import temperature_out_of_fold
from solobox.training.run_folder import OUT_OF_FOLD, must_be_unfinished, must_be_vacant
from solobox.training.stages import Decide, fit_head, ious
from solobox.utils.atomic import explained
from solobox.utils.progress import Progress, Silent

_SAMPLE_IMAGES = 32


def train(
    dataset: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
    resume: bool = False,
    stop_after: int = 0,
) -> Localizer:
    """Train a localizer and leave it in the folder `out`, ready for `Localizer.load`.

    dataset: labelled images. From those without a box the localizer learns `Prediction.presence`, if some are in both
        the train and the val part. Rows without a split are split by hash, and those of the test split are not even
        opened.
    out: a folder that holds no model yet.
    recipe: default `Recipe()`, the quick one; of a run that is resumed, its own.
    skip_bad: leave out images that cannot be read, and count them, rather than stop.
    resume: go on with the run that was paused, or killed, in `out`.
    stop_after: pause after so many epochs; 0 for never.

    With several devices (`Recipe.devices`, torchrun, SLURM) every process runs this function and gets the localizer;
    the main one writes, and alone says anything. The hosts have to see the same images and the same `out`.

    Two runs of the same recipe on the same data and machine give the same weights, bit for bit, and so does a run
    that was paused and resumed, on a CPU. Raises DataError for data that cannot be trained on, ConfigError for
    settings that do not work here, Paused when it stopped before the end (`stop_after`, Ctrl-C, SIGTERM).
    """
    progress, out = progress or Silent(), Path(out)
    recipe = _recipe(out, recipe, resume=resume)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    parts = dataset.with_splits(val=recipe.val, test=recipe.test)
    training, validation = (parts.of_split(name) for name in ("train", "val"))
    positives = [int(part.has_box.sum()) for part in (training, validation)]
    if not all(positives):
        raise DataError(
            f"{positives[0]} images to train on and {positives[1]} to validate with: both need one"
        )
    negatives = [len(part) - count for part, count in zip((training, validation), positives, strict=True)]
    if not all(negatives):
        if any(negatives):
            progress.say(
                f"presence is not learned: of the images without a box {negatives[0]} are to train on and "
                f"{negatives[1]} to validate with, and both need one. List more of them, or give them a split"
            )
        training, validation = training.positives(), validation.positives()
    if recipe.folds:
        assigned(training, recipe.folds)  # or it says why not, before the long part
    precision = precision_of(recipe.precision, recipe.accelerator)
    fabric = launched(recipe.accelerator, precision, devices=recipe.devices, nodes=recipe.nodes)
    ranks = Ranks(fabric)
    if recipe.folds and ranks.size > 1:
        raise ConfigError("folds are trained on one device: leave --folds out, or start one process")
    if ranks.size > recipe.batch:
        raise ConfigError(
            f"a batch of {recipe.batch} cannot be shared by {ranks.size} devices: raise --batch"
        )
    if not ranks.is_main:
        progress = Silent()
    seen = ranks.on_main(lambda: Fingerprints.of(training.images, validation.images))
    trackers: list[Logger] = []
    ranks.on_main(lambda: _begin(trackers, recipe, out))
    run = Progressed(out, recipe, seen, stop_after=stop_after, resume=resume, loggers=trackers, ranks=ranks)

    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        architecture = replace(recipe.architecture, presence=all(negatives))
        localizer = Localizer(
            architecture, pretrained=recipe.pretrained, pretrained_head=recipe.pretrained_head
        )
    localizer.to(fabric.device).eval()
    localizer.backbone.requires_grad_(False)
    watch.lap("model")
    job = _Job(
        recipe,
        Loss.parse(recipe.loss),
        out,
        fabric,
        progress,
        run,
        watch,
        ranks,
    )
    unreadable, shown, fitting = _stages(job, localizer, training, validation, skip_bad=skip_bad)
    if unreadable:
        progress.say(f"{len(unreadable)} images could not be read and were left out: {unreadable[0]}")
    localizer.to("cpu").eval()
    localizer.seen = seen
    together = 1 if architecture.size == "native" else 32
    trust = ranks.on_main(lambda: calibrated(localizer, *shown, together=together))
    if fitting is not None and localizer.presence is not None:
        found = ranks.on_main(
            lambda: temperature_out_of_fold(
                fitting,
                training,
                recipe,
                localizer.backbone.channels,
                device=fabric.device,
                progress=progress,
            )
        )
        trust = replace(trust, temperature=found or trust.temperature)
    trust.give(localizer)
    watch.lap("calibration")
    best = run.earlier[run.chosen]
    localizer.facts = {
        "recipe": _recipe_facts(recipe),
        "history": [line.to_dict() for line in run.earlier],
        "best": {"stage": best.stage, "epoch": best.epoch, "val_iou": best.val_iou},
        "counts": {
            "train": positives[0],
            "val": positives[1],
            "test": int(parts.of_split("test").has_box.sum()),
            "negatives": len(parts) - int(parts.has_box.sum()),
            "unreadable": len(unreadable),
        },
        "unreadable": unreadable,
        "data": str(dataset.notes.path or ""),
        "sample_images": _sample_images(training),
        "classes": sorted({label for label in dataset.label if label}),
        "seconds": watch.laps,
        "versions": versions(),
    }
    ranks.on_main(lambda: _finish(localizer, out, trackers))  # and it is written when any returns
    return localizer


def _sample_images(training: Dataset) -> list[str]:
    """Absolute paths of some training images, evenly from all: `export` compares the exported file on them."""
    rows = np.linspace(0, len(training) - 1, min(_SAMPLE_IMAGES, len(training))).round().astype(int)
    return [str(training.images[row].absolute()) for row in rows]


def _begin(trackers: list[Logger], recipe: Recipe, out: Path) -> None:
    trackers += loggers(recipe.loggers, out, out.resolve().name)
    for tracker in trackers:
        tracker.log_hyperparams(recipe.to_dict())


def _finish(localizer: Localizer, out: Path, trackers: Sequence[Logger]) -> None:
    localizer.save(out)
    for tracker in trackers:
        tracker.finalize("success")


def _recipe(out: Path, recipe: Recipe | None, *, resume: bool) -> Recipe:
    """The recipe to train by, if the folder is fit for that."""
    if not resume:
        must_be_vacant(out)
        return recipe or Recipe()
    must_be_unfinished(out)
    own = recipe_of(out)
    if recipe is not None and recipe != own:
        raise ConfigError("a run goes on with the recipe that it began with: give none")
    return own


@dataclass(frozen=True, slots=True)
class _Job:
    """What every stage of a run needs."""

    recipe: Recipe
    loss: Loss
    out: Path
    fabric: Fabric
    progress: Progress
    run: Progressed
    watch: "Stopwatch"
    ranks: Ranks


def _stages(
    job: _Job, localizer: Localizer, training: Dataset, validation: Dataset, *, skip_bad: bool
) -> tuple[list[str], tuple[Source, Source], Kept | None]:
    """Head, then perhaps the backbone, from where the run is.

    Gives what was wrong with images that were left out, what there is to calibrate with, and the kept training
    features where they are the final backbone's.
    """
    recipe, run, progress = job.recipe, job.run, job.progress
    if recipe.finetune_epochs and job.fabric.device.type == "cpu":
        seconds = seconds_of_tuning(localizer, len(training), recipe, job.loss, job.fabric, job.ranks)
        minutes = seconds / 60
        progress.say(
            f"training the backbone, {recipe.finetune_epochs} epochs, will take about {max(minutes, 1):.0f} min "
            "on this CPU (Ctrl-C stops it; --recipe quick does without)"
        )
        job.watch.lap("estimate")
    unreadable: list[str] = []
    budget = recipe.ram_gb * 1e9 / (2 if recipe.epochs and recipe.finetune_epochs else 1)
    squares: tuple[Shown, Shown] | None = None
    if recipe.finetune_epochs:
        squares = images_for_tuning(
            training, validation, recipe, job.out, progress, budget=budget, skip_bad=skip_bad, ranks=job.ranks
        )
        unreadable = [*squares[0].unreadable, *squares[1].unreadable]
        job.watch.lap("images")
    if recipe.epochs and run.stage_to_resume != "finetune":
        fitting, checking = _train_head(
            job, localizer, training, validation, squares, budget=budget, skip_bad=skip_bad
        )
        unreadable += [*fitting.unreadable, *checking.unreadable]
    if squares is None:
        sources = of_kept(fitting, training.group), of_images(checking, validation, localizer)
        return unreadable, sources, fitting
    _tune(job, localizer, squares)
    return unreadable, (of_shown(squares[0], localizer), of_shown(squares[1], localizer)), None


def _tune(job: _Job, localizer: Localizer, squares: tuple[Shown, Shown]) -> None:
    """The stage that trains the backbone too; what it makes worse is not kept."""
    run = job.run
    before = run.before if run.stage_to_resume == "finetune" else copy.deepcopy(dict(localizer.state_dict()))
    earlier, chosen = run.earlier, run.chosen
    with run.stage("finetune", before if earlier else None) as keeper:
        resident = fit_on(squares[0], job.fabric.device, job.ranks)
        if resident is not None:
            job.progress.say(f"they also lie on the GPU: {resident.pixels.nbytes / 1e9:.2f} GB")
        more, place = tune_everything(
            localizer, *squares, job.recipe, job.loss, job.fabric, job.progress, keeper, resident=resident
        )
    if earlier and before is not None and earlier[chosen].val_iou > more[place].val_iou:
        job.progress.say("training the backbone did not help: the localizer from before it is kept")
        localizer.load_state_dict(before)
    else:
        chosen = len(earlier) + place
    run.stage_ended(more, chosen)
    job.watch.lap("backbone")


def _train_head(
    job: _Job,
    localizer: Localizer,
    training: Dataset,
    validation: Dataset,
    squares: tuple[Shown, Shown] | None,
    *,
    budget: float,
    skip_bad: bool,
) -> tuple[Kept, Kept]:
    """The quick stage: feature maps once, then the head on them. Gives the maps of both parts."""
    recipe, fabric = job.recipe, job.fabric
    backbone = fastest(localizer.backbone, recipe.architecture.size, bf16=recipe.precision != "32-true")
    job.watch.lap("runtime")
    # Validation rows are about a tenth of the images with one view each: their share of the budget is small.
    crops_per_image = recipe.crops_per_image(len(training))
    share = len(validation) / (len(validation) + len(training) * crops_per_image)

    def kept(dataset: Dataset, index: int, views: int, part: float, stage: str) -> Kept:
        decoded = squares[index] if squares else None
        assert decoded is None or isinstance(decoded, Squares)  # noqa: S101 (the recipe refuses `native` here)
        return keep(
            decoded.dataset if decoded else dataset, backbone, recipe, crops_per_image=views, budget=budget * part,
            folder=job.out, skip_bad=skip_bad, progress=job.progress, stage=stage, squares=decoded, ranks=job.ranks,
        )  # fmt: skip

    fitting = kept(training, 0, crops_per_image, 1 - share, "features")
    checking = kept(validation, 1, 1, share, "validation features")
    job.progress.say(f"{backbone.name}; features of {len(fitting)} views: {fitting.store.place}")
    fitting, checking = (some.near(fabric.device) for some in (fitting, checking))
    job.watch.lap("features")
    untrained = copy.deepcopy(Decide(localizer))
    with job.run.stage("head") as keeper:
        history, chosen = fit_head(
            Decide(localizer), fitting, lambda module: ious(module, checking, fabric), recipe, job.loss, fabric=fabric,
            progress=job.progress, keeper=keeper, ranks=job.ranks,
        )  # fmt: skip
    job.run.stage_ended(history, chosen)
    job.watch.lap("head")
    if recipe.folds:
        bank = Bank.around(training, recipe, fitting, backbone, untrained, fabric, job.progress)
        bank.out_of_fold(recipe.folds).write(job.out / OUT_OF_FOLD)
        job.watch.lap("folds")
    return fitting, checking


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


def _recipe_facts(recipe: Recipe) -> dict[str, object]:
    facts = recipe.to_dict()
    for name in options_of(type(recipe.architecture)):  # the architecture has its own place in config.json
        del facts[name]
    return facts
