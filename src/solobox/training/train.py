"""A training run: image cache, feature cache, stages, calibration, and the folder with the result."""

import importlib.metadata
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from solobox.config.options import options_of
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.object_size import ObjectSize, probe_sides
from solobox.errors import ConfigError, DataError
from solobox.model.localizer import Localizer
from solobox.model.losses import BoxLoss, Loss
from solobox.training.checkpoint_manager import CheckpointManager, saved_recipe
from solobox.training.distributed import (
    Distributed,
    check_accelerator,
    launch_fabric,
    resolve_precision,
)
from solobox.training.folds import assign_folds
from solobox.training.loggers import Logger, loggers
from solobox.training.loop import Callback
from solobox.training.run_folder import locked, must_be_unfinished, must_be_vacant
from solobox.training.stages import initial_localizer
from solobox.training.training_run import Timer, TrainingRun, fingerprints_of
from solobox.utils.atomic import explained
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.sampling import evenly_spaced
from solobox.utils.text import count_of

_SAMPLE_IMAGES = 32
_FEW_IMAGES = 3  # to train on, and fewer: a word of warning


def train(
    dataset: Dataset,
    out: str | Path,
    recipe: Recipe | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    skip_bad: bool = False,
    auto_group: bool = True,
    resume: bool = False,
    stop_after: int = 0,
    backbone: str | nn.Module | None = None,
    loss: str | BoxLoss | None = None,
    **options: Any,
) -> Localizer:
    """Train a localizer and save it in the folder `out`, ready for `Localizer.load`.

    dataset: labelled images. From those without a box the localizer learns `Prediction.presence`, if both the train and
        the val split have some. Rows without a split are split by hash. With
        `auto_group=False` images of the test split are not opened.
    out: a folder that holds no model yet.
    recipe: default `Recipe()`, the quick one; for a resumed run, the one it started with.
    callbacks: called after each epoch with its `Epoch` and the module with the averaged weights, on rank 0.
    skip_bad: leave out and count images that cannot be read, rather than raise DataError.
    auto_group: keep copies of an image and frames of a scene in one split, see `Dataset.with_auto_groups`.
    resume: continue the run that was paused, or killed, in `out`.
    stop_after: pause after so many epochs; 0 for never.
    backbone: a timm model name, or a module with `feature_info` (see `Backbone`), which is trained in place.
    loss: text such as ``kl + giou``, or a function of a head's `Output` and the true boxes (B, 4), as fractions, that
        returns the batch's mean.
    options: options of the recipe, such as ``size=224``.

    With several devices (`Recipe.devices`, torchrun, SLURM) every process calls this function and gets the localizer;
    rank 0 writes and reports. All hosts must see the same images and the same `out`.

    Two runs of one recipe on the same data and machine give the same weights, bit for bit, and so does a run that was
    paused and resumed, on a CPU. Raises DataError for data that cannot be trained on, ConfigError for settings that do
    not work (``run-in-use`` where another process trains in `out`), Paused when it stops before the end (`stop_after`,
    Ctrl-C, SIGTERM). Without `progress`, one to three images to train on give a UserWarning.
    """
    progress, out, timer = progress or NullProgress(), Path(out), Timer()
    options |= {
        name: value for name, value in (("backbone", backbone), ("loss", loss)) if isinstance(value, str)
    }
    recipe = _choose_recipe(out, recipe, options, resume=resume)
    check_accelerator(recipe.accelerator)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    dataset = dataset.with_auto_groups(progress) if auto_group else dataset.without_auto_groups()
    splits = dataset.with_splits(val=recipe.val, test=recipe.test)
    training, validation, has_presence = _training_data(splits, recipe, progress)
    _say_object_size(training, recipe, progress)
    fabric = launch_fabric(
        recipe.accelerator, resolve_precision(recipe.precision, recipe.accelerator), devices=recipe.devices,
        nodes=recipe.nodes,
    )  # fmt: skip
    group = Distributed(fabric)
    _check_group(recipe, group)
    with ExitStack() as stack:  # it holds the lock on rank 0
        group.on_rank_zero(lambda: stack.enter_context(locked(out, resume=resume)))
        trackers: list[Logger] = []
        group.on_rank_zero(lambda: _start_loggers(trackers, recipe, out))
        manager = CheckpointManager(
            out, recipe, stop_after=stop_after, resume=resume, loggers=trackers, group=group
        )
        manager.set_boxes(training, validation)
        custom = backbone if isinstance(backbone, nn.Module) else None
        localizer = initial_localizer(recipe, presence=has_presence, backbone=custom)
        localizer.to(fabric.device).eval()
        localizer.backbone.requires_grad_(False)
        timer.lap("model")
        box_loss = loss if callable(loss) else Loss.parse(recipe.loss)
        run = TrainingRun(
            recipe, box_loss, out, fabric, progress if group.is_rank_zero else NullProgress(), manager, timer, group,
            callbacks,
        )  # fmt: skip
        images = run.images(training, validation, skip_bad=skip_bad)
        heads = run.train(localizer, *images)
        unreadable = [*images[0].unreadable, *images[1].unreadable]
        if unreadable:
            run.progress.say(f"{len(unreadable)} images could not be read and were left out: {unreadable[0]}")
        localizer.to("cpu").eval()
        localizer.fingerprints = fingerprints_of(*images)
        group.on_rank_zero(partial(run.calibrate, localizer, images, heads)).apply(localizer)
        timer.lap("calibration")
        best = manager.history[manager.best]
        recipe_options = recipe.to_dict()
        for name in options_of(type(recipe.architecture)):  # config.json has the architecture separately
            del recipe_options[name]
        localizer.metadata = {
            "recipe": recipe_options,
            "history": [epoch.to_dict() for epoch in manager.history],
            "best": {"stage": best.stage, "epoch": best.epoch, "val_iou": best.val_iou},
            "counts": {
                "train": int(training.has_box.sum()),
                "val": int(validation.has_box.sum()),
                "test": int(splits.of_split("test").has_box.sum()),
                "negatives": len(splits) - int(splits.has_box.sum()),
                "unreadable": len(unreadable),
                "several_boxes": len(dataset.notes.several),
                "bad_rows": len(dataset.notes.bad),
            },
            "unreadable": unreadable,
            "data": str(dataset.notes.path or ""),
            "sample_images": _sample_images(training),
            "classes": sorted({label for label in dataset.label if label}),
            "seconds": timer.laps,
            "versions": versions(),
        }
        group.on_rank_zero(lambda: _finish(localizer, out, trackers))  # every rank waits until it is written
        return localizer


def _choose_recipe(out: Path, recipe: Recipe | None, options: dict[str, Any], *, resume: bool) -> Recipe:
    """The recipe to train with. Raises ConfigError where the folder does not fit."""
    if recipe is not None and options:
        recipe = Recipe.from_preset("quick", recipe.to_dict() | options)
    if not resume:
        must_be_vacant(out)
        return recipe or Recipe.from_preset("quick", options)
    must_be_unfinished(out)
    saved = saved_recipe(out)
    if (recipe is not None and recipe != saved) or (recipe is None and options):
        raise ConfigError(
            "a run is resumed with the recipe that it began with: pass no recipe and no options",
            code="resume-other-recipe",
        )
    return saved


def _training_data(splits: Dataset, recipe: Recipe, progress: Progress) -> tuple[Dataset, Dataset, bool]:
    """The training and validation images, and whether presence is learned."""
    training, validation = splits.of_split("train"), splits.of_split("val")
    positives = [int(split.has_box.sum()) for split in (training, validation)]
    if not all(positives):
        raise DataError(
            f"{positives[0]} images with a box to train on and {positives[1]} to validate with: both splits need one",
            code="empty-split",
        )
    if positives[0] <= _FEW_IMAGES:
        text = (
            f"training on {count_of(positives[0], 'image')} with a box: enough to try the program, and worth little: "
            "the model will hardly find the object in other images. Label more: `solobox curve` then measures what "
            "further ones are worth"
        )
        if type(progress) is NullProgress:  # nobody listens
            warnings.warn(text, stacklevel=3)
        else:
            progress.say(text)
    negatives = [len(training) - positives[0], len(validation) - positives[1]]
    if not all(negatives):
        if any(negatives):
            progress.say(
                f"presence is not learned: the train split has {negatives[0]} images without a box and the val split "
                f"{negatives[1]}, and both need one. List more of them, or give them a split"
            )
        training, validation = training.positives(), validation.positives()
    if recipe.folds:
        assign_folds(training, recipe.folds)  # raise before the features are computed
    return training, validation, all(negatives)


def _say_object_size(training: Dataset, recipe: Recipe, progress: Progress) -> None:
    rows, sizes = probe_sides(training.images, np.flatnonzero(training.has_box))
    side = None if recipe.architecture.size == "native" else recipe.architecture.size
    size = ObjectSize.of(training.boxes[rows], sizes, side)
    if size is not None:
        advice = f". That is too small to be found (tiny-objects): {size.advice()}" if size.is_tiny else ""
        progress.say(size.sentence() + advice)


def _check_group(recipe: Recipe, group: Distributed) -> None:
    if recipe.folds and group.size > 1:
        raise ConfigError(
            "folds are trained on one device: leave --folds out, or start one process",
            code="options-conflict",
        )
    if group.size > recipe.batch:
        raise ConfigError(
            f"a batch of {recipe.batch} cannot be divided among {group.size} devices: raise --batch",
            code="options-conflict",
        )


def _sample_images(training: Dataset) -> list[str]:
    """Absolute paths of some training images, evenly from all: `export` compares the exported file on them."""
    paths = [image for image in training.images if isinstance(image, Path)]
    rows = evenly_spaced(len(paths), _SAMPLE_IMAGES)
    return [str(paths[row].absolute()) for row in rows]


def _start_loggers(trackers: list[Logger], recipe: Recipe, out: Path) -> None:
    trackers += loggers(recipe.loggers, out, out.resolve().name)
    for tracker in trackers:
        tracker.log_hyperparams(recipe.to_dict())


def _finish(localizer: Localizer, out: Path, trackers: Sequence[Logger]) -> None:
    localizer.save(out)
    for tracker in trackers:
        tracker.finalize("success")


def versions() -> dict[str, str]:
    """Versions of the packages that influence the results."""
    installed = {}
    for name in ("solobox", "torch", "timm", "lightning-fabric", "openvino", "numpy", "pillow"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
