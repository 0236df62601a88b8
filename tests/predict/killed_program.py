"""Runs `solobox predict` over and over, kills it, and goes on: a program of its own, since it forks.

    python killed_program.py FOLDER ENDING HOW

FOLDER holds `images/`. HOW is ``steps``: killed before the first, second, third, ... thing that it asks the disk to
keep, each time by a run that began anew; or a seed: killed at random moments, over and over until it is through. Prints
how often it was killed, and how often a run went on with rows that it found.

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

from prediction_rows import stream

from solobox.cli import predict as command
from solobox.cli.predict_model import Predictor
from solobox.predict.prediction import Prediction
from solobox.predict.writers import resume, write

_SLOW = 0.0004  # seconds for an image


def _slowly(inputs: Iterable[str], **options: Any) -> Iterator[Prediction]:
    for prediction in stream(inputs, **options):
        time.sleep(_SLOW if "steps" not in sys.argv else 0)
        yield prediction


def _killing(at: int) -> None:
    """From now on the process dies just before the `at`-th time that it asks for something lasting."""
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
    """Whether a run came to its end; dead at a step, or after a time."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if at is not None:
            _killing(at)
        status = 3
        try:
            # Of the disk's steps it is those of the rows that are told one by one: each image is three more.
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


def _whole(output: Path) -> bool:
    """Whether rows were found that a run can go on with."""
    return any(resume.folder_of(output).glob("0*-0*.jsonl"))


def main() -> None:
    folder, ending, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    warm = folder / f"warm{ending}"
    for _ in write(warm, stream(["a.jpg"])):  # loads what the kind needs, once for all
        pass
    warm.unlink()
    resume.ROWS = resume.TOGETHER
    vars(command)["load"] = lambda *_: Predictor(_slowly, True, True, "0" * 64)
    killed = went_on = 0
    if how == "steps":
        at = 1
        while True:
            output = folder / f"boxes{at}{ending}"
            if _run(folder, output, resume=False, at=at):
                break
            killed += 1
            went_on += _whole(output)
            if not _run(folder, output, resume=True, at=-1):
                raise SystemExit("died by itself")
            at += 1
    else:
        rng = random.Random(int(how))  # noqa: S311
        output = folder / f"boxes{ending}"
        limit = 0.3
        while not _run(folder, output, resume=True, seconds=rng.uniform(0.02, limit)):
            killed += 1
            went_on += _whole(output)
            if output.exists() and not resume.folder_of(output).exists():
                break  # it was through, and died as it cleared up
            limit *= 1.1  # a busy machine gets through in the end
    sys.stdout.write(f"{killed} {went_on}\n")


main()
