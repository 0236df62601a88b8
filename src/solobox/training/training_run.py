"""The steps of a training run: images, cached features, stages, second look, calibration."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric

from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.data.identity import matches
from solobox.model.localizer import Localizer
from solobox.model.losses import BoxLoss
from solobox.model.runtime import fastest
from solobox.training.calibrate import (
    CalibrationResult,
    calibrate,
    cross_fit_temperature,
    from_features,
    from_images,
    std_by,
)
from solobox.training.checkpoint_manager import CheckpointManager
from solobox.training.cross_conformal import held_out
from solobox.training.crossval import CrossValidator
from solobox.training.distributed import (
    Distributed,
    single_device,
)
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.folds import groups_of
from solobox.training.image_cache import OVERSAMPLING, ImageCache, ImageSource, NativeImages
from solobox.training.loop import Callback, Checkpointer, FitResult, fit
from solobox.training.refining import STAGE, detail_for, prepare, refinements_of
from solobox.training.run_folder import OUT_OF_FOLD
from solobox.training.stages import (
    LocalizerHead,
    Stage,
    estimate_finetuning,
    finetune_stage,
    head_stage,
    presence_stage,
)
from solobox.uncertainty.conformal import Calibration
from solobox.utils.progress import Progress
from solobox.utils.sampling import evenly_spaced
from solobox.utils.text import count_of

_ENOUGH_GROUPS = 500
"""With so many validation images, or groups of them, the coverage of margins varies by 0.013 from run to run."""


_MAX_UNSEEN = 32
"""Of so many validation images the standard deviations of several heads are compared, image by image."""


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


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """The objects that all steps of a run share, and the steps."""

    recipe: Recipe
    loss: BoxLoss
    out: Path
    fabric: Fabric
    progress: Progress
    manager: CheckpointManager
    timer: Timer
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
        crops = self._refine(
            localizer, training, validation, 0 if heads is None else heads.features.store.nbytes
        )
        return None if heads is None or recipe.finetune_epochs else replace(heads, crops=crops)

    def _set_images(self, training: ImageSource, validation: ImageSource) -> None:
        self.manager.set_images(fingerprints_of(training, validation))

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
                    fit(stage, fabric=fabric, progress=self.progress, checkpointer=checkpointer.rest())
            self.manager.stage_ended(result)
        self.timer.lap("head")
        heads = CrossValidator(
            training,
            features,
            backbone,
            untrained,
            localizer,
            recipe,
            self.loss,
            fabric,
            self.out,
            self.progress,
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
    ) -> FeatureCache | None:
        """Train the second look, where it is worthwhile. used: bytes of memory that cached features take.

        Returns the features that it was trained on, None without a second look.
        """
        recipe, manager = self.recipe, self.manager
        detail = detail_for(localizer, recipe, training)
        if not detail:
            return None
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
        gain = look.gain(self.fabric)
        kept = gain.is_enough(recipe)
        manager.stage_ended(result, better=kept)
        change = f"{gain.mean:+.3f} +- {gain.error:.3f} of IoU on {len(look.first)} validation images"
        if kept:
            localizer.set_refiner(look.refiner, refinements_of(recipe))
            self.progress.say(
                f"a second look at a crop around the box: {change}. It reads images at {detail * first_look.side} px"
            )
        else:
            localizer.architecture = first_look
            self.progress.say(
                f"a second look at a crop around the box does not help, and is left out: {change}"
            )
        self.timer.lap("refine")
        return look.features if kept else None

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
            if _has_few_groups(images[1]):
                unseen = _unseen(*images)
                std_of_unseen = partial(std_by, images[1], unseen) if len(unseen) else None
                more = held_out(heads, std_of_unseen=std_of_unseen)
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


def _unseen(training: ImageSource, validation: ImageSource) -> npt.NDArray[np.intp]:
    """Some validation images with a box that are no copies of training images, evenly spaced."""
    rows = validation.rows
    copies = matches(validation.signatures, training.signatures)[rows]
    rows = rows[validation.dataset.has_box[rows] & ~copies]
    return rows.take(evenly_spaced(len(rows), _MAX_UNSEEN))


def _has_few_groups(images: ImageSource) -> bool:
    """Whether too few of the images have a box to calibrate margins on."""
    return len(set(groups_of(images.dataset.select(images.rows).positives()))) < _ENOUGH_GROUPS


def fingerprints_of(training: ImageSource, validation: ImageSource) -> Fingerprints:
    """Of the images of both splits."""
    return Fingerprints(
        training.fingerprints, validation.fingerprints, training.signatures, validation.signatures
    )
