"""Time and memory against the number of images: `python bench/scale.py [--counts 500 2000 8000]`.

Draws that many images, trains on them in a process of its own with a budget of memory, and prints seconds and
peak resident memory above what the same process takes before training. Time should grow linearly, and memory
stay under the budget plus a constant.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from solobox import synthetic


def child(folder: Path, budget: float, size: int) -> None:
    import torch  # noqa: F401  (loaded before the first reading of memory)

    from solobox import Dataset, Recipe, train
    from solobox.cli.console import quieten

    quieten()
    dataset = Dataset.read(folder / "annotations.csv")
    # What the libraries and the smallest run take, whatever the data: the constant.
    warm = dataset.select(list(range(40)))
    train(warm, folder / "warm", Recipe.from_preset("quick", {"epochs": 1, "size": size, "ram_gb": budget}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    said: list[str] = []

    class Ear:
        def start(self, stage: str, total: int | None) -> None: ...
        def advance(self, steps: int = 1, note: str = "") -> None: ...
        def say(self, text: str) -> None:
            said.append(text)

    localizer = train(
        dataset, folder / "run", Recipe.from_preset("quick", {"size": size, "ram_gb": budget}), progress=Ear()
    )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "seconds": seconds, "before": before / 1e6, "peak": peak / 1e6, "said": said,
        "stages": localizer.metadata["seconds"],
    }  # fmt: skip
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--ram-gb", type=float, default=0.5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--child", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child, arguments.ram_gb, arguments.size)
        return
    print(f"budget {arguments.ram_gb} GB, {arguments.size} px")
    print(" images  draw s  train s  ms/image  constant GB  peak GB  kept")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            synthetic.write(Path(folder), count, seed=1)
            drawn = time.perf_counter() - started
            options = ["--ram-gb", str(arguments.ram_gb), "--size", str(arguments.size)]
            done = subprocess.run(
                [sys.executable, __file__, "--child", folder, *options],
                check=True,
                capture_output=True,
                text=True,
            )
            row = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{count:9d} {drawn:7.1f} {row['seconds']:8.1f} {1e3 * row['seconds'] / count:11.1f} {row['before']:12.2f} "
            f"{row['peak']:8.2f}  {row['said'][-1]} {row['stages']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
