"""The model of a session, kept in a file beside the labels, so that a restart goes on with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from solobox.annotation.events import Box
from solobox.errors import ConfigError

if TYPE_CHECKING:
    from solobox.annotation.learner import Learner

_FORMAT = 1
_MIN_SAME = 0.5
"""Share of the labels that a model learned from that must still be as they were."""


class KeptModel:
    """path: of the file, a checkpoint as `training.checkpoint` writes it: whole or not there, and with a checksum."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, learner: "Learner", learned: Mapping[str, Box]) -> None:
        """Keep the present model, in place of the one before. learned: the labels that it learned from.

        Raises ConfigError, ``checkpoint-not-saved``.
        """
        from solobox.training import checkpoint  # loads torch, as the learner has

        checkpoint.save(self._path, {"format": _FORMAT, "learned": dict(learned), "model": learner.state()})

    def restore(self, learner: "Learner", labels: Mapping[str, Box]) -> dict[str, Box]:
        """Give the learner the model that was kept, and return the labels that it learned from.

        labels: the present ones. No file, no labels. Raises ConfigError for a file that is damaged, or of another
        format, other labels, another backbone or other options: the learner has then the model that it had.
        """
        from solobox.training import checkpoint

        if not self._path.exists():
            return {}
        try:
            state = checkpoint.load(self._path)
        except ConfigError as error:
            raise ConfigError(f"{self._path} is damaged, or cannot be read", code=error.code) from error
        try:
            if state["format"] != _FORMAT:
                raise ConfigError("it is of another version", code="model-outdated")
            learned: dict[str, Box] = {str(name): _box(box) for name, box in state["learned"].items()}
            same = sum(labels.get(name) == box for name, box in learned.items())
            if same < _MIN_SAME * max(len(learned), 1):
                raise ConfigError("it learned from other labels", code="model-outdated")
            learner.load_state(state["model"])
        except ConfigError:
            raise
        except Exception as error:  # a whole file of something else can have anything in it
            raise ConfigError("it is no model of this page", code="model-damaged") from error
        return learned


def _box(corners: Sequence[float]) -> Box:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return x1, y1, x2, y2
