"""Put a localizer before labelled pictures and measure it."""

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from solobox.errors import DataError
from solobox.evaluation.metrics import Evaluation, evaluate_predictions
from solobox.evaluation.report import RunFacts
from solobox.formats import SPLITS
from solobox.localizer.localizer import Localizer
from solobox.prediction import Prediction
from solobox.samples import Samples
from solobox.training.progress import Progress, Silent
from solobox.training.recipe import Recipe

SplitName: TypeAlias = Literal["test", "val", "train", "all"]


def evaluate(
    localizer: Localizer,
    samples: Samples,
    split: SplitName = "test",
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict each labelled picture of a split and measure the boxes.

    split: where the samples name no split, the hash decides, by the fractions that the localizer was trained
        with, so that ``test`` is what training never saw. ``all`` takes every row.

    Pictures without a box are counted, not measured; an unreadable one counts with an IoU of 0. Raises DataError
    when the split holds no picture with a box.
    """
    progress = progress or Silent()
    chosen = part(localizer, samples, split)
    wanted = chosen.has_box
    predictions = [Prediction(str(image)) for image in chosen.images]
    rows = np.flatnonzero(wanted)
    progress.start(f"evaluating the {split} pictures", len(rows))
    for row, prediction in zip(rows, localizer.stream(chosen.images[r] for r in rows), strict=True):
        predictions[row] = prediction
        progress.advance()
    return evaluate_predictions(chosen, predictions, split)


def part(localizer: Localizer, samples: Samples, split: SplitName) -> Samples:
    """The rows of `split`, drawn as the localizer's training drew them."""
    if split == "all":
        found = samples
    elif split in samples.split:  # the data says so itself
        found = samples.of_split(split)
    else:
        recipe = localizer.facts.get("recipe")
        fractions = recipe if isinstance(recipe, dict) else {}
        defaults = Recipe()
        drawn = samples.with_splits(
            val=float(fractions.get("val", defaults.val)), test=float(fractions.get("test", defaults.test))
        )
        found = drawn.of_split(split)
        if not found.has_box.any():
            there = [f"{name}: {drawn.split.count(name)}" for name in SPLITS]
            raise DataError(
                f"no picture with a box is in the {split} split ({', '.join(there)}); "
                "choose another with --split, or `all`"
            )
    if not found.has_box.any():
        raise DataError("no picture has a box: there is nothing to measure")
    return found


def run_facts(localizer: Localizer, name: str, command: str) -> RunFacts:
    """What the report says about the training run behind a localizer."""
    facts = localizer.facts

    def mapping(key: str) -> dict[str, object]:
        value = facts.get(key)
        return value if isinstance(value, dict) else {}

    recipe, best, history = mapping("recipe"), mapping("best"), facts.get("history")
    lines = [line for line in history if isinstance(line, dict)] if isinstance(history, list) else []
    architecture = localizer.architecture
    settings = {key: getattr(architecture, key) for key in architecture.__slots__} | recipe
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
        backbone=architecture.backbone,
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
