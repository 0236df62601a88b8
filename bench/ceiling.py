"""How far the labels themselves let anyone come: `python bench/ceiling.py [--seeds 3]`.

Two models are trained on disjoint halves of the training part and put before images that neither saw. With A, B and
the label L each being the truth plus an error of its own, var(A-L) + var(B-L) - var(A-B) is twice the labels' variance.
Errors that both models share (hard images, habits of the method) are counted as the labels' by this, so what is
printed is a lower bound of the ceiling: the IoU that the true boxes would have with labels that noisy, were the noise
of each edge normal. Errors are in units of the box's own side; those beyond 4 robust standard deviations are cut.
The test part is not touched.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from datasets import caltech
from solobox import Dataset, Recipe, train
from solobox.boxes import Floats, iou
from solobox.cli.console import quieten


def errors(a: Floats, b: Floats, sides: Floats) -> Floats:
    """Differences of edges (N, 4) as fractions of the labelled box's width and height, outliers cut."""
    found = (a - b) / np.concatenate([sides, sides], axis=1)
    middle = np.median(found, axis=0)
    std = 1.4826 * np.median(np.abs(found - middle), axis=0)
    cut: Floats = np.clip(found - middle, -4 * std, 4 * std)
    return cut


def boxes_of(dataset: Dataset, judge: Dataset, seed: int) -> Floats:
    with tempfile.TemporaryDirectory() as folder:
        model = train(dataset, Path(folder) / "run", Recipe.from_preset("quick", {"test": 0.0, "seed": seed}))
    return np.stack([prediction.box for prediction in model.predict(list(judge.images))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    quieten()
    dataset, _ = caltech()
    rows = []
    for seed in range(arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(dataset))
        judge, half_a, half_b = (dataset.select(part) for part in (order[:247], order[247:617], order[617:]))
        a, b = boxes_of(half_a, judge, seed), boxes_of(half_b, judge, seed + 100)
        label = judge.boxes
        sides = label[:, 2:] - label[:, :2]
        of_label = (
            errors(a, label, sides).var(0) + errors(b, label, sides).var(0) - errors(a, b, sides).var(0)
        )
        sigma = np.sqrt(np.maximum(of_label / 2, 0))
        noise = np.random.default_rng(seed).normal(0, sigma, (100, len(label), 4))
        shifted = label + noise * np.concatenate([sides, sides], axis=1)
        ceiling = iou(shifted, label)
        rows.append(
            (
                iou(a, label).mean(),
                iou(b, label).mean(),
                iou(a, b).mean(),
                ceiling.mean(),
                (ceiling >= 0.9).mean(),
            )
        )
        print(f"seed {seed}: labels' noise per edge, % of the side: {np.round(100 * sigma, 2)}", flush=True)
    mean, std = np.mean(rows, axis=0), np.std(rows, axis=0)
    names = ("half A and labels", "half B and labels", "A and B", "ceiling, at least", "its share at IoU 0.9")
    for name, value, deviation in zip(names, mean, std, strict=True):
        print(f"{name:24s} {value:.4f} ± {deviation:.4f}")


if __name__ == "__main__":
    main()
