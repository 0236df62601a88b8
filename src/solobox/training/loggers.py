"""Where a run's metrics go while it trains: always to a CSV, and to the experiment trackers that the recipe names."""

import csv
import importlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from solobox.config.options import nearest
from solobox.errors import ConfigError
from solobox.utils.atomic import remove_leftovers, replacing
from solobox.utils.json_utils import MAX_BYTES, parse_json

_REQUIREMENTS = {
    "tensorboard": "install Solobox with its [loggers] extra, or tensorboard",
    "mlflow": "install the packages mlflow and lightning",
    "wandb": "install the packages wandb and lightning",
}


class Logger(Protocol):
    """What training needs of a logger; those of Lightning and Fabric have it."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of an epoch."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Log the options of the run, once, before the first metrics."""

    def finalize(self, status: str) -> None:
        """Close the run: ``success`` or ``failed``."""


def write_history(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a row for each epoch as a CSV that replaces the last one, so that a resumed run has no epoch twice.

    rows: names to numbers or text. The columns are all names in the order of their first appearance; None and a name
        that a row lacks are empty cells. Floats are read back exactly.

    Raises DataError where the file cannot be written; an earlier one is then still whole.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    remove_leftovers(path)
    with replacing(path) as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def loggers(names: Sequence[str], folder: Path, run_name: str) -> list[Logger]:
    """Fabric's and Lightning's loggers by name, each once.

    names: of ``tensorboard`` (event files in `folder`/tensorboard/`run_name`), ``mlflow`` (MLFLOW_TRACKING_URI, or
        `folder`/mlruns; MLFLOW_EXPERIMENT_NAME, or "solobox") and ``wandb`` (WANDB_PROJECT, or "solobox"; with
        WANDB_MODE=offline in `folder`/wandb).
    folder: the run's; it is made. Called again for it, MLflow and Weights & Biases continue the same runs.

    Raises ConfigError: ``unknown-logger``, ``package-missing`` (it says what to install) or ``logger-failed``.
    """
    for name in names:
        if name not in _REQUIREMENTS:
            raise ConfigError(f"unknown logger {name!r}{nearest(name, _REQUIREMENTS)}", code="unknown-logger")
    return [_logger(name, folder.absolute(), run_name) for name in dict.fromkeys(names)]


def _logger(name: str, folder: Path, run_name: str) -> Logger:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _tensorboard(folder, run_name) if name == "tensorboard" else _tracker(name, folder, run_name)
    except ModuleNotFoundError as error:
        missing = str(error).splitlines()[0]
        raise ConfigError(
            f"the logger {name!r} cannot be used: {missing}: {_REQUIREMENTS[name]}", code="package-missing"
        ) from error
    except Exception as error:  # each tracker has its exceptions: no server, no key, no such run
        raise ConfigError(f"the logger {name!r} failed to start: {error}", code="logger-failed") from error


def _tensorboard(folder: Path, run_name: str) -> Logger:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    # TensorBoard reads all files in a folder; without a suffix, two runs of the same second share a name.
    suffix = f".{uuid.uuid4().hex[:8]}"
    return TensorBoardLogger(folder, name="tensorboard", version=run_name, filename_suffix=suffix)


def _tracker(name: str, folder: Path, run_name: str) -> Logger:
    """MLflow's or Weights & Biases' run; its id is kept in a file for when training resumes."""
    try:
        lightning: Any = importlib.import_module("lightning.pytorch.loggers")
    except ModuleNotFoundError:  # the package has two names
        lightning = importlib.import_module("pytorch_lightning.loggers")
    path = folder / f"{name}_run_id.json"
    try:
        run_id = parse_json(path.read_text(encoding="utf-8"), max_bytes=MAX_BYTES) if path.exists() else None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it", code="run-damaged") from error
    logger: Any
    if name == "mlflow":
        logger = lightning.MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", "solobox"),
            run_name=run_name, tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
            save_dir=str(folder / "mlruns"), run_id=run_id,
        )  # fmt: skip
        run_id = logger.run_id  # starts the run, or finds it
    else:
        run_id = run_id or uuid.uuid4().hex
        project = os.environ.get("WANDB_PROJECT", "solobox")
        logger = lightning.WandbLogger(name=run_name, project=project, save_dir=str(folder), id=run_id)
    with replacing(path) as file:
        json.dump(run_id, file)
    started: Logger = logger
    return started
