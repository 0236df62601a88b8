"""Training that is stopped early, by Ctrl-C and by SIGTERM: `python bench/interrupts.py [TIMES]`.

`solobox train` on a few drawn images gets a signal at a moment between its start and its end, mostly while native
libraries load. Prints how the processes ended, by signal: 130 or 143, or 0 where training had ended before. Exits with
1 if one ended otherwise, or wrote a traceback.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from solobox import synthetic

SECONDS = (0.2, 9.0)


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    rng, wrong = np.random.default_rng(0), 0
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write(Path(folder), 24, seed=0, size=(96, 72))
        print("| signal | status | times |\n| --- | --- | --- |")
        for number in (signal.SIGINT, signal.SIGTERM):
            counts = Counter[str]()
            for run in range(times):
                status, said = interrupted(Path(folder), f"run-{number}-{run}", number, rng.uniform(*SECONDS))
                traceback = "Traceback" in said or "terminate called" in said
                wrong += status not in {0, 128 + number} or traceback
                counts[f"{status}{', with a traceback' if traceback else ''}"] += 1
            for ended, count in sorted(counts.items()):
                print(f"| {signal.Signals(number).name} | {ended} | {count} |", flush=True)
    sys.exit(wrong > 0)


def interrupted(folder: Path, run: str, number: int, after: float) -> tuple[int, str]:
    """The status of a training that got a signal after so many seconds, and what it wrote."""
    words = ["train", "annotations.csv", "-o", run, "--size", "64", "--epochs", "1", "--accelerator", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "solobox", *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # A parent may ignore SIGINT, and a child would inherit it.
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    time.sleep(after)
    if process.poll() is None:
        os.kill(process.pid, number)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


if __name__ == "__main__":
    main()
