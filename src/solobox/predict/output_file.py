"""A job whose output is one file, which a killed program can resume.

The folder ``boxes.csv.unfinished`` next to ``boxes.csv`` holds the plan, the rows that are written so far (Parquet as
JSON lines), and a journal with a line for each part: its end in the file and its checksum. A part counts once its line
is in the journal; whatever a killed program wrote after that is cut off. Each row is written once, and the finished
file is renamed.
"""

import contextlib
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from solobox.errors import ConfigError, DataError
from solobox.predict.job import Job, JobSummary, Part
from solobox.predict.plan import Plan
from solobox.predict.prediction import Prediction
from solobox.predict.writers import FORMATS, ImageIds, ParquetRows, check_format
from solobox.utils.atomic import (
    explained,
    followed,
    remove_leftovers,
    replacing,
    replacing_bytes,
    sync_folder,
    unfinished,
)
from solobox.utils.json_utils import parse_json

SHARD_SIZE = 128
"""Images in a shard: a second or so. A multiple of every model's batch size, so that a resumed job makes the same
batches: the last bit of a prediction may depend on its batch."""

DRAWN = ("drawn.jsonl", "crops.jsonl")
"""Journals in the folder with the names of drawn images and crops, see `image_writers.ImageNames`."""

_PLAN, _LOCK, _JOURNAL, _ROWS = "plan.json", "lock", "journal.jsonl", "rows"
_OURS = re.compile(r"lock|plan\.json|(journal|drawn|crops)\.jsonl|rows\.\w+|\..+\.[0-9a-f]{8}\.part")


class OutputFile(Job):
    """A file of rows that is being written. Made by `open`.

    folder: the unfinished output. done: number of rows that are stored; the first images have one.
    """

    def __init__(self, output: Path, plan: Plan, names: Sequence[str], ids: ImageIds | None = None) -> None:
        self.plan = plan
        self.folder = folder_of(output)
        self._output, self._names, self._ids = output, names, ids
        self._format = check_format(output)
        self._path = self.folder / f"{_ROWS}{'.jsonl' if self._format == '.parquet' else self._format}"
        self._parts: list[Part] = []
        self._end = 0
        self._is_renamed = False
        self._file: BinaryIO | None = None
        self._journal: BinaryIO | None = None

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        output: Path,
        plan: Plan,
        names: Sequence[str],
        ids: ImageIds | None = None,
        *,
        resume: bool = False,
    ) -> Iterator["OutputFile"]:
        """The job of `output`, for this process alone while the block runs.

        plan: the settings. names: the images. ids: their ids in COCO's results. resume: continue an unfinished output,
        if there is one.

        If the block ends by an error, finished parts stay. Raises DataError: ``output-busy`` if another process writes
        this output, ``output-unfinished`` if there are parts and `resume` is not set, ``output-damaged``, and
        ``file-unwritable``; ConfigError ``plan-differs`` if the parts belong to another plan.
        """
        output = followed(output)
        job = cls(output, plan, names, ids)
        with explained(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job.folder, output), contextlib.ExitStack() as stack:
            stack.callback(job._remove_if_empty)
            remove_leftovers(output)
            job._begin(resume=resume)
            stack.callback(job._close)
            yield job

    @property
    def done(self) -> int:
        """Number of rows that are stored; the first images have one."""
        return sum(part.rows for part in self._parts)

    def names(self, shard: int) -> Sequence[str]:
        """See `Job`."""
        start = shard * self.plan.shard_size
        return self._names[start : start + self.plan.rows_of(shard)]

    def check(self, parts: dict[int, Part]) -> dict[int, str]:
        """See `Job`. Damage is detected when the output is opened."""
        parts |= enumerate(self._parts)
        return {}

    def put(self, shard: int, predictions: Sequence[Prediction]) -> Part:
        """See `Job`. Shards come in order."""
        if shard != len(self._parts):
            raise ValueError(f"shard {shard} cannot be appended after {len(self._parts)} shards")
        part = Part.of(predictions)
        text = io.StringIO()
        lines = FORMATS[self._format](text, self.plan.columns, self._ids, appending=self._end > 0)
        for prediction in predictions:
            lines.put(prediction)
        if shard == self.plan.shards - 1:
            lines.finish()
        self._append(text.getvalue(), part)
        return part

    def finish(self, summary: JobSummary) -> None:  # noqa: ARG002
        """See `Job`."""
        self._close()
        if not self._is_renamed:
            with explained(self._path):
                os.truncate(self._path, self._end)
        if self._format == ".parquet":
            with (
                self._path.open(encoding="utf-8", newline="\n") as lines,
                replacing_bytes(self._output) as file,
                ParquetRows(file, self.plan.columns) as rows,
            ):
                for line in lines:
                    rows.put(json.loads(line))
        elif not self._is_renamed:
            with explained(self._output):
                self._path.replace(self._output)
                sync_folder(self._output.parent)
        self._remove()

    # The folder -------------------------------------------------------------------------------------

    def _begin(self, *, resume: bool) -> None:
        journal = _read_journal(self.folder)
        self._is_renamed = is_renamed(self._output)
        if journal and not self._is_renamed and not resume:
            raise DataError(
                f"{self.folder} holds the first {sum(part.rows for part, _, _ in journal):,} rows of a run that was "
                "stopped. Continue with --resume, or remove that folder to start again",
                code="output-unfinished",
            )
        with explained(self.folder):
            if strange := sorted(path for path in self.folder.iterdir() if not _OURS.fullmatch(path.name)):
                raise DataError(
                    f"{strange[0]} was not written by this program: choose another name for -o",
                    code="output-foreign",
                )
        if journal and resume:
            self._check_plan()
            if not self._is_renamed:
                self._check_rows(journal)
            self._parts = [part for part, _, _ in journal]
            self._end = journal[-1][1]
            return
        self._is_renamed = False
        with explained(self.folder):
            # A run that was killed before its first part may have drawn images; this one reuses their names, and so
            # does the next one if this one is killed right here: the plan stays too.
            keeps = (_LOCK, _PLAN, *DRAWN) if resume and self._has_same_plan() else (_LOCK,)
            for path in self.folder.iterdir():
                if path.name not in keeps:
                    path.unlink()
        with replacing(self.folder / _PLAN) as file:
            file.write(self.plan.to_json())

    def _has_same_plan(self) -> bool:
        with contextlib.suppress(DataError, ConfigError):
            self._check_plan()
            return True
        return False

    def _check_plan(self) -> None:
        path = self.folder / _PLAN
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be read. {_START_AGAIN}", code="plan-damaged") from error
        before, _ = Plan.from_json(text, str(path))
        before.check_same(self.plan, str(self.folder))

    def _check_rows(self, journal: Sequence[tuple[Part, int, int]]) -> None:
        start = 0
        damage = DataError(f"{self._path} is damaged. {_START_AGAIN}", code="output-damaged")
        try:
            with self._path.open("rb") as file:
                for shard, (part, end, checksum) in enumerate(journal):
                    if shard >= self.plan.shards or part.rows != self.plan.rows_of(shard):
                        raise damage
                    data = file.read(end - start)
                    if len(data) != end - start or zlib.crc32(data) != checksum:
                        raise damage
                    start = end
        except OSError as error:
            raise damage from error

    def _append(self, text: str, part: Part) -> None:
        with explained(self._output):
            data = text.encode()
            if self._file is None:
                self._file = _opened(self._path, self._end)
                lines = (self.folder / _JOURNAL).read_bytes().split(b"\n") if self._parts else []
                self._journal = _opened(
                    self.folder / _JOURNAL, sum(len(line) + 1 for line in lines[: len(self._parts)])
                )
                sync_folder(self.folder)
            self._end += len(data)
            entry = [part.rows, part.errors, part.absent, self._end, zlib.crc32(data)]
            for file, content in ((self._file, data), (self._journal, json.dumps(entry).encode() + b"\n")):
                assert file is not None  # noqa: S101 (for the type checker)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self._parts.append(part)

    def _close(self) -> None:
        for file in (self._file, self._journal):
            if file is not None:
                with contextlib.suppress(OSError):  # unflushed bytes belong to no finished part
                    file.close()
        self._file = self._journal = None

    def _remove(self) -> None:
        """Remove the folder. If the program is killed here, a hidden folder is left, which the next run removes."""
        away = unfinished(self._output)
        try:
            self.folder.rename(away)
            shutil.rmtree(away)
        except OSError:  # Windows: the lock is open. The output is complete, so nothing is lost
            with contextlib.suppress(OSError):
                for path in self.folder.iterdir():
                    if path.name != _LOCK:
                        path.unlink()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            if {path.name for path in self.folder.iterdir()} <= {_PLAN, _LOCK}:
                self._remove()


def is_renamed(output: Path) -> bool:
    """Whether a run finished this output, and was killed before it removed its folder."""
    folder = folder_of(followed(output))
    if not output.is_file() or any(folder.glob(f"{_ROWS}.*")):
        return False
    journal = _read_journal(folder)
    return bool(journal) and output.stat().st_size == journal[-1][1]


def _read_journal(folder: Path) -> list[tuple[Part, int, int]]:
    """Each part, its end in the file, and its checksum; up to the first line that is incomplete."""
    entries: list[tuple[Part, int, int]] = []
    path = folder / _JOURNAL
    if path.is_file():
        with explained(path), path.open("rb") as file, contextlib.suppress(ValueError, TypeError):
            for line in file:
                rows, errors, absent, end, checksum = parse_json(line[: line.index(b"\n")])
                entries.append((Part(rows, errors, absent), end, checksum))
    return entries


def _opened(path: Path, size: int) -> BinaryIO:
    """A file to append to, cut off after `size` bytes."""
    file = path.open("ab")
    file.truncate(size)
    return file


_START_AGAIN = "Remove its folder to start again"


def folder_of(output: Path) -> Path:
    """The folder of an output that is not finished."""
    return output.with_name(f"{output.name}.unfinished")


@contextlib.contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Create the folder and lock it for this process while the block runs."""
    busy = DataError(f"another `solobox predict` is writing {output}", code="output-busy")
    with explained(folder):
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except (Timeout, FileNotFoundError):  # the other process has just removed the folder
            raise busy from None
        except PermissionError:
            raise
        except OSError:  # a disk without locks
            pass
    try:
        if lock.is_locked and not (folder / _LOCK).exists():
            raise busy
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):  # Windows: now that the lock is closed
            folder.rmdir()
