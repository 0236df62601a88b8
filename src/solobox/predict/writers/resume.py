"""What a run has found so far, on the disk: a run that was killed goes on from there.

Beside ``boxes.csv`` that is the folder ``boxes.csv.parts``. It holds what was asked for (``plan.json``), and files of
rows: each is written beside, flushed and renamed, so that it is whole or not there. When all rows are found, the output
is written from them, and the folder goes. Whatever the output's kind, it is made from all rows in one go: that of a
run that went on is the same to the last bit as that of one that was never stopped.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from solobox.errors import ConfigError, DataError
from solobox.predict.prediction import Prediction
from solobox.utils.atomic import explained, remove_leftovers, replacing, unfinished

Plan: TypeAlias = Mapping[str, str | int | float | None]

ROWS = 1024
"""Rows in a file at most."""
SECONDS = 10.0
"""Rows are not kept in memory alone for much longer."""
TOGETHER = 64
"""A file holds a multiple of so many rows, unless they are the last: models see images in batches, and what comes out
may hang on its neighbours by the last bit. So a run that goes on makes the same batches."""

_PLAN, _LOCK = "plan.json", "lock"
_ROWS_FILE = re.compile(r"(\d{9,})-(\d{9,})\.jsonl")
_OWN = re.compile(r"lock|plan\.json|\w+\.jsonl|\d{9,}-\d{9,}\.jsonl|\..+\.[0-9a-f]{8}\.part")


class Parts:
    """The rows of a run that are found already. Made by `opened`.

    folder: where they lie.
    done: how many inputs have their row, from the first on.
    """

    def __init__(self, output: Path, count: int) -> None:
        self.folder = folder_of(output)
        self.done = 0
        self._output = output
        self._count = count
        self._fresh: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def opened(cls, output: Path, plan: Plan, count: int, *, resume: bool = False) -> Iterator["Parts"]:
        """The folder of `output`, for this process alone while the block runs.

        plan: what was asked for, in words that a person knows: all that decides the rows. count: inputs.
        resume: go on with what another run left, if it left anything.

        Where the block is left by an error, what was found by then is kept. Raises DataError where another run is at
        work on this output, or left rows and this one is not to go on with them; ConfigError where those rows are of
        another plan.
        """
        parts = cls(output, count)
        with explained(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with _alone(parts.folder):
            remove_leftovers(output)
            parts._begin(dict(plan), resume=resume)
            try:
                yield parts
            except BaseException:
                with contextlib.suppress(DataError):  # it would hide what went wrong first
                    parts._flush(len(parts._fresh) - len(parts._fresh) % TOGETHER)
                raise
            finally:
                if parts.is_empty():
                    parts.remove()

    def keep(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Keep the rows that are still to be found, in order, as they go by, and hand each on."""
        since = time.monotonic()
        for prediction in predictions:
            self._fresh.append(_packed(prediction))
            yield prediction
            found = len(self._fresh)
            if found >= ROWS or (found % TOGETHER == 0 and time.monotonic() - since > SECONDS):
                self._flush(found)
                since = time.monotonic()
        self._flush(len(self._fresh))

    def __iter__(self) -> Iterator[Prediction]:
        """All rows, in order. Raises DataError where a file is damaged or rows are missing."""
        at = 0
        for start, stop, path in self._files():
            rows = _unpacked(path)
            if start != at or len(rows) != stop - start:
                break
            yield from rows
            at = stop
        if at != self._count:
            raise DataError(
                f"{self.folder}: row {at + 1} of {self._count} is missing; remove that folder and begin anew"
            )

    def remove(self) -> None:
        """Be done with the folder. Killed meanwhile it leaves one with a hidden name, which the next run removes."""
        away = unfinished(self._output)
        with contextlib.suppress(OSError):  # the rows are safe by then
            self.folder.rename(away)
            shutil.rmtree(away)

    def is_empty(self) -> bool:
        """Whether nothing is in the folder that a run could go on with."""
        with contextlib.suppress(OSError):
            return all(path.name in (_PLAN, _LOCK) for path in self.folder.iterdir())
        return False

    def _begin(self, plan: dict[str, object], *, resume: bool) -> None:
        files = list(self._files())
        known = self._known_plan()
        if files and not resume:
            raise DataError(
                f"{self.folder} holds what a stopped run had found, {files[-1][1]} of its images. Go on with "
                "--resume, or remove that folder to begin anew"
            )
        if files and known != plan:
            raise ConfigError(
                f"{self.folder} cannot be gone on with: {_difference(known, plan)}. Remove it to begin anew"
            )
        with explained(self.folder):
            for path in sorted(self.folder.iterdir()):
                if not _OWN.fullmatch(path.name):
                    raise DataError(f"{path} is none of this program's files: give -o another name")
            for path in self.folder.iterdir():
                goes_on = known == plan and resume and not path.name.endswith(".part")
                if path.name != _LOCK and not goes_on:
                    path.unlink()
        with replacing(self.folder / _PLAN) as file:
            json.dump(plan, file, indent=1)
        self.done = files[-1][1] if files else 0

    def _known_plan(self) -> dict[str, object] | None:
        try:
            plan = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return plan if isinstance(plan, dict) else None

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """The files of rows: the first row of each, the one after its last, and where it is."""
        with explained(self.folder):
            names = sorted(self.folder.iterdir())
        for path in names:
            if found := _ROWS_FILE.fullmatch(path.name):
                yield int(found[1]), int(found[2]), path

    def _flush(self, count: int) -> None:
        """Put the first rows that are in memory alone on the disk."""
        if count:
            stop = self.done + count
            with replacing(self.folder / f"{self.done:09d}-{stop:09d}.jsonl") as file:
                file.writelines(self._fresh[:count])
            del self._fresh[:count]
            self.done = stop


def folder_of(output: Path) -> Path:
    """Where the parts of an output lie until it is complete."""
    return output.with_name(f"{output.name}.parts")


def fingerprint(texts: Iterable[str]) -> str:
    """Another one for any other list of texts."""
    found = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogateescape")
        found.update(b"%d:" % len(raw))
        found.update(raw)
    return found.hexdigest()


def _difference(known: dict[str, object] | None, plan: dict[str, object]) -> str:
    if known is None:
        return "its plan.json is missing or damaged"
    for key in [*plan, *known]:
        before, now = known.get(key), plan.get(key)
        if before != now:
            if isinstance(now, str) and re.fullmatch("[0-9a-f]{64}", now):
                return f"{key} changed since"
            return f"{key} was {_said(before)} and is {_said(now)}"
    return "its plan is another one"


def _said(value: object) -> str:
    return "not given" if value is None else str(value)


def _packed(prediction: Prediction) -> str:
    """A row as a line, to the last bit: Python writes numbers so that they read back the same."""
    p = prediction
    edges = [np.asarray(values, dtype=np.float64).tolist() for values in (p.box, p.std, p.lower, p.upper)]
    size = [int(side) for side in p.size]
    return json.dumps([p.image, size, *edges, float(p.presence), float(p.familiarity), p.error]) + "\n"


def _unpacked(path: Path) -> list[Prediction]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return [_prediction(line) for line in file]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error}); remove its folder and begin anew") from error


def _prediction(line: str) -> Prediction:
    image, (width, height), box, std, lower, upper, presence, familiarity, error = json.loads(line)
    edges = (np.array(values, dtype=np.float64) for values in (box, std, lower, upper))
    box, std, lower, upper = edges
    return Prediction(image, box, (width, height), std, lower, upper, presence, familiarity, error)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second run out of it while the block runs, where the system has a way to."""
    if sys.platform == "win32":
        with explained(folder):
            folder.mkdir(exist_ok=True)
        yield
        return
    import fcntl

    busy = DataError(f"another `solobox predict` is writing {folder.with_suffix('')}")
    with contextlib.ExitStack() as stack:
        with explained(folder):
            folder.mkdir(exist_ok=True)
            file = stack.enter_context((folder / _LOCK).open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        except OSError:  # a disk without locks
            pass
        try:  # the other run may have finished, and moved the folder away, just before this one had the lock
            same = os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat())
        except OSError:
            same = False
        if not same:
            raise busy
        yield
