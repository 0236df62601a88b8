"""What the tests of several ranks start: training runs, one after the other, and what each rank has seen of them.

Arguments: a JSON list of runs, each with its `name`, the `data`, the folder `run`, the recipe's `changes`, `train`'s
own `options`, and perhaps the rank that gets a SIGTERM after its first checkpoint (`terminated`); and the path that,
with the rank's number, the report is written to.
"""

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from solobox.config import recipe as recipes
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import SoloboxError
from solobox.model import runtime
from solobox.training import checkpoint_manager, image_cache, stages, train


def main() -> None:
    torch.set_num_threads(1)
    # as the fixtures `without_openvino` and `few_steps` do in the process of the tests
    runtime._openvino_is_installed = lambda: False
    recipes._MIN_CROPS = recipes._MIN_STEPS = 1
    rank = int(os.environ.get("RANK", "0"))
    ended = Path(f"{sys.argv[2]}.{rank}.ended")
    # Registered before all others, so called after them.
    atexit.register(lambda: ended.write_text(json.dumps({"in a group": torch.distributed.is_initialized()})))
    log: dict[str, list[Any]] = {}
    watch(image_cache, "read_bytes", log, "decoded", lambda path: path.name)
    # It is also measured on training images, which is not of interest here.
    watch(
        stages,
        "box_iou",
        log,
        "measured",
        lambda boxes, truth: len(truth) * torch.is_inference_mode_enabled(),
    )
    save = checkpoint_manager.CheckpointManager.save
    reports = {}
    for job in json.loads(sys.argv[1]):
        log.update(decoded=[], measured=[])
        checkpoint_manager.CheckpointManager.save = (  # type: ignore[method-assign]
            terminating(save) if job.get("terminated") == rank else save
        )
        reports[job["name"]] = {**one(job), **log}
    Path(f"{sys.argv[2]}.{rank}.json").write_text(json.dumps(reports))


def one(job: dict[str, Any]) -> dict[str, Any]:
    """A run's history and a sum of its weights, or its error."""
    recipe = Recipe.from_preset("quick", job["changes"]) if job["changes"] else None
    try:
        localizer = train.train(Dataset.read(job["data"]), job["run"], recipe, **job.get("options", {}))
    except SoloboxError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    sums = [float(value.double().sum()) for value in localizer.state_dict().values()]
    assert localizer.calibration is not None
    return {"weights": sums, "margins": localizer.calibration.to_dict(), **localizer.metadata}


def watch(module: Any, name: str, log: dict[str, list[Any]], key: str, of: Callable[..., Any]) -> None:
    """Write down what of each call of a module's function."""
    function = getattr(module, name)

    def watched(*args: Any) -> Any:
        log[key].append(of(*args))
        return function(*args)

    setattr(module, name, watched)


def terminating(save: Callable[..., None]) -> Any:
    """A `CheckpointManager.save` after which somebody terminates this process."""

    def saving(*args: Any) -> None:
        save(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    return saving


if __name__ == "__main__":
    main()
