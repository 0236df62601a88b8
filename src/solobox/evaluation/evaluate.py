"""Put a localizer before labelled images and measure it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.evaluation.report import RunFacts
from solobox.model.localizer import Localizer
from solobox.utils.progress import Progress, Silent

SplitName: TypeAlias = Literal["test", "val", "train", "all"]


def evaluate(
    localizer: Localizer,
    dataset: Dataset,
    split: SplitName = "test",
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict each labelled image of a split and measure the boxes, and how far they can be trusted.

    split: see `part`; ``all`` takes every row. How many of the measured images training had seen is counted.

    Images without a box are predicted too, for the presence of the object alone; an unreadable one with a box counts
    with an IoU of 0. Raises DataError when the split holds no image with a box.
    """
    return evaluate_on(localizer, part(localizer, dataset, split), split, progress=progress)


def evaluate_on(
    localizer: Localizer, chosen: Dataset, split: SplitName, *, progress: Progress | None = None
) -> Evaluation:
    """As `evaluate`, on images that are chosen already: two localizers are compared on the same ones.

    chosen: the images, at least one of them with a box. split: how they were chosen, for people.
    """
    progress = progress or Silent()
    predictions = []
    progress.start(f"evaluating: {split}", len(chosen))
    for prediction in localizer.stream(chosen.images):
        predictions.append(prediction)
        progress.advance()
    positives = chosen.positives().images
    n_seen = int((localizer.fingerprints.splits(positives) != "").sum()) if localizer.fingerprints else 0
    return replace(evaluate_predictions(chosen, predictions, split), n_seen=n_seen)


def part(localizer: Localizer, dataset: Dataset, split: SplitName) -> Dataset:
    """The rows of `split`: as the data says, or else as the localizer's training drew them.

    Training remembers its images by their contents (see `Fingerprints`). Where the data names no test rows, ``test`` is
    every image that training never saw: of the data it was trained on the part that was held out, of other data
    all of it.
    """
    seen = localizer.fingerprints
    given = np.array(dataset.split, dtype=np.str_)
    if split == "all":
        found = dataset
    elif split == "test" and "test" in dataset.split:
        found = dataset.of_split("test")
    elif seen is None:
        found = dataset.of_split(split)
        if split == "test" and not any(dataset.split):
            found = dataset
    else:
        parts = seen.splits(dataset.images)
        chosen = (parts == "") & (given == "") if split == "test" else parts == split
        found = dataset.select(chosen if chosen.any() else given == split)
    if not found.has_box.any():
        what = "" if split == "all" else f" of the {split} part"
        raise DataError(
            f"no image{what} has a box: there is nothing to measure. Choose another part with --split, or `all`"
        )
    return found


def run_facts(localizer: Localizer, name: str, command: str) -> RunFacts:
    """What the report says about the training run behind a localizer."""
    facts = localizer.metadata

    def mapping(key: str) -> dict[str, object]:
        value = facts.get(key)
        return value if isinstance(value, dict) else {}

    recipe, best, history = mapping("recipe"), mapping("best"), facts.get("history")
    lines = [line for line in history if isinstance(line, dict)] if isinstance(history, list) else []
    settings = asdict(localizer.architecture) | recipe
    best_epoch = next(
        (
            n + 1
            for n, line in enumerate(lines)
            if (line["stage"], line["epoch"]) == (best.get("stage"), best.get("epoch"))
        ),
        None,
    )
    return RunFacts(
        name=name,
        recipe=settings,
        history=[
            # the report's epochs are counted through the stages
            {"epoch": n + 1} | {key: value for key, value in line.items() if key not in ("stage", "epoch")}
            for n, line in enumerate(lines)
        ],
        backbone=localizer.architecture.backbone,
        seed=int(str(recipe.get("seed", 0))),
        data=str(facts.get("data", "")),
        command=command,
        versions={key: str(value) for key, value in mapping("versions").items()},
        counts={key: int(str(value)) for key, value in mapping("counts").items()},
        seconds={key: float(str(value)) for key, value in mapping("seconds").items()},
        best_epoch=best_epoch,
    )


def default_name(run: Path) -> str:
    """What to call a run: its folder's name."""
    return run.resolve().name
