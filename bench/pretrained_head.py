"""Make the weights of the pretrained head: `python bench/pretrained_head.py [--images 24000]`.

Draws synthetic images, trains the default model on them with a random head and a backbone from ImageNet, and writes
vectorizer and head, in float16, to src/solobox/model/pretrained_head.safetensors. No photograph is involved. Takes
about ten minutes on two cores and some 16 GB of memory with the defaults.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from solobox import Recipe, synthetic, train
from solobox.cli.console import quieten
from solobox.model import saving

SEED = 2026  # the demo, the tests and the other benches draw with other seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--ram-gb", type=float, default=16.0)
    parser.add_argument("-o", type=Path, default=Path(saving.__file__).with_name(saving.PRETRAINED_HEAD))
    arguments = parser.parse_args()
    quieten()
    recipe = Recipe.from_preset(
        "quick",
        {"pretrained_head": "random", "crops": 2, "test": 0.0, "val": 0.02, "ram_gb": arguments.ram_gb},
    )
    folder = Path(tempfile.mkdtemp())
    try:
        started = time.perf_counter()
        dataset = synthetic.write(folder / "synthetic", arguments.images, seed=SEED)
        print(f"{len(dataset)} scenes drawn in {time.perf_counter() - started:.0f} s", flush=True)
        localizer = train(dataset, folder / "run", recipe)
    finally:
        shutil.rmtree(folder)
    print(localizer.metadata["seconds"], localizer.metadata["best"])
    state = {
        f"{name}.{key}": value.half().contiguous() if value.is_floating_point() else value
        for name, part in (("vectorizer", localizer.vectorizer), ("head", localizer.head))
        for key, value in part.state_dict().items()
    }
    save_file(state, arguments.o)
    size = sum(value.nbytes for value in state.values())
    print(f"{arguments.o}: {size / 1e6:.1f} MB; torch {torch.__version__}")


if __name__ == "__main__":
    main()
