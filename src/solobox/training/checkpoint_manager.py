"""The state of a training run on the disk: written after each epoch, gone on from exactly."""

import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from solobox.config.recipe import Recipe
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError, Paused
from solobox.training import checkpoint
from solobox.training.distributed import Ranks
from solobox.training.loggers import Logger, write_history
from solobox.training.loop import Epoch
from solobox.training.run_folder import CHECKPOINT, HISTORY


class Progressed:
    """Where a run is, over all its stages; a `Keeper` for the stage that `stage` begins.

    folder: the run's. seen: the images it trains on. stop_after: pause after so many epochs, 0 for never.
    resume: go on from the checkpoint in the folder.
    loggers: told of each epoch.
    ranks: each has such an object; the main rank's writes, and what stops it stops them all.

    Raises ConfigError where there is nothing to go on from, or where the data is no longer what the run began with.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        seen: Fingerprints,
        *,
        stop_after: int = 0,
        resume: bool = False,
        loggers: Sequence[Logger] = (),
        ranks: Ranks | None = None,
    ) -> None:
        self._folder, self._recipe, self._seen = folder, recipe, seen
        self._left = stop_after
        self._loggers, self._ranks = loggers, ranks or Ranks()
        self._interrupted = self._due = False
        self._stage = ""
        self._before: dict[str, torch.Tensor] | None = None
        self.earlier: list[Epoch] = []
        self.chosen = 0
        self._tree: dict[str, Any] | None = checkpoint.load(folder / CHECKPOINT) if resume else None
        if self._tree is not None:
            kept = self._tree["seen"]
            same = all(
                torch.equal(kept[name], torch.from_numpy(getattr(seen, name))) for name in ("train", "val")
            )
            if not same:
                raise ConfigError(
                    f"the images are not those that {folder} began with: bring them back, or train anew elsewhere"
                )
            self.earlier = [Epoch(**line) for line in self._tree["earlier"]]
            self.chosen = self._tree["chosen"]

    @property
    def stage_to_resume(self) -> str:
        """The stage that the checkpoint is in, or the empty string."""
        return self._tree["stage"] if self._tree is not None else ""

    @property
    def before(self) -> dict[str, torch.Tensor] | None:
        """The whole localizer as it was before the stage that the checkpoint is in, where that was kept."""
        return self._tree["before"] if self._tree is not None else None

    @contextmanager
    def stage(self, name: str, before: dict[str, torch.Tensor] | None = None) -> Iterator["Progressed"]:
        """While the block runs, Ctrl-C and SIGTERM pause it after the step that is under way; a second one kills.

        before: the localizer's state at the beginning, where a later decision needs it.
        """
        self._stage, self._before = name, before
        old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            old = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
            if (
                name == "head"
                and self._recipe.finetune_epochs
                and self._ranks.any(self._due or self._interrupted)
            ):
                raise Paused("paused after the head stage")
        except Paused as paused:
            again = shlex.join(["solobox", "train", "--resume", str(self._folder)])
            raise Paused(f"{self._folder}: {paused}; `{again}` goes on") from None
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def stage_ended(self, history: Sequence[Epoch], chosen: int) -> None:
        """What the stage left: its history, and the chosen epoch's place in that of all stages."""
        self.earlier, self.chosen = [*self.earlier, *history], chosen

    # What the loop asks of a Keeper ------------------------------------------------------------------

    def resumed(self) -> dict[str, Any] | None:
        """The state of this stage, the first time that it is asked for."""
        if self._tree is None or self._tree["stage"] != self._stage:
            return None
        state: dict[str, Any] = self._tree["fit"]
        self._tree = None
        return state

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Write the checkpoint, then the history; tell the loggers when an epoch has ended."""
        self._ranks.on_main(lambda: self._write(state, history))

    def _write(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        tree = {
            "stage": self._stage,
            "fit": state,
            "before": self._before,
            "earlier": [line.to_dict() for line in self.earlier],
            "chosen": self.chosen,
            "seen": {name: torch.from_numpy(getattr(self._seen, name)) for name in ("train", "val")},
        }
        checkpoint.save(self._folder / CHECKPOINT, tree, note={"recipe": self._recipe.to_dict()})
        rows = [line.to_dict() for line in (*self.earlier, *history)]
        write_history(self._folder / HISTORY, rows)
        if state["place"] == 0:
            for logger in self._loggers:
                figures = {k: v for k, v in rows[-1].items() if k not in ("stage", "epoch")}
                logger.log_metrics(figures, step=len(rows))

    def pause(self, *, epoch_ended: bool) -> bool:
        """Whether Ctrl-C came, or the epochs asked for are done."""
        if epoch_ended and self._left:
            self._left -= 1
            self._due = self._left == 0
        return self._due or self._interrupted

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True


def recipe_of(folder: Path) -> Recipe:
    """The recipe of the run that was paused in `folder`. ConfigError where there is none."""
    note = checkpoint.read_note(folder / CHECKPOINT)
    flat = note.get("recipe")
    if not isinstance(flat, dict):
        raise ConfigError(f"{folder / CHECKPOINT} does not say what recipe it is of")
    return Recipe.from_preset("quick", flat)
