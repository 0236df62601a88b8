"""Accuracy and seconds by backbone: `python bench/backbones.py tf_efficientnet_lite2 [--sets plates] [--seeds 2]`.

Each is a timm name, or NAME=FILE with a file of its weights where they are not bundled; EfficientNet-Lite0 comes first.
All heads start at random, since a pretrained one comes for Lite0 alone. Kangaroos, 200 airplanes and faces, and plates
with the second look.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from datasets import caltech, kangaroo, plates, some
from solobox import Dataset, Recipe, train
from solobox.boxes import iou
from solobox.cli.console import quieten


def some_of_caltech() -> tuple[Dataset, Dataset]:
    training, test = caltech()
    return some(training, 200, 0), test


SETS = {"kangaroo": kangaroo, "caltech": some_of_caltech, "plates": plates}


def measure(data: tuple[Dataset, Dataset], backbone: str, weights: str, seed: int) -> list[float]:
    """Mean IoU, share at 0.9, seconds of training."""
    training, test = data
    options = {
        "test": 0.0,
        "seed": seed,
        "backbone": backbone,
        "pretrained": weights,
        "pretrained_head": "random",
    }
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        localizer = train(training, Path(folder) / "run", Recipe.from_preset("quick", options))
        seconds = time.perf_counter() - started
        found = localizer.predict(list(test.images))
    overlap = iou(np.stack([prediction.box for prediction in found]), test.boxes)
    return [float(overlap.mean()), float((overlap >= 0.9).mean()), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbones", nargs="*", metavar="NAME[=FILE]")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    quieten()
    backbones = [("tf_efficientnet_lite0", "bundled")]
    for each in arguments.backbones:
        name, _, weights = each.partition("=")
        backbones.append((name, weights or "bundled"))
    for data_name in arguments.sets:
        data = SETS[data_name]()
        for backbone, weights in backbones:
            rows = [measure(data, backbone, weights, seed) for seed in range(arguments.seeds)]
            mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(
                f"{data_name:12} {backbone:24} IoU {mean[0]:.4f} +- {spread[0]:.4f}  .9 {mean[1]:.3f}  {mean[2]:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
