"""Margins from all labelled images: predictions by heads that learned from the other half of them.

This is two-fold cross-conformal prediction (Vovk, 2015, "Cross-conformal predictors"). The final head, which has seen
more images for longer, is better than these, so margins are rather too wide than too narrow: about, and not exactly,
what split conformal prediction guarantees. CV+ (Barber et al., 2021, "Predictive inference with the jackknife+") would
guarantee 2 level - 1, and would have to keep both heads for prediction. Measured coverage is in bench/LOG.md.

A score is an error in standard deviations, and heads that learned for a shorter time give larger ones, which would make
scores too small. So their standard deviations are scaled to those of the final head, on images that neither saw.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from solobox.boxes import Floats
from solobox.data.identity import matches
from solobox.model.localizer import Localizer
from solobox.training.calibrate import HeldOut
from solobox.training.crossval import CrossValidator
from solobox.training.folds import assign_folds, groups_of
from solobox.training.refined_folds import boxes_and_std, second_looks, train_refiners
from solobox.training.stages import LocalizerHead

_ENOUGH = 40
"""Images, or groups of them, in one half for margins: their coverage at 0.9 varies by 0.05 from run to run then."""

_EFFORT, _UNSCALED_EFFORT = 0.25, 0.5
"""Share of the epochs for these heads, in batches of half the size: training may not take much longer for them. Without
images to scale their standard deviations by, twice as much, in whole batches (bench/LOG.md)."""

StdOfUnseen: TypeAlias = Callable[[Localizer], Floats]
"""The standard deviations (n, 4) that a localizer gives n images which no head learned from, as fractions."""


def held_out(
    validator: CrossValidator,
    images: npt.ArrayLike | None = None,
    *,
    std_of_unseen: StdOfUnseen | None = None,
) -> HeldOut | None:
    """Predictions of readable images with a box, each by a head that learned from the other half.

    A box that nobody looked at (`Dataset.is_predicted`) is learned from and not predicted.

    Where there is a second look, which takes longer, one half is predicted, if it has enough images.

    validator: with the final localizer. images: a mask (N,) of those of `validator`, default all.

    Returns None where they are of one group, or where copies leave none.
    """
    dataset = validator.images.dataset
    usable = dataset.has_box & validator.images.readable & np.asarray(True if images is None else images)
    groups = np.array(groups_of(dataset))
    if len(set(groups[usable].tolist())) < 2:
        return None
    fold = np.full(len(dataset), -1)
    fold[usable] = assign_folds(dataset.select(usable), 2)
    measured = np.zeros(len(dataset), np.bool_)
    for half in (0, 1):
        mine, others = (fold == half) & ~dataset.is_predicted, fold == 1 - half
        # Without groups, copies may be in both halves.
        mine[mine] = ~matches(validator.images.signatures[mine], validator.images.signatures[others])
        measured |= mine
    first_half = measured & (fold == 0)
    if validator.crops is not None and len(set(groups[first_half].tolist())) >= _ENOUGH:
        measured = first_half
    rows = np.flatnonzero(measured)
    if not len(rows):
        return None
    boxes, std = _halves(validator, fold, measured, std_of_unseen)
    true, found, deviation = (
        torch.from_numpy(each) for each in (validator.images.boxes(rows), boxes[rows], std[rows])
    )
    return HeldOut.of(true, found, deviation, [dataset.group[row] for row in rows.tolist()])


def _halves(
    validator: CrossValidator,
    fold: npt.NDArray[np.intp],
    measured: npt.NDArray[np.bool_],
    std_of_unseen: StdOfUnseen | None,
) -> tuple[Floats, Floats]:
    """Boxes and standard deviations (N, 4) as fractions of the images in a mask (N,), by heads of the other half.

    fold: (N,) 0 or 1, -1 for an image that no head is trained on.
    """
    recipe, effort = validator.recipe, _UNSCALED_EFFORT
    if std_of_unseen is not None:
        recipe, effort = replace(recipe, batch=max(recipe.batch // 2, 1)), _EFFORT
    validator = replace(
        validator, recipe=recipe, untrained=LocalizerHead(validator.untrained, presence=False)
    )
    boxes, std = (np.full((len(fold), 4), np.nan) for _ in range(2))
    localizers = []
    for half in range(1 + bool((fold[measured] == 1).any())):
        head = validator.fit(fold == 1 - half, f"margins, half {half + 1} of 2", effort=effort)
        localizers.append(validator.localizer_of(head))
        rows = np.flatnonzero((fold == half) & measured)
        if validator.crops is None and len(rows):
            boxes[rows], std[rows] = boxes_and_std(validator.outputs(head, rows))
    if validator.crops is not None:
        boxed = fold[validator.images.dataset.has_box]
        trained = [boxed == 1 - half for half in range(len(localizers))]
        train_refiners(
            localizers, trained, validator.crops, validator.recipe, validator.loss, effort=effort,
            fabric=validator.fabric, progress=validator.progress,
        )  # fmt: skip
        second = second_looks(localizers, np.where(measured, fold, -1), validator.images, validator.progress)
        boxes, std = second.boxes, second.std
    if std_of_unseen is not None:
        final = std_of_unseen(validator.localizer)
        for half, localizer in enumerate(localizers):
            std[fold == half] *= _ratio(final, std_of_unseen(localizer))
    return boxes, std


def _ratio(std: Floats, other: Floats) -> float:
    """The geometric mean of the ratio of two arrays (n, 4); 1 for a head without standard deviations, which are NaN."""
    ratios = np.log(std) - np.log(other)
    return float(np.exp(ratios.mean())) if np.isfinite(ratios).all() else 1.0
