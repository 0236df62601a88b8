"""Accuracy against seconds, on real images: `python bench/accuracy.py [--seeds 3] [--only NAME]`.

Every time is from JPEG files to metrics, in one process whose libraries are already loaded: it includes
decoding, compiling the backbone, features, training, and predicting the test images from their files. The
control is the reference article's model (whole net trained, global average pooling, four numbers, MSE, no windows)
with the same backbone and weights, under this project's loop (AdamW on one cycle, EMA).
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets import caltech, kangaroo, some
from solobox import Dataset, Localizer, Recipe, train
from solobox.boxes import iou
from solobox.cli.console import quieten


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    data: Callable[[int], tuple[Dataset, Dataset]]
    settings: dict[str, Any]
    recipe: str = "quick"


def all_caltech(seed: int) -> tuple[Dataset, Dataset]:
    return caltech()


def hundred(seed: int) -> tuple[Dataset, Dataset]:
    training, test = caltech()
    return some(training, 100, seed), test


def kangaroos(seed: int) -> tuple[Dataset, Dataset]:
    return kangaroo()


CONTROL = {
    "size": 224, "vectorizer": "gap", "head": "regression", "loss": "mse", "crops": 1, "width": 512, "epochs": 0,
    "finetune_epochs": 5, "finetune_lr": 3e-4, "batch": 16,
}  # fmt: skip
# Each full row is followed by a quick one of at least its seconds.
FULL = (
    Case("kangaroo, full", kangaroos, {}, "finetune"),
    Case("kangaroo, quick, full's time", kangaroos, {"epochs": 50}),
    Case("caltech 224, full", all_caltech, {"size": 224}, "finetune"),
    Case("caltech 224, quick, full's time", all_caltech, {"size": 224, "epochs": 60}),
)
CASES = (
    Case("caltech 224, 2 epochs", all_caltech, {"size": 224, "epochs": 2}),
    Case("caltech 224", all_caltech, {"size": 224}),
    Case("caltech 320 (default)", all_caltech, {}),
    Case("caltech 448", all_caltech, {"size": 448}),
    Case("the same from random", all_caltech, {"pretrained_head": "random"}),
    Case("caltech, 100 images", hundred, {}),
    Case("the same from random", hundred, {"pretrained_head": "random"}),
    Case("kangaroo", kangaroos, {}),
    Case("the same from random", kangaroos, {"pretrained_head": "random"}),
    Case("caltech, the control", all_caltech, CONTROL),
    *FULL,
)


def measure(case: Case, seed: int) -> dict[str, float]:
    training, test = case.data(seed)
    # All that is not test is the trainer's, who holds a tenth of it out by hash.
    recipe = Recipe.from_preset(case.recipe, {"test": 0.0, "seed": seed, **case.settings})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train(training, Path(folder) / "run", recipe)
        trained = time.perf_counter()
        localizer = Localizer.load(Path(folder) / "run")
        found = localizer.predict(list(test.images))
        ended = time.perf_counter()
    overlap = iou(np.stack([prediction.box for prediction in found]), test.boxes)
    return {
        "iou": float(overlap.mean()),
        "iou50": float((overlap >= 0.5).mean()),
        "iou90": float((overlap >= 0.9).mean()),
        "train": trained - started,
        "total": ended - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="only the cases whose names hold this")
    arguments = parser.parse_args()
    quieten()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.seeds} seeds: mean ± spread (s.d.)"
    )
    print(f"{'case':26s} {'mean IoU':>16s} {'IoU>=.5':>8s} {'IoU>=.9':>14s} {'train s':>8s} {'total s':>8s}")
    for case in CASES:
        if arguments.only not in case.name:
            continue
        rows = [measure(case, seed) for seed in range(arguments.seeds)]
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        std = {key: float(np.std([row[key] for row in rows])) for key in rows[0]}
        print(
            f"{case.name:26s} {mean['iou']:.4f} ± {std['iou']:.4f} {mean['iou50']:8.3f} "
            f"{mean['iou90']:.3f} ± {std['iou90']:.3f} {mean['train']:8.1f} {mean['total']:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
