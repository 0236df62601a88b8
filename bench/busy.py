"""Training and prediction beside one busy process: `python bench/busy.py [--rounds 3] [-- --size 224]`.

Each round trains on the plates and predicts the test images twice by the command line, once on a free machine and once
beside a process that does nothing but take a processor. Seconds of each stage, medians of the rounds, and their ratio.
It shows something only where nothing else runs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from datasets import DATA

STAGES = ("features", "head", "crops", "refine", "calibration")


def solobox(*words: object) -> float:
    """Seconds of a command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "solobox", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def measure(folder: Path, options: Sequence[str]) -> dict[str, float]:
    """Seconds of each stage of one training and of one prediction."""
    run, plates = folder / "run", DATA / "plates"
    seconds = {"train": solobox("train", plates / "plates.csv", "-o", run, *options)}
    laps = json.loads((run / "config.json").read_text())["seconds"]
    seconds |= {stage: laps[stage] for stage in STAGES if stage in laps}
    return seconds | {"predict": solobox("predict", run, plates / "images", "-o", folder / "boxes.csv")}


@contextmanager
def busy() -> Iterator[None]:
    """A process that takes a processor."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("options", nargs="*", default=["--size", "224"], help="of `solobox train`, after --")
    arguments = parser.parse_args()
    free: list[dict[str, float]] = []
    beside: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            free.append(measure(Path(folder), arguments.options))
        with tempfile.TemporaryDirectory() as folder, busy():
            beside.append(measure(Path(folder), arguments.options))
    print(f"{'':12s} {'free s':>8s} {'busy s':>8s} {'ratio':>6s}")
    for stage in free[0]:
        alone, shared = (median(row[stage] for row in rows) for rows in (free, beside))
        print(f"{stage:12s} {alone:8.1f} {shared:8.1f} {shared / alone:6.2f}")


if __name__ == "__main__":
    main()
