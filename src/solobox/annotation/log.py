"""The file of events: one JSON object a line, only ever appended to, on the disk before an action counts as saved."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from solobox.annotation.events import Answers, Event
from solobox.errors import ConfigError, DataError
from solobox.utils.atomic import explained, sync_folder

_EVENT = TypeAdapter(Event)
_START = b'{"number":'
"""How each line starts: half a line that does not is not cut off, since it may be another program's file."""


class EventLog:
    """The log of one folder of images, open in one process at a time.

    path: of the file; it is created where there is none. answers: the replay of all events in it.

    A process that is killed while it writes leaves half a line: it was not saved, and is cut off when the log is opened
    again. So is what a full disk left of a line.

    Raises ConfigError, ``log-in-use``, where another process has it open; DataError: ``log-damaged`` for a line that is
    no event, or cannot follow the one before, and where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.answers = Answers()
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise ConfigError(
                    f"{self.path} is open in another process: use the page of that one, or end it first",
                    code="log-in-use",
                ) from None
        try:
            with explained(self.path):
                is_new = not self.path.exists()
                # Without a buffer: what a full disk refuses must not be written again later.
                self._file = self.path.open("ab", buffering=0)
                if is_new:
                    sync_folder(self.path.parent)
                self._length = self._replay()
                self._cut()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, event: Event) -> None:
        """Save the next event: it is on the disk when this returns.

        Raises DataError where it cannot be written, or cannot follow; then neither file nor `answers` change.
        """
        self.answers.check(event)
        line = _EVENT.dump_json(event, exclude_defaults=True) + b"\n"
        with explained(self.path):
            self._cut()  # what an earlier failure may have left
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._cut()
                raise
        self._length += len(line)
        self.answers.apply(event)

    def close(self) -> None:
        """Let others open it."""
        if hasattr(self, "_file"):
            self._file.close()
        self._lock.release()

    def _replay(self) -> int:
        """Apply all whole lines. Gives their length in bytes."""
        length = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    if not (line.startswith(_START) or _START.startswith(line)):
                        raise self._no_event(number, "another program wrote it")
                    break
                try:
                    self.answers.apply(_EVENT.validate_json(line))
                except ValidationError as error:
                    raise self._no_event(number, error.errors()[0]["msg"]) from error
                except DataError as error:
                    raise DataError(f"{self.path}, line {number}: {error}", code=error.code) from error
                length += len(line)
        return length

    def _no_event(self, number: int, why: str) -> DataError:
        return DataError(
            f"{self.path}, line {number}: is no event: {why}. Restore it from a backup", code="log-damaged"
        )

    def _cut(self) -> None:
        """Remove what follows the last whole line."""
        self._file.truncate(self._length)  # appending goes on from there
