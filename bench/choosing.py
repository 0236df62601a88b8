"""Which image to ask about next: `python bench/choosing.py [--sets kangaroo] [--seeds 3] [--size 224]`.

Mean IoU on the test images with 8, 20 and 40 labels, by the learner of `solobox annotate`, for three orders, in all of
which every third image is random:

- random;
- herding: the image that stands for most others that no labelled image stands for yet (MaxHerding; Bae, Noh &
  Sutherland, 2024, "Generalized Coverage for More Robust Low-Budget Active Learning");
- uherding: after eight images, the same weighted by how uncertain the model is of each (UHerding; Bae, Oh, Kwon &
  Sutherland, 2025, "Uncertainty Herding"), trained again after every fourth label.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from annotate import MAX_TEST, SETS
from datasets import some
from solobox import Dataset, Recipe
from solobox.annotation.learner import Learner
from solobox.boxes import iou
from solobox.cli.console import quieten
from solobox.model.localizer import pooled

AT = (8, 20, 40)
MAX_TRAINING = 300
_QUANTILE = 0.05
"""Of the distances between images: about as far as one image stands for others."""


class Coverage:
    """How well the labelled images stand for all. embeddings: (N, D), finite, one row for each image."""

    def __init__(self, embeddings: npt.NDArray[np.floating]) -> None:
        centred = embeddings - embeddings.mean(axis=0)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        squared = np.maximum(2 - 2 * unit @ unit.T, 0)
        self._similarity = np.exp(-squared / float(np.quantile(squared, _QUANTILE)))
        self.covered = np.zeros(len(unit))

    def add(self, row: int) -> None:
        """Count an image as labelled."""
        np.maximum(self.covered, self._similarity[row], out=self.covered)

    def best(self, allowed: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating]) -> int:
        """The row of those allowed whose label would cover most more."""
        rows = np.flatnonzero(allowed)
        gain = np.maximum(self._similarity[rows] - self.covered, 0)
        return int(rows[np.argmax(gain @ weights)])


def learn(learner: Learner, training: Dataset, rows: Sequence[int]) -> None:
    boxes = training.boxes.tolist()
    learner.learn({training.names[row]: (training.images[row], tuple(boxes[row])) for row in rows})


def embeddings(learner: Learner, training: Dataset) -> npt.NDArray[np.float64]:
    rows = []
    for image in training.images:
        pixels = learner.localizer.preprocess(image).pixels[np.newaxis].transpose(0, 3, 1, 2)
        with torch.inference_mode():
            rows.append(pooled(learner.localizer.maps(pixels))[0])
    return np.array(rows, dtype=np.float64)


def run(strategy: str, size: int, training: Dataset, test: Dataset, seed: int) -> list[float]:
    """Mean IoU for each count of `AT`."""
    learner = Learner(Recipe.from_preset("quick", {"size": size, "batch": 16, "refine": "off", "seed": seed}))
    coverage = Coverage(embeddings(learner, training))
    order = np.random.default_rng(seed).permutation(len(training)).tolist()
    weights = np.ones(len(training))
    chosen: list[int] = []
    found = []
    for count in range(1, AT[-1] + 1):
        allowed = np.ones(len(training), dtype=np.bool_)
        allowed[chosen] = False
        if strategy == "random" or count % 3 == 0:
            row = next(row for row in order if allowed[row])
        else:
            row = coverage.best(allowed, weights)
        chosen.append(row)
        coverage.add(row)
        if strategy == "uherding" and count >= AT[0] and count % 4 == 0:
            learn(learner, training, chosen)
            weights = np.array([learner.predict(image).relative_std for image in training.images])
        if count in AT:
            learn(learner, training, chosen)
            boxes = np.stack([learner.predict(image).box for image in test.images])
            found.append(float(iou(boxes, test.boxes).mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=["kangaroo", "airplane", "plates"], choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            training, test = SETS[name](Path(folder))
            training = some(training, MAX_TRAINING, 0) if len(training) > MAX_TRAINING else training
            test = some(test, MAX_TEST, 0) if len(test) > MAX_TEST else test
            for strategy in ("random", "herding", "uherding"):
                rows = [
                    run(strategy, arguments.size, training, test, seed) for seed in range(arguments.seeds)
                ]
                mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
                text = ", ".join(
                    f"{count}: {m:.3f} +- {s:.3f}" for count, m, s in zip(AT, mean, spread, strict=True)
                )
                print(f"{name} {strategy:8} {text}", flush=True)


if __name__ == "__main__":
    main()
