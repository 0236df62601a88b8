"""The second look of cross-validation: each box refined by a model that was not trained on its image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from solobox.boxes import Floats, iou
from solobox.config.recipe import Recipe
from solobox.model.heads import Output
from solobox.model.localizer import Localizer
from solobox.model.losses import BoxLoss
from solobox.model.refiner import crop_side
from solobox.model.runtime import fastest
from solobox.model.threads import single_threaded_map
from solobox.predict.predictor import in_order
from solobox.training.calibrate import IMAGES_AT_ONCE
from solobox.training.distributed import Distributed
from solobox.training.feature_cache import FeatureCache
from solobox.training.image_cache import ImageSource
from solobox.training.loop import fit
from solobox.training.refining import (
    Errors,
    Gain,
    crop_features,
    crop_source,
    detail_for,
    new_refiner,
    refine_stage,
    refinements_of,
)
from solobox.utils.progress import Progress

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What the localizers of K folds find in N images.

    localizers: K. boxes, std: (N, 4) float64 as fractions of the sides, the boxes not clipped to the image; NaN where
    an image could not be read.
    """

    localizers: Sequence[Localizer]
    boxes: Floats
    std: Floats


class FirstLooks:
    """What the first looks of K folds find in N images, each of which was not trained on its fold.

    fold: (N,) of each image, -1 for one that could not be read. localizers: in evaluation mode, of one backbone.
    trained: (N,) masks of the images that each was trained on. boxes, std: see `Looks`. places: (N, 4) float64, where
    one looks again: see `Output.likeliest`.
    """

    def __init__(self, fold: npt.NDArray[np.int64]) -> None:
        """Without a localizer as yet."""
        self.fold = fold
        self.localizers: list[Localizer] = []
        self.trained: list[Mask] = []
        self.boxes, self.places, self.std = (np.full((len(fold), 4), np.nan) for _ in range(3))

    def add(self, localizer: Localizer, trained: Mask, output: Output | None) -> None:
        """The next fold. output: for its images in order, on the CPU; None where it has none."""
        rows = self.fold == len(self.localizers)
        self.localizers.append(localizer)
        self.trained.append(trained)
        if output is not None:
            boxes, self.std[rows] = boxes_and_std(output)
            self.boxes[rows] = in_order(boxes)
            self.places[rows] = output.likeliest().double().numpy()

    @property
    def looks(self) -> Looks:
        """Their boxes."""
        return Looks(self.localizers, self.boxes, self.std)


def boxes_and_std(output: Output) -> tuple[Floats, Floats]:
    """Boxes and standard deviations (n, 4) float64 of an output on the CPU."""
    return output.boxes.double().numpy(), output.std().double().numpy()


def refine_folds(
    first: FirstLooks,
    images: ImageSource,
    recipe: Recipe,
    loss: BoxLoss,
    *,
    budget: float,
    folder: Path,
    fabric: Fabric,
    progress: Progress,
) -> Looks | None:
    """Give the localizer of each fold the second look that training would give it, and predict its images by it.

    How large the objects are, and how far the first look is off, is measured over all folds: one number each, to which
    a single label contributes next to nothing.

    images: N, decoded before. budget: bytes of memory for features of crops; folder: for those that do not fit.

    Returns None where the recipe has none, where the objects are large, and where the boxes do not become better,
    unless the recipe wants a second look at all costs (see `Recipe.refine`).
    """
    rows = np.flatnonzero((first.fold >= 0) & images.dataset.has_box)
    detail = detail_for(first.localizers[0], recipe, images)
    if not detail:
        return None
    true = images.boxes(rows)
    localizers = [localizer.twin() for localizer in first.localizers]
    for localizer in localizers:
        localizer.architecture = replace(
            localizer.architecture, refinements=refinements_of(recipe), detail=detail
        )
    architecture, backbone = localizers[0].architecture, localizers[0].backbone
    crops_per_image = recipe.crops_per_image(min(int(mask.sum()) for mask in first.trained))
    crops = crop_features(
        crop_source(images.dataset.select(rows), architecture, Distributed(), folder),
        fastest(backbone, crop_side(architecture), bf16=recipe.bf16_features(len(images) * crops_per_image)),
        architecture, recipe, Errors.of(first.places[rows], true),
        crops_per_image=crops_per_image, budget=budget, folder=folder, progress=progress,
    ).to_device(fabric.device)  # fmt: skip
    trained = [mask[rows] for mask in first.trained]
    train_refiners(localizers, trained, crops, recipe, loss, fabric=fabric, progress=progress)
    second = second_looks(localizers, first.fold, images, progress)
    before, after = (iou(boxes[rows].clip(0, 1), true) for boxes in (first.boxes, second.boxes))
    gain = Gain.of(after, before)
    return second if gain.is_enough(recipe) else None


def train_refiners(
    localizers: Sequence[Localizer],
    trained: Sequence[Mask],
    crops: FeatureCache,
    recipe: Recipe,
    loss: BoxLoss,
    *,
    effort: float = 1.0,
    fabric: Fabric,
    progress: Progress,
) -> None:
    """Give each of K localizers a refiner that is trained on the same images.

    localizers: with the architecture of a second look. trained: (n,) masks of the images of `crops` that each is
    trained on. effort: share of the epochs.
    """
    for number, (localizer, chosen) in enumerate(zip(localizers, trained, strict=True)):
        refiner = new_refiner(localizer).to(fabric.device)
        used = min(recipe.crops_per_image(int(chosen.sum())), crops.crops_per_image)
        rows = crops.rows_of(torch.from_numpy(chosen), used)
        name = f"second look, fold {number + 1} of {len(localizers)}"
        stage = refine_stage(refiner, crops, recipe, loss, fabric, rows=rows, name=name)
        fit(stage.shortened(effort), fabric=fabric, progress=progress)
        device = next(localizer.parameters()).device
        localizer.set_refiner(refiner.eval().to(device), localizer.architecture.refinements)


def second_looks(
    localizers: Sequence[Localizer], fold: npt.NDArray[np.int64], images: ImageSource, progress: Progress
) -> Looks:
    """Predict each image by the localizer of its fold, (N,): -1 for one that is not predicted."""
    boxes, std = np.full((len(fold), 4), np.nan), np.full((len(fold), 4), np.nan)
    progress.start("second looks", int((fold >= 0).sum()))
    for number, localizer in enumerate(localizers):
        localizer.compile_backbone()
        rows = np.flatnonzero(fold == number)
        batches = [rows[start : start + IMAGES_AT_ONCE] for start in range(0, len(rows), IMAGES_AT_ONCE)]
        look = partial(_look, localizer, images)
        for batch, (batch_boxes, batch_std) in zip(batches, single_threaded_map(look, batches), strict=True):
            boxes[batch], std[batch] = batch_boxes, batch_std
            progress.advance(len(batch))
    return Looks(localizers, boxes, std)


def _look(localizer: Localizer, images: ImageSource, rows: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    squares = [localizer.preprocess(images.dataset.images[row]).pixels for row in rows.tolist()]
    located = localizer.locate_fast(np.stack(squares))
    return in_order(located.boxes.double().cpu().numpy()), located.std.double().cpu().numpy()
