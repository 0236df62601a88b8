"""How fast feature extraction is compared with the backbone alone: `python bench/extraction.py`.

Measures crops per second of the backbone alone, on pixels already in memory, in each runtime and at several
batch sizes; then of the whole extraction from JPEG files as training does it. The two are interleaved, and the
ratio to the best bare rate is what counts.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from datasets import caltech
from solobox import Localizer, Recipe
from solobox.cli.console import quieten
from solobox.model.runtime import Features, OpenVinoFeatures, TorchFeatures, fastest
from solobox.training.distributed import Distributed
from solobox.training.feature_cache import cache_features
from solobox.training.image_cache import OVERSAMPLING, ImageCache
from solobox.utils.progress import NullProgress


def rate(backbone: Features, pixels: np.ndarray, repeats: int = 6) -> float:
    backbone(pixels)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        backbone(pixels)
        seconds.append(time.perf_counter() - started)
    return len(pixels) / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    quieten()
    size = arguments.size
    recipe = Recipe.from_preset("quick", {"size": size})
    backbone = Localizer(recipe.architecture, pretrained="bundled").eval().backbone.requires_grad_(False)
    runtimes: list[Features] = [
        TorchFeatures(backbone),
        TorchFeatures(backbone, torch.bfloat16),
        OpenVinoFeatures(backbone, size, "f32"),
        OpenVinoFeatures(backbone, size, "bf16"),
    ]
    rng = np.random.default_rng(0)
    print(f"{'bare backbone, crops/s':24s}" + "".join(f"{f'batch {n}':>10s}" for n in (1, 8, 16, 32)))
    for runtime in runtimes:
        rates = [
            rate(runtime, rng.integers(0, 255, (n, 3, size, size), dtype=np.uint8)) for n in (1, 8, 16, 32)
        ]
        print(f"{runtime.name:24s}" + "".join(f"{value:10.0f}" for value in rates))
    chosen = fastest(backbone, size)
    dataset = caltech()[0]
    ratios = []
    for _ in range(arguments.rounds):
        best = max(
            rate(chosen, rng.integers(0, 255, (n, 3, size, size), dtype=np.uint8)) for n in (1, 8, 16, 32)
        )
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            images = ImageCache(
                dataset, round(size * OVERSAMPLING), network_side=size, keep=False, budget=8e9, folder=Path(folder),
                skip_bad=False, group=Distributed(),
            )  # fmt: skip
            features = cache_features(
                images, chosen, recipe, crops_per_image=recipe.crops, budget=8e9, folder=Path(folder),
                progress=NullProgress(), stage="",
            )  # fmt: skip
            whole = len(features) / (time.perf_counter() - started)
        ratios.append(whole / best)
        print(
            f"{chosen.name}: bare {best:.0f}/s, extraction from files {whole:.0f}/s, ratio {whole / best:.2f}"
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
