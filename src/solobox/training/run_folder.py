"""What a run's folder holds, by name; without PyTorch, which takes seconds to load."""

from pathlib import Path

from solobox.errors import ConfigError

CONFIG = "config.json"
"""The model's; it is written last, so a run whose folder has it is finished."""

CHECKPOINT = "checkpoint.pt"
"""The state after the last epoch."""

HISTORY = "history.csv"
"""A row for each epoch."""


OUT_OF_FOLD = "out_of_fold.csv"
"""A row for each training image, of a head that did not learn from it; where folds were asked for."""


def must_be_vacant(folder: Path) -> None:
    """Raise ConfigError where a new run would write over another."""
    if (folder / CONFIG).exists():
        raise ConfigError(f"{folder} already holds a model: choose another folder, or remove this one first")
    if (folder / CHECKPOINT).exists():
        raise ConfigError(
            f"{folder} holds a run that is not finished: `solobox train --resume {folder}` continues it; or remove it"
        )


def must_be_unfinished(folder: Path) -> None:
    """Raise ConfigError where there is nothing to go on with."""
    if (folder / CONFIG).exists():
        raise ConfigError(f"the run in {folder} is finished: there is nothing to go on with")
    if not (folder / CHECKPOINT).exists():
        raise ConfigError(f"{folder} holds no {CHECKPOINT}: no epoch was finished there; train anew")
