"""Runs `solobox predict` over and over, kills it, and goes on: a program of its own, since it forks.

    python killed_program.py FOLDER ENDING HOW

FOLDER holds `images/`. HOW is ``steps``: killed before its first, second, third, ... call that changes the disk, each
time a run that begins anew; or a seed: killed at random moments, over and over until it is finished. Prints how often
it was killed, and how often a run continued with finished parts.

The model is a stand-in, which makes its predictions up from the names.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prediction_rows import MadeUp, made_up

from solobox.cli import predict as command
from solobox.cli import predict_jobs
from solobox.predict import output_file, plan
from solobox.predict.output_file import folder_of
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.predict.writers import write

_SLOW = 0.0004  # seconds for an image


class _Slow(MadeUp):
    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        for prediction in super().rows(images, options):
            time.sleep(_SLOW if "steps" not in sys.argv else 0)
            yield prediction


def _killing(at: int) -> None:
    """From now on the process dies just before its `at`-th call that changes the disk."""
    left = at

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*values: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*values, **options)

        return counting

    for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))


def _run(
    folder: Path, output: Path, *, resume: bool, at: int | None = None, seconds: float | None = None
) -> bool:
    """Whether a run came to its end; it is killed at a call, or after a time."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if at is not None:
            _killing(at)
        status = 3
        try:
            # Calls are counted of the rows alone: each image would be three more.
            crop = folder / f"crops{output.suffix}" if at is None else None
            inputs = [str(folder / "images" / ("0" if at is not None else ""))]
            status = command.predict(folder, inputs, output=output, crop=crop, resume=resume)
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status) != 1:  # some images are broken
        raise SystemExit(f"left with {os.WEXITSTATUS(status)}")
    return True


def _has_parts(output: Path) -> bool:
    """Whether there are finished parts that a run can continue with."""
    journal = folder_of(output) / "journal.jsonl"
    return journal.exists() and journal.stat().st_size > 0


def main() -> None:
    folder, ending, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    warm = folder / f"warm{ending}"
    for _ in write(warm, map(made_up, ["a.jpg"])):  # loads what the format needs, once for all
        pass
    warm.unlink()
    vars(output_file).update(SHARD_SIZE=16)
    vars(plan).update(model_fingerprint=lambda _: "0" * 64)
    vars(predict_jobs).update(load=lambda *_: _Slow())
    killed = continued = 0
    if how == "steps":
        at = 1
        while True:
            output = folder / f"boxes{at}{ending}"
            if _run(folder, output, resume=False, at=at):
                break
            killed += 1
            continued += _has_parts(output)
            is_finished = (
                output.exists() and not folder_of(output).exists()
            )  # it died as it removed the folder
            if not is_finished and not _run(folder, output, resume=True, at=-1):
                raise SystemExit("died by itself")
            at += 1
    else:
        rng = random.Random(int(how))  # noqa: S311
        output = folder / f"boxes{ending}"
        limit = 0.3
        while not _run(folder, output, resume=True, seconds=rng.uniform(0.02, limit)):
            killed += 1
            continued += _has_parts(output)
            if output.exists() and not folder_of(output).exists():
                break  # it was finished, and died as it removed the folder
            limit *= 1.1  # a busy machine gets through in the end
    sys.stdout.write(f"{killed} {continued}\n")


main()
