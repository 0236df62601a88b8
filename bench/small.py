"""A second look at small objects, on licence plates: `python bench/small.py [--seeds 3] [--size 320]`.

One training for each seed and number of refinements (0 is the first look alone), from files to the saved model.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from datasets import plates
from solobox import Recipe, train
from solobox.boxes import iou
from solobox.cli.console import quieten


def measure(refine: str | int, size: int, seed: int) -> list[float]:
    """Mean IoU, shares at 0.5, 0.75 and 0.9, and seconds of training."""
    training, test = plates()
    recipe = Recipe.from_preset("quick", {"test": 0.0, "seed": seed, "size": size, "refine": refine})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        localizer = train(training, Path(folder) / "run", recipe)
        seconds = time.perf_counter() - started
        found = localizer.predict(list(test.images))
    overlap = iou(np.stack([prediction.box for prediction in found]), test.boxes)
    return [float(overlap.mean()), *(float((overlap >= at).mean()) for at in (0.5, 0.75, 0.9)), seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=320)
    arguments = parser.parse_args()
    quieten()
    print(f"{'refine':8s} {'mean IoU':>16s} {'>=.5':>6s} {'>=.75':>6s} {'>=.9':>6s} {'train s':>8s}")
    for refine in ("off", 1, "auto"):
        rows = np.array([measure(refine, arguments.size, seed) for seed in range(arguments.seeds)])
        mean = rows.mean(axis=0)
        shares = " ".join(f"{value:6.3f}" for value in mean[1:4])
        print(f"{refine!s:8s} {mean[0]:.4f} +- {rows[:, 0].std():.4f} {shares} {mean[4]:8.1f}", flush=True)


if __name__ == "__main__":
    main()
