"""Checkpoints of a run over all its stages: written after each epoch, resumed exactly; and pausing it by Ctrl-C."""

import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError, Paused
from solobox.training import checkpoint
from solobox.training.distributed import Distributed
from solobox.training.loggers import Logger, write_history
from solobox.training.loop import Checkpointer, Epoch, FitResult, NullCheckpointer
from solobox.training.run_folder import CHECKPOINT, HISTORY

_MAX_NAMED = 5
"""Changed rows that an error names before it counts the rest."""


class CheckpointManager:
    """The progress of a run; a `Checkpointer` for the stage that `stage` begins.

    folder: the run's. stop_after: pause after so many epochs, 0 for never. resume: continue from the checkpoint there.
    loggers: receive the metrics of each epoch. group: each rank has a manager; rank 0 writes, and all pause together.

    history, best: the epochs of all stages that have ended, and the index of the one whose weights were kept.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        *,
        stop_after: int = 0,
        resume: bool = False,
        loggers: Sequence[Logger] = (),
        group: Distributed | None = None,
    ) -> None:
        self._folder, self._recipe, self._remaining = folder, recipe, stop_after
        self._loggers, self._group = loggers, group or Distributed()
        self._interrupted = self._due = False
        self._signal = 0
        self._stage = ""
        self._stage_start: dict[str, Tensor] | None = None
        self._fingerprints: dict[str, Tensor] = {}
        self._boxes = torch.zeros((0, 4), dtype=torch.float64)
        self._saved: dict[str, Any] | None = checkpoint.load(folder / CHECKPOINT) if resume else None
        self.history = [Epoch(**row) for row in self._saved["history"]] if self._saved else []
        self.best: int = self._saved["best"] if self._saved else 0

    def set_boxes(self, *splits: Dataset) -> None:
        """Set the boxes of the run. Raises ConfigError ``resume-other-boxes`` if a resumed run began with others."""
        boxes = np.concatenate([split.boxes for split in splits])
        self._boxes = torch.from_numpy(boxes)
        # Checkpoints of older versions have none; `set_images` judges another number of images.
        saved = self._saved.get("boxes") if self._saved else None
        if saved is None or len(saved) != len(boxes):
            return
        equal = np.isclose(saved.numpy(), boxes, rtol=0, atol=0, equal_nan=True).all(axis=1)
        if equal.all():
            return
        names = [
            f"{name} ({where})" if where else name
            for split in splits
            for name, where in zip(split.names, split.where, strict=True)
        ]
        changed = [names[row] for row in np.flatnonzero(~equal).tolist()]
        more = f" and {len(changed) - _MAX_NAMED:,} more" if len(changed) > _MAX_NAMED else ""
        raise ConfigError(
            f"the boxes differ from those that {self._folder} was trained on so far: "
            f"{', '.join(changed[:_MAX_NAMED])}{more}. Restore them, or train again in another folder",
            code="resume-other-boxes",
        )

    def set_images(self, fingerprints: Fingerprints) -> None:
        """Set the images of the run. Raises ConfigError ``resume-other-images`` if a resumed run began with others."""
        self._fingerprints = {
            name: torch.from_numpy(getattr(fingerprints, name)) for name in ("train", "val")
        }
        saved = self._saved["fingerprints"] if self._saved else self._fingerprints
        if not all(torch.equal(saved[name], value) for name, value in self._fingerprints.items()):
            raise ConfigError(
                f"the images differ from those that {self._folder} was trained on so far: restore them, or train again "
                "in another folder",
                code="resume-other-images",
            )

    @property
    def stage_to_resume(self) -> str:
        """The stage that the checkpoint is in, or the empty string."""
        return self._saved["stage"] if self._saved else ""

    @property
    def stage_start(self) -> dict[str, Tensor] | None:
        """The weights of the localizer before the stage that the checkpoint is in, if stored."""
        return self._saved["stage_start"] if self._saved else None

    @contextmanager
    def stage(self, name: str, start: dict[str, Tensor] | None = None) -> Iterator["CheckpointManager"]:
        """In the block, Ctrl-C and SIGTERM pause the stage after the current step; a second one ends the process.

        start: the weights of the localizer before the stage, to store in its checkpoints.
        """
        self._stage, self._stage_start = name, start
        handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {
                number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
            }
        try:
            yield self
            has_next = name == "head" and self._recipe.finetune_epochs > 0
            if self._group.any(self._interrupted or (self._due and has_next)):
                raise Paused(f"paused after the {name} stage")
        except Paused as paused:
            command = shlex.join(["solobox", "train", "--resume", str(self._folder)])
            told = Paused(f"{self._folder}: {paused}; `{command}` continues it")
            told.signal = self._signal
            raise told from None
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def rest(self) -> Checkpointer:
        """For what else is trained in the stage after its checkpoint says that it is done: a signal pauses it as well.

        It stores nothing; a resumed run begins it again.
        """
        return _Rest(self)

    def stage_ended(self, result: FitResult, *, better: bool = True) -> None:
        """Append the history of a stage. better: whether the weights that it ended with are kept."""
        if better:
            self.best = len(self.history) + result.best
        self.history += result.history

    # See `loop.Checkpointer` ---------------------------------------------------------------------------

    def resume(self) -> dict[str, Any] | None:
        """The saved state of the current stage; only the first call returns it."""
        if self._saved is None or self._saved["stage"] != self._stage:
            return None
        state: dict[str, Any] = self._saved["fit"]
        self._saved = None
        return state

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Write the checkpoint and the history; inform the loggers when an epoch has ended."""
        self._group.on_rank_zero(lambda: self._write(state, history))

    def _write(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        checkpoint.save(
            self._folder / CHECKPOINT,
            {
                "recipe": self._recipe.to_dict(),
                "fingerprints": self._fingerprints,
                "boxes": self._boxes,
                "history": [epoch.to_dict() for epoch in self.history],
                "best": self.best,
                "stage": self._stage,
                "stage_start": self._stage_start,
                "fit": state,
            },
        )
        rows = [epoch.to_dict() for epoch in (*self.history, *history)]
        write_history(self._folder / HISTORY, rows)
        if state["batch"] == 0:
            metrics = {name: value for name, value in rows[-1].items() if name not in ("stage", "epoch")}
            for logger in self._loggers:
                logger.log_metrics(metrics, step=len(rows))

    def should_pause(self, *, epoch_ended: bool) -> bool:
        """Whether Ctrl-C came, or `stop_after` epochs are done."""
        if epoch_ended and self._remaining:
            self._remaining -= 1
            self._due = self._remaining == 0
        return self._due or self._interrupted

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal came."""
        return self._interrupted

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted, self._signal = True, number


class _Rest(NullCheckpointer):
    def __init__(self, manager: CheckpointManager) -> None:
        self._manager = manager

    def should_pause(self, *, epoch_ended: bool) -> bool:  # noqa: ARG002
        return self._manager.is_interrupted


def saved_recipe(folder: Path) -> Recipe:
    """The recipe of the run that was paused in `folder`. Raises ConfigError as `checkpoint.load`."""
    return Recipe.from_preset("quick", checkpoint.load(folder / CHECKPOINT)["recipe"])
