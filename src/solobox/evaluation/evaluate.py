"""Run a localizer on labelled images and measure its predictions."""

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.model.localizer import Localizer
from solobox.utils.progress import NullProgress, Progress

SplitName: TypeAlias = Literal["test", "val", "train", "all"]


def evaluate(
    localizer: Localizer,
    dataset: Dataset,
    split: SplitName = "test",
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict every labelled image of a split and measure the boxes, margins, presence and familiarity.

    split: see `select_split`; ``all`` takes every row. `Evaluation.n_seen_in_training` counts the images that were used
        in training.

    Images without a box count for the presence metrics only. An image with a box that cannot be read counts as IoU 0.

    Raises DataError ``no-boxes`` if no image of the split has a box.
    """
    return evaluate_selection(localizer, select_split(localizer, dataset, split), split, progress=progress)


def evaluate_selection(
    localizer: Localizer, selection: Dataset, split: SplitName, *, progress: Progress | None = None
) -> Evaluation:
    """As `evaluate`, on images that are selected already, so that two localizers can be compared on the same images.

    selection: the images, at least one of them with a box. split: the name of the selection.
    """
    progress = progress or NullProgress()
    predictions = []
    progress.start(f"evaluating: {split}", len(selection))
    for prediction in localizer.stream(selection.images):
        predictions.append(prediction)
        progress.advance()
    positives = selection.positives().images
    seen = int((localizer.fingerprints.splits(positives) != "").sum()) if localizer.fingerprints else 0
    familiarity = localizer.familiarity
    evaluation = evaluate_predictions(
        selection,
        predictions,
        split,
        n_reference=localizer.n_reference,
        n_distances=len(familiarity.distances) if familiarity is not None else None,
    )
    return replace(evaluation, n_seen_in_training=seen)


def select_split(localizer: Localizer, dataset: Dataset, split: SplitName) -> Dataset:
    """The rows of a split: as the dataset defines it, otherwise as training split it; no boxes that nobody looked at.

    A localizer recognizes its training images by their contents (see `Fingerprints`). If the dataset defines no test
    split, ``test`` is every image without a split that training never used: the held-out part of the training data, or
    all of another dataset.

    Raises DataError ``no-boxes`` if no image of the split has a box.
    """
    fingerprints, dataset = localizer.fingerprints, dataset.select(~dataset.is_predicted)
    defined = np.array(dataset.split, dtype=np.str_)
    if split == "all":
        selection = dataset
    elif split == "test" and "test" in dataset.split:
        selection = dataset.of_split("test")
    elif fingerprints is None:
        selection = dataset.of_split(split)
        if split == "test" and not any(dataset.split):
            selection = dataset
    else:
        used = fingerprints.splits(dataset.images)
        rows = (used == "") & (defined == "") if split == "test" else used == split
        selection = dataset.select(rows if rows.any() else defined == split)
    if not selection.has_box.any():
        where = "" if split == "all" else f" of the {split} split"
        raise DataError(
            f"no image{where} has a box, so there is nothing to measure. Choose another split with --split, or `all`",
            code="no-boxes",
        )
    return selection
