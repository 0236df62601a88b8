"""What images without labels add to a few with: `python bench/selftraining.py [--labels 20] [--draws 3] [--size 224]`.

One round of self-training: a model of the labelled images predicts the rest of the training images; the half of these
whose boxes are surest (mean standard deviation of the edges, in sides of the box) become labels; a model is
trained on both, and validated on the labelled ones alone. Mean IoU on the test images, for each draw of the labelled
images, beside the model of these alone, and beside one of all training images with their true boxes.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets import caltech, joined, kangaroo, plates, some
from solobox import Dataset, Localizer, Recipe, train
from solobox.boxes import iou
from solobox.cli.console import quieten


def of_class(label: str) -> Callable[[], tuple[Dataset, Dataset]]:
    """The images of Caltech with this label."""

    def read() -> tuple[Dataset, Dataset]:
        training, test = caltech()
        chosen = [np.flatnonzero(np.array(part.label) == label) for part in (training, test)]
        return training.select(chosen[0]), test.select(chosen[1])

    return read


SETS = {
    "kangaroo": kangaroo,
    "face": of_class("face"),
    "airplane": of_class("airplane"),
    "plates": plates,
}


def trained(dataset: Dataset, size: int, seed: int) -> Localizer:
    recipe = Recipe.from_preset("quick", {"test": 0.0, "seed": seed, "size": size, "refine": "off"})
    with tempfile.TemporaryDirectory() as folder:
        return train(dataset, Path(folder) / "run", recipe)


def quality(localizer: Localizer, test: Dataset) -> float:
    found = localizer.predict(list(test.images))
    return float(iou(np.stack([prediction.box for prediction in found]), test.boxes).mean())


def pseudo_labelled(localizer: Localizer, dataset: Dataset) -> Dataset:
    """The surest half of the images, with predicted boxes."""
    found = localizer.predict(list(dataset.images))
    boxes = np.stack([prediction.box for prediction in found])
    doubt = [prediction.relative_std for prediction in found]
    surest = np.sort(np.argsort(doubt)[: len(dataset) // 2])
    return replace(dataset, boxes=boxes).select(surest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--labels", type=int, nargs="*", default=[20])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        training, test = SETS[name]()
        every = quality(trained(training, arguments.size, 0), test)
        print(f"{name}: all {len(training)} labels {every:.4f}", flush=True)
        for count in arguments.labels:
            rows = []
            for draw in range(arguments.draws):
                few = some(training, count, draw)
                chosen = set(few.names)
                rest = training.select(
                    np.array([row for row, image in enumerate(training.names) if image not in chosen])
                )
                few = few.with_splits(val=0.1, test=0.0)
                first = trained(few, arguments.size, draw)
                pseudo = pseudo_labelled(first, rest)
                both = replace(joined(few, pseudo), split=(*few.split, *("train",) * len(pseudo)))
                rows.append([quality(first, test), quality(trained(both, arguments.size, draw), test)])
                print(f"  {count} labels, draw {draw}: {rows[-1][0]:.4f} -> {rows[-1][1]:.4f}", flush=True)
            change = np.diff(np.array(rows), axis=1)
            before, after = np.mean(rows, axis=0)
            print(
                f"  {count} labels: {before:.4f} -> {after:.4f}, change {change.mean():+.4f} +- {change.std():.4f}"
            )


if __name__ == "__main__":
    main()
