"""A training run: image cache, feature cache, stages, calibration, and the folder with the result."""

import copy
import importlib.metadata
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric
from torch import nn

from solobox.config.options import options_of
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.data.identity import matches
from solobox.data.object_size import ObjectSize, probe_sides
from solobox.errors import ConfigError, DataError
from solobox.model.localizer import Localizer
from solobox.model.losses import BoxLoss, Loss
from solobox.model.runtime import fastest
from solobox.training.calibrate import CalibrationResult, calibrate, from_features, from_images
from solobox.training.checkpoint_manager import CheckpointManager, saved_recipe
from solobox.training.crossval import CrossValidator, assign_folds, cross_fit_temperature, groups_of
from solobox.training.distributed import (
    Distributed,
    check_accelerator,
    launch_fabric,
    resolve_precision,
    single_device,
)
from solobox.training.feature_cache import cache_features
from solobox.training.image_cache import OVERSAMPLING, ImageCache, ImageSource, NativeImages
from solobox.training.loggers import Logger, loggers
from solobox.training.loop import Callback, Checkpointer, FitResult, fit
from solobox.training.refining import AUTO_REFINEMENTS, STAGE, detail_for, prepare
from solobox.training.run_folder import OUT_OF_FOLD, locked, must_be_unfinished, must_be_vacant
from solobox.training.stages import (
    LocalizerHead,
    Stage,
    estimate_finetuning,
    finetune_stage,
    head_stage,
    initial_localizer,
    presence_stage,
)
from solobox.uncertainty.conformal import Calibration
from solobox.utils.atomic import explained
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.text import count_of

_ENOUGH_GROUPS = 500
"""With so many validation images, or groups of them, the coverage of margins varies by 0.013 from run to run."""

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
        run = _TrainingRun(
            recipe, box_loss, out, fabric, progress if group.is_rank_zero else NullProgress(), manager, timer, group,
            callbacks,
        )  # fmt: skip
        images = run.images(training, validation, skip_bad=skip_bad)
        heads = run.train(localizer, *images)
        unreadable = [*images[0].unreadable, *images[1].unreadable]
        if unreadable:
            run.progress.say(f"{len(unreadable)} images could not be read and were left out: {unreadable[0]}")
        localizer.to("cpu").eval()
        localizer.fingerprints = _fingerprints(*images)
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


def _fingerprints(training: ImageSource, validation: ImageSource) -> Fingerprints:
    return Fingerprints(
        training.fingerprints, validation.fingerprints, training.signatures, validation.signatures
    )


def _sample_images(training: Dataset) -> list[str]:
    """Absolute paths of some training images, evenly from all: `export` compares the exported file on them."""
    paths = [image for image in training.images if isinstance(image, Path)]
    rows = np.linspace(0, len(paths) - 1, min(_SAMPLE_IMAGES, len(paths))).round().astype(int)
    return [str(paths[row].absolute()) for row in rows]


def _start_loggers(trackers: list[Logger], recipe: Recipe, out: Path) -> None:
    trackers += loggers(recipe.loggers, out, out.resolve().name)
    for tracker in trackers:
        tracker.log_hyperparams(recipe.to_dict())


def _finish(localizer: Localizer, out: Path, trackers: Sequence[Logger]) -> None:
    localizer.save(out)
    for tracker in trackers:
        tracker.finalize("success")


@dataclass(frozen=True, slots=True)
class _TrainingRun:
    """The objects that all steps of a run share, and the steps."""

    recipe: Recipe
    loss: BoxLoss
    out: Path
    fabric: Fabric
    progress: Progress
    manager: CheckpointManager
    timer: "Timer"
    group: Distributed
    callbacks: Sequence[Callback]

    def images(
        self, training: Dataset, validation: Dataset, *, skip_bad: bool
    ) -> tuple[ImageSource, ImageSource]:
        """The images of both splits, not decoded yet. Training images are cached only for fine-tuning."""
        recipe = self.recipe
        if recipe.architecture.size == "native":
            stride = recipe.architecture.strides[-1]
            native = partial(NativeImages, min_side=stride, skip_bad=skip_bad, group=self.group)
            return native(training), native(validation)
        side, finetune = recipe.architecture.side, bool(recipe.finetune_epochs)
        sides = round(side * OVERSAMPLING), side
        sizes = [len(training) * sides[0] ** 2 * finetune, len(validation) * sides[1] ** 2]
        cache = partial(ImageCache, network_side=side, folder=self.out, skip_bad=skip_bad, group=self.group)
        budget = self._budget / sum(sizes)
        return (
            cache(training, sides[0], keep=finetune, budget=budget * sizes[0]),
            cache(validation, sides[1], keep=True, budget=budget * sizes[1]),
        )

    @property
    def _budget(self) -> float:
        """Bytes of memory for cached images, and the same again for cached features."""
        return self.recipe.ram_gb * 1e9 / 2

    def train(
        self, localizer: Localizer, training: ImageSource, validation: ImageSource
    ) -> CrossValidator | None:
        """Train the remaining stages of the recipe.

        Returns the training features, to train more heads on, if they are the final backbone's.
        """
        recipe, heads = self.recipe, None
        if recipe.finetune_epochs and self.fabric.device.type == "cpu":
            seconds = estimate_finetuning(localizer, len(training), recipe, self.loss, self.fabric)
            self.progress.say(
                f"fine-tuning, {recipe.finetune_epochs} epochs, will take about {max(seconds / 60, 1):.0f} min on this "
                "CPU (Ctrl-C pauses it; --recipe quick does without)"
            )
            self.timer.lap("estimate")
        resumed = self.manager.stage_to_resume
        if recipe.epochs and (resumed != "finetune" and not (resumed == STAGE and recipe.finetune_epochs)):
            heads = self._train_head(localizer, training, validation)
        else:
            training.fill(self.progress, "images")
            validation.fill(self.progress, "validation images")
            self._set_images(training, validation)
            self.timer.lap("images")
        if recipe.finetune_epochs and resumed == STAGE:
            localizer.load_state_dict(self.manager.stage_start)
        elif recipe.finetune_epochs:
            self.progress.say(f"pixels of {len(training.rows)} images: {training.description}")
            self._finetune(localizer, training, validation)
        self._refine(localizer, training, validation, 0 if heads is None else heads.features.store.nbytes)
        return None if recipe.finetune_epochs else heads

    def _set_images(self, training: ImageSource, validation: ImageSource) -> None:
        self.manager.set_images(_fingerprints(training, validation))

    def _train_head(
        self, localizer: Localizer, training: ImageSource, validation: ImageSource
    ) -> CrossValidator:
        """Cache features, then train head and presence on them."""
        recipe, fabric = self.recipe, self.fabric
        crops = recipe.crops_per_image(len(training))
        bf16 = recipe.bf16_features(len(training) * crops)
        backbone = fastest(localizer.backbone, recipe.architecture.size, bf16=bf16)
        self.timer.lap("runtime")
        share = len(validation) / (len(validation) + len(training) * crops)
        cache = partial(
            cache_features, backbone=backbone, recipe=recipe, folder=self.out, progress=self.progress
        )
        features = cache(training, crops_per_image=crops, budget=self._budget * (1 - share), stage="features")
        val_features = cache(
            validation, crops_per_image=1, budget=self._budget * share, stage="validation features"
        )
        self._set_images(training, validation)
        self.progress.say(f"{backbone.name}; features of {len(features)} crops: {features.store.description}")
        features, val_features = features.to_device(fabric.device), val_features.to_device(fabric.device)
        self.timer.lap("features")
        head = LocalizerHead(localizer)
        untrained = copy.deepcopy(head)
        if self.manager.stage_to_resume == STAGE:
            localizer.load_state_dict(self.manager.stage_start)
        else:
            with self.manager.stage("head") as checkpointer:
                stage = head_stage(head, features, recipe, self.loss, fabric=fabric, validation=val_features)
                result = self._fit(stage, checkpointer)
                if head.presence is not None:
                    stage = presence_stage(head.presence, features, recipe, fabric=fabric)
                    fit(stage, fabric=fabric, progress=self.progress)
            self.manager.stage_ended(result)
        self.timer.lap("head")
        heads = CrossValidator(
            training, features, backbone, untrained, recipe, self.loss, fabric, self.progress
        )
        if recipe.folds:
            heads.out_of_fold(recipe.folds).write(self.out / OUT_OF_FOLD)
            self.timer.lap("folds")
        return heads

    def _fit(self, stage: Stage, checkpointer: Checkpointer) -> FitResult:
        return fit(
            stage,
            fabric=self.fabric,
            progress=self.progress,
            checkpointer=checkpointer,
            callbacks=self.callbacks,
        )

    def _finetune(self, localizer: Localizer, training: ImageSource, validation: ImageSource) -> None:
        """Fine-tune the whole network; the weights from before are restored if they were better."""
        manager = self.manager
        resumed = manager.stage_to_resume == "finetune"
        start = manager.stage_start if resumed else copy.deepcopy(dict(localizer.state_dict()))
        with manager.stage("finetune", start if manager.history else None) as checkpointer:
            stage = finetune_stage(
                localizer, training, validation, self.recipe, self.loss, fabric=self.fabric
            )
            result = self._fit(stage, checkpointer)
        before = manager.history[manager.best].val_iou if manager.history else None
        after = result.history[result.best].val_iou
        better = before is None or after is None or after >= before
        if not better and start is not None:
            self.progress.say("fine-tuning did not help: the localizer from before is kept")
            localizer.load_state_dict(start)
        manager.stage_ended(result, better=better)
        self.timer.lap("finetune")

    def _refine(
        self, localizer: Localizer, training: ImageSource, validation: ImageSource, used: int
    ) -> None:
        """Train the second look, where it is worthwhile. used: bytes of memory that cached features take."""
        recipe, manager = self.recipe, self.manager
        detail = detail_for(localizer, recipe, training)
        if not detail:
            return
        start = copy.deepcopy(dict(localizer.state_dict()))
        first_look = localizer.architecture
        bf16 = recipe.bf16_features(len(training) * recipe.crops_per_image(len(training)))
        look = prepare(
            localizer, detail, training, validation, recipe,
            partial(fastest, localizer.backbone, bf16=bf16),
            budget=max(self._budget - used, 0), folder=self.out, progress=self.progress,
        )  # fmt: skip
        look.refiner.to(self.fabric.device)
        self.timer.lap("crops")
        with manager.stage(STAGE, start) as checkpointer:
            result = self._fit(look.stage(recipe, self.loss, self.fabric), checkpointer)
        gain, error = look.gain(self.fabric)
        kept = recipe.refine != "auto" or gain > error
        manager.stage_ended(result, better=kept)
        change = f"{gain:+.3f} +- {error:.3f} of IoU on {len(look.first)} validation images"
        if kept:
            times = AUTO_REFINEMENTS if recipe.refine == "auto" else int(recipe.refine)
            localizer.set_refiner(look.refiner, times)
            self.progress.say(
                f"a second look at a crop around the box: {change}. It reads images at {detail * first_look.side} px"
            )
        else:
            localizer.architecture = first_look
            self.progress.say(
                f"a second look at a crop around the box does not help, and is left out: {change}"
            )
        self.timer.lap("refine")

    def calibrate(
        self, localizer: Localizer, images: tuple[ImageSource, ImageSource], heads: CrossValidator | None
    ) -> CalibrationResult:
        """Calibrate the trained localizer, on rank 0. heads: see `train`."""
        more = None
        if heads is None:
            training = from_images(images[0], localizer)
        else:
            heads = replace(heads, fabric=single_device(self.fabric, self.recipe))
            training = from_features(heads.features, images[0], localizer)
            # The heads of the first look have other errors than a refined box.
            if not localizer.architecture.refinements and _has_few_groups(images[1]):
                more = heads.held_out()
        rows = self._without_copies(*images, has_more=more is not None)
        only_copies = rows is not None and not len(rows)
        validation = from_images(images[1], localizer, None if only_copies else rows)
        result = calibrate(training, validation, frozen=heads is not None, more=more)
        if only_copies:
            result = replace(result, calibration=more.calibration() if more else Calibration(0, 0, {}, {}))
        if heads is not None and localizer.presence is not None:
            divisor = cross_fit_temperature(
                heads.features, images[0].dataset, self.recipe, localizer.backbone.channels,
                fabric=heads.fabric, progress=self.progress,
            )  # fmt: skip
            result = replace(result, temperature=divisor or result.temperature)
        return result

    def _without_copies(
        self, training: ImageSource, validation: ImageSource, *, has_more: bool
    ) -> npt.NDArray[np.intp] | None:
        """The validation images to calibrate on: without copies of training images, which have too small errors.

        has_more: whether margins come from other images too. None: all of them. Empty where those with a box are
        nothing but copies.
        """
        rows = validation.rows
        copies = matches(validation.signatures, training.signatures)[rows]
        positive = validation.dataset.has_box[rows]
        if not copies.any():
            return None
        if not (positive & ~copies).any():
            margins = "" if has_more else "the model has no margins, and "
            self.progress.say(
                f"all validation images with a box are copies of training images: {margins}what is measured on them is "
                "too good. `solobox check` lists them: give other images the split val"
            )
            return rows[:0]
        self.progress.say(
            f"{count_of(int(copies.sum()), 'validation image')} are copies of training images and do not calibrate "
            "the margins: `solobox check` lists them"
        )
        return rows[~copies]


def _has_few_groups(images: ImageSource) -> bool:
    """Whether too few of the images have a box to calibrate margins on."""
    return len(set(groups_of(images.dataset.select(images.rows).positives()))) < _ENOUGH_GROUPS


class Timer:
    """Seconds that each step of a run took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Record the time since the last lap under `name`."""
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def versions() -> dict[str, str]:
    """Versions of the packages that influence the results."""
    installed = {}
    for name in ("solobox", "torch", "timm", "lightning-fabric", "openvino", "numpy", "pillow"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
