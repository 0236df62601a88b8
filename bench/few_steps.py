"""How long to train on few labels: `python bench/few_steps.py [--sets airplane kangaroo] [--labels 20] [--draws 3]`.

From cached features of all images, heads are trained on so many labels, drawn at random, as `train` does it, with other
batches and numbers of steps: samples, in all, cost time, and few labels may be learned by heart. Mean IoU on 60 test
images (fewer where there are not so many), by the first look, with exact boxes and with boxes whose edges are off by 2%
of the side (s.d.), as people draw them. Mean, and standard error of the draws.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from datasets import joined, some
from selftraining import SETS
from solobox import Recipe
from solobox.boxes import iou
from solobox.cli.console import quieten
from solobox.config import recipe as recipe_module
from solobox.training.crossval import CrossValidator

WAYS = ((32, 140), (32, 70), (32, 35), (16, 140), (16, 40))
"""Batch, and steps at least."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["airplane", "kangaroo"], choices=SETS)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--draws", type=int, default=3)
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        training, test = SETS[name]()
        test = some(test, 60, 0)
        found: dict[tuple[str, tuple[int, int]], list[float]] = {}
        seconds: dict[tuple[int, int], list[float]] = {}
        for draw in range(arguments.draws):
            labelled = some(training, arguments.labels, draw)
            every = joined(labelled, test)
            few = np.arange(len(every)) < len(labelled)
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe.from_preset("quick", {"seed": draw})
                heads = CrossValidator.from_dataset(
                    every, recipe, folder=Path(folder), min_images=len(labelled)
                )
                for kind in ("exact", "drawn"):
                    boxes = heads.features.boxes.clone()
                    if kind == "drawn":
                        rng = np.random.default_rng(draw)
                        error = rng.normal(0, 0.02, (len(every), 4)).astype(np.float32)
                        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
                        # A crop has the error of its image; flipped ones, another one of the same size.
                        boxes += sides * torch.from_numpy(error)[heads.features.images]
                    validator = replace(heads, features=replace(heads.features, boxes=boxes))
                    for batch, steps in WAYS:
                        started = time.process_time()
                        with mock.patch.object(recipe_module, "_MIN_STEPS", steps):
                            head = replace(
                                validator, recipe=Recipe.from_preset("quick", {"seed": draw, "batch": batch})
                            ).fit(few)
                        seconds.setdefault((batch, steps), []).append(time.process_time() - started)
                        rows = np.flatnonzero(~few)
                        predicted = np.stack([one.box for one in heads.predict(head, rows)])
                        found.setdefault((kind, (batch, steps)), []).append(
                            float(iou(predicted, every.boxes[rows]).mean())
                        )
        print(f"{name}, {arguments.labels} labels, {len(test)} test images, {arguments.draws} draws")
        for (kind, way), values in found.items():
            error_of_mean = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
            print(
                f"  {kind}, batch {way[0]} x {way[1]} steps at least: {np.mean(values):.4f} +- {error_of_mean:.4f}, "
                f"{np.mean(seconds[way]):.0f} CPU s",
                flush=True,
            )


if __name__ == "__main__":
    main()
