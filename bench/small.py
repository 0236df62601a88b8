"""A second look at small objects: `python bench/small.py [--data plates] [--seeds 3] [--size 320]`.

``plates``: licence plates in the street; ``scenes``: 400 drawn scenes of 1280 x 720 with objects of 2 to 8% of the
shorter side, 300 to train on. One training for each seed and `refine`, from files to the saved model.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from datasets import plates
from solobox import Dataset, Recipe, synthetic, train
from solobox.boxes import iou
from solobox.cli.console import quieten


def scenes(folder: Path) -> tuple[Dataset, Dataset]:
    drawn = synthetic.write(folder, 400, seed=21, size=(1280, 720), object_share=(0.02, 0.08))
    return drawn.select(np.arange(300)), drawn.select(np.arange(300, 400))


def measure(data: tuple[Dataset, Dataset], refine: str | int, size: int, seed: int) -> list[float]:
    """Mean IoU, shares at 0.5, 0.75 and 0.9, and seconds of training."""
    training, test = data
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
    parser.add_argument("--data", choices=("plates", "scenes"), default="plates")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=320)
    arguments = parser.parse_args()
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        data = plates() if arguments.data == "plates" else scenes(Path(folder))
        print(
            f"{'refine':8s} {'mean IoU':>16s} {'>=.5':>6s} {'>=.75':>6s} {'>=.9':>6s} {'train s':>8s}",
            flush=True,
        )
        for refine in ("off", 1, "auto"):
            rows = np.array([measure(data, refine, arguments.size, seed) for seed in range(arguments.seeds)])
            mean = rows.mean(axis=0)
            shares = " ".join(f"{value:6.3f}" for value in mean[1:4])
            spread = rows[:, 0].std()
            print(f"{refine!s:8s} {mean[0]:.4f} +- {spread:.4f} {shares} {mean[4]:8.1f}", flush=True)


if __name__ == "__main__":
    main()
