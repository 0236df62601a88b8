"""How long each command takes to its first word, and to its end: `python bench/startup.py [TIMES]`.

On a few drawn images, with a model that was trained on them. Seconds of the clock and of the processor, the least of
TIMES runs (5) after one that fills the system's cache of files. "PyTorch" tells whether its library was loaded
before the first word came.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from solobox import synthetic
from solobox.config.recipe import Recipe
from solobox.export import export
from solobox.training.train import train

HELP = ("check", "train", "evaluate", "predict", "export", "serve", "summary", "audit", "curve", "convert")
_TICKS = os.sysconf("SC_CLK_TCK")


class Start(NamedTuple):
    """Seconds of the clock and of the processor at the first word, whether PyTorch was loaded then; and at the end."""

    first: float
    first_cpu: float
    has_torch: bool
    end: float
    end_cpu: float
    word: str


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = Recipe.from_preset("quick", {"size": 64, "epochs": 1, "crops": 2})
        localizer = train(synthetic.write(folder, 40, seed=0, size=(96, 72)), folder / "run", recipe)
        export(localizer, folder / "model.onnx")
        print(
            "| command | first word, s (CPU) | PyTorch | end, s (CPU) | first word |\n| --- | --- | --- | --- | --- |"
        )
        commands: list[Sequence[str]] = [["--help"], *([command, "--help"] for command in HELP)]
        data, short = "annotations.csv", ["--size", "64", "--epochs", "1"]
        commands += [
            ["check", data], ["convert", data, "boxes.json", "--to", "coco", "--overwrite"],
            ["train", data, "-o", "RUN", *short], ["train", "no-such.csv", "-o", "RUN"], ["evaluate", "run", data],
            ["predict", "run", "images"], ["predict", "model.onnx", "images"], ["export", "run", "-o", "RUN.onnx"],
            ["summary", "run"], ["serve", "model.onnx", "--port", "0"], ["audit", data, *short],
        ]  # fmt: skip
        for words in commands:
            runs = [started(words, folder, number) for number in range(times + 1)][1:]
            first, last = min(runs, key=lambda run: run.first), min(runs, key=lambda run: run.end)
            cpu, end_cpu = min(run.first_cpu for run in runs), min(run.end_cpu for run in runs)
            print(
                f"| `{' '.join(words)}` | {first.first:.2f} ({cpu:.2f}) | {'yes' if first.has_torch else 'no'} | "
                f"{last.end:.2f} ({end_cpu:.2f}) | {first.word} |",
                flush=True,
            )


def started(words: Sequence[str], folder: Path, number: int) -> Start:
    """One run of a command, in a folder; RUN stands for a name of its own. `serve` is stopped at its first word."""
    words = [word.replace("RUN", f"{words[0]}-{number}-{time.monotonic_ns()}") for word in words]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "solobox", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    word = os.read(process.stdout.fileno(), 4096)
    first = time.perf_counter() - begun
    has_torch = "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()
    # utime and stime, the 14th and 15th field; the second is a name in parentheses
    times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    if words[0] == "serve":
        process.send_signal(signal.SIGTERM)
    process.stdout.read()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it was waited for
    end = time.perf_counter() - begun
    text = word.decode(errors="replace").strip().partition("\n")[0][:50].replace("|", "")
    return Start(first, sum(map(int, times)) / _TICKS, has_torch, end, usage.ru_utime + usage.ru_stime, text)


if __name__ == "__main__":
    main()
