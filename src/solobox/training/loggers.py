"""Where a run's figures go while it trains: always a CSV, and the trackers that a team has."""

import csv
import difflib
import importlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning_fabric.utilities.rank_zero import rank_zero_only

from solobox.errors import ConfigError, SoloboxError
from solobox.utils.atomic import remove_leftovers, replacing

IDS = "loggers.json"
"""Beside a run: which runs of MLflow and Weights & Biases are its own, so that a resumed run goes on in them."""

_PROJECT = "solobox"


class HistoryCsv:
    """The history as a CSV, a row for each epoch.

    The file is replaced as a whole each time, so that a resumed run has no epoch twice, and none is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Make the file hold these rows and no others.

        rows: names to numbers or text. The columns are all names, as they first appear; a name that a row lacks, and
            None, are empty cells. Floats are written so that they are read back exactly.

        Raises DataError when the file cannot be written; what was there before is then still whole.
        """
        columns = list(dict.fromkeys(name for row in rows for name in row))
        remove_leftovers(self.path)
        with replacing(self.path) as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


class Logger(Protocol):
    """What training asks of a tracker; Fabric's and Lightning's loggers are such."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Note figures of a step."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Note the settings of the run, once, before the first figures."""

    def finalize(self, status: str) -> None:
        """Close the run: `success` or `failed`."""


def loggers(names: Sequence[str], folder: Path, run_name: str) -> list[Logger]:
    """The trackers of these names, each once, by Fabric's and Lightning's own classes.

    names: of `tensorboard` (files in `folder`/tensorboard/`run_name`), `mlflow` (the server of MLFLOW_TRACKING_URI,
        or else `folder`/mlruns; the experiment of MLFLOW_EXPERIMENT_NAME, or else solobox), `wandb` (the project of
        WANDB_PROJECT, or else solobox; WANDB_MODE=offline keeps it here, in `folder`/wandb).
    folder: the run's; it is made. Called again for the same folder, to resume, MLflow and Weights & Biases go on in
        the runs of the first time.

    On all ranks but the first there are none. Raises ConfigError for an unknown name, for packages that are not
    installed, saying which, and for a tracker that refuses.
    """
    for name in names:
        if name not in _MAKERS:
            near = difflib.get_close_matches(name, _MAKERS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(_MAKERS)}"
            raise ConfigError(f"there is no logger {name!r}{hint}")
    if getattr(rank_zero_only, "rank", 0):
        return []
    return [_made(name, folder, run_name) for name in dict.fromkeys(names)]


def _made(name: str, folder: Path, run_name: str) -> Logger:
    make, needs = _MAKERS[name]
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return make(folder, run_name)
    except ModuleNotFoundError as error:
        missing = str(error).splitlines()[0]
        raise ConfigError(f"the logger {name!r} cannot be used here: {missing}: {needs}") from error
    except SoloboxError:
        raise
    except Exception as error:  # each tracker has errors of its own: no server, no key, no such run
        raise ConfigError(f"the logger {name!r} does not work: {error}") from error


def _tensorboard(folder: Path, run_name: str) -> Logger:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    # TensorBoard reads all files of a folder; two that begin within a second would have one name
    suffix = f".{uuid.uuid4().hex[:8]}"
    return TensorBoardLogger(folder, name="tensorboard", version=run_name, filename_suffix=suffix)


def _mlflow(folder: Path, run_name: str) -> Logger:
    ids = _read_ids(folder)
    logger = _lightning().MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=run_name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
        save_dir=str(folder / "mlruns"),
        run_id=ids.get("mlflow"),
    )
    _write_ids(folder, {**ids, "mlflow": logger.run_id})  # asked for, it begins the run or finds it again
    made: Logger = logger
    return made


def _wandb(folder: Path, run_name: str) -> Logger:
    ids = _read_ids(folder)
    own = ids.get("wandb") or uuid.uuid4().hex
    made: Logger = _lightning().WandbLogger(
        name=run_name,
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        save_dir=str(folder),
        id=own,  # an id that is known already is gone on with
    )
    _write_ids(folder, {**ids, "wandb": own})
    return made


def _lightning() -> Any:
    """Lightning's loggers: the package has two names."""
    try:
        return importlib.import_module("lightning.pytorch.loggers")
    except ModuleNotFoundError:
        return importlib.import_module("pytorch_lightning.loggers")


def _read_ids(folder: Path) -> dict[str, str]:
    path = folder / IDS
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
        return {name: value for name, value in ids.items() if isinstance(value, str)}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: remove it, and the trackers begin new runs") from error


def _write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    with replacing(folder / IDS) as file:
        json.dump(ids, file)


_MAKERS: dict[str, tuple[Callable[[Path, str], Logger], str]] = {
    "tensorboard": (_tensorboard, "install Solobox with its [loggers] extra, or tensorboard"),
    "mlflow": (_mlflow, "install the packages mlflow and lightning"),
    "wandb": (_wandb, "install the packages wandb and lightning"),
}
