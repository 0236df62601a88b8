"""How fetching tells what it is doing."""

from typing import Protocol

_MIB = 1 << 20


class Progress(Protocol):
    """Told of stages, steps and remarks; the command line draws bars from it."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins; the one before has ended."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """So many more steps are done, or undone where it is less than 0."""

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


class Meter:
    """Turns a position in bytes into steps of a MiB."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage
        self._total: int | None = None
        self._shown = 0

    def of(self, total: int) -> None:
        """Begin the stage, unless it runs already with this total (in bytes; 0 where unknown)."""
        if total != self._total:
            self._total, self._shown = total, 0
            self._progress.start(f"{self._stage}, MiB", -(-total // _MIB))

    def at(self, position: int) -> None:
        """So many bytes of the total are done."""
        steps = position // _MIB if position != self._total else -(-position // _MIB)
        if steps != self._shown:
            self._progress.advance(steps - self._shown)
            self._shown = steps


def mib(count: int) -> str:
    """Write a number of bytes for a person."""
    return f"{count / _MIB:,.1f} MiB"
