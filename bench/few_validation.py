"""Which epoch to keep where few images validate: `python bench/few_validation.py [--sets airplane] [--labels 20]`.

Whole runs of `train`, first look alone, on so many labels drawn at random, whose edges are off by 2% of the side as
people draw them; a tenth of them validates. Mean IoU on the test images of the weights kept by different rules; mean,
and standard error of the draws.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from scipy import stats
from torch import Tensor

from datasets import some
from selftraining import SETS, quality
from solobox import Recipe, train
from solobox.cli.console import quieten
from solobox.training import loop


def student(scores: Tensor, best: Tensor) -> bool:
    """With Student's quantile, as far out as one standard error is of a normal distribution."""
    behind = best - scores
    if len(behind) < 2:
        return True
    factor = float(stats.t.ppf(stats.norm.cdf(1), len(behind) - 1))
    return bool(float(behind.mean()) <= factor * float(behind.std()) / len(behind) ** 0.5)


RULES: dict[str, Callable[[Tensor, Tensor], bool]] = {
    "one standard error": loop.within_one_standard_error,
    "Student's": student,
    "the last epoch": lambda _scores, _best: True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["airplane", "kangaroo"], choices=SETS)
    parser.add_argument("--labels", type=int, nargs="+", default=[20])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        training, test = SETS[name]()
        test = some(test, 100, 0)
        for count in arguments.labels:
            found: dict[str, list[float]] = {rule: [] for rule in RULES}
            for draw in range(arguments.draws):
                few = some(training, count, draw).with_splits(val=0.1, test=0.0)
                sides = np.tile(few.boxes[:, 2:] - few.boxes[:, :2], 2)
                few = replace(
                    few,
                    boxes=few.boxes + sides * np.random.default_rng(draw).normal(0, 0.02, few.boxes.shape),
                )
                for rule, keep in RULES.items():
                    recipe = Recipe.from_preset(
                        "quick", {"test": 0.0, "seed": draw, "size": arguments.size, "refine": "off"}
                    )
                    with (
                        tempfile.TemporaryDirectory() as folder,
                        mock.patch.object(loop, "within_one_standard_error", keep),
                    ):
                        found[rule].append(quality(train(few, Path(folder) / "run", recipe), test))
            for rule, values in found.items():
                error = np.std(values, ddof=1) / len(values) ** 0.5
                print(f"{name}, {count} labels: {rule} {np.mean(values):.4f} +- {error:.4f}", flush=True)


if __name__ == "__main__":
    main()
