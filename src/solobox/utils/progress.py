"""Progress of long work, for a bar, a notebook or nobody."""

from typing import Protocol


class Progress(Protocol):
    """Receives stages, steps and remarks; the command line draws bars from it."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage of `total` steps begins (None: unknown), and the one before has ended."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """So many more steps are done; `note` is a short text such as the loss."""

    def say(self, text: str) -> None:
        """A remark that deserves a line."""


class NullProgress:
    """Ignores everything."""

    def start(self, stage: str, total: int | None) -> None:
        """Ignore a stage."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignore steps."""

    def say(self, text: str) -> None:
        """Ignore a remark."""
