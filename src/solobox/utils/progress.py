"""How training tells what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Told of stages, steps and remarks; the command line draws bars from it."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins; the one before has ended."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """So many more steps are done; `note` is a short text such as the loss."""

    def say(self, text: str) -> None:
        """A remark worth a line of its own."""


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int) -> None:
        """Ignore a stage."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignore progress."""

    def say(self, text: str) -> None:
        """Ignore a remark."""
