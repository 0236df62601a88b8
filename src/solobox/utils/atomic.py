"""Files that appear whole or not at all, and the lines of those that are CSV."""

import contextlib
import csv
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from solobox.errors import DataError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes the place of `path` once it is complete and on the disk.

    Folders above are made. When anything fails, what was at `path` before is still there, and nothing else.
    """
    with _beside(path) as beside, beside.open("x", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing_bytes(path: Path) -> Iterator[BinaryIO]:
    """As `replacing`, for a file that is no text."""
    with _beside(path) as beside, beside.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    beside = unfinished(path)
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            beside.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or could not be made
            beside.unlink()


class CsvLines:
    """Writes a CSV: lines end with a line feed, and a text that holds an end of line of any kind is in quotes."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        # Python's writer quotes those characters alone that it ends a line with, and file names hold both.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """What the library's writer calls."""
        self._file.write(f"{line[:-2]}\n")

    def put(self, cells: Iterable[object]) -> None:
        """Write a line."""
        self._writer.writerow(cells)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system has a way to: a rename is safe only then."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some disks sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def unfinished(path: Path) -> Path:
    """A hidden name beside `path` that nobody else uses, for its new contents until they are complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ``DataError`` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {error.object!r} cannot be written as UTF-8; rename it") from error


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files, and folders of such, that killed processes left beside `path`.

    For a file that only one process at a time writes: another one's unfinished file looks the same. What cannot be
    removed stays; it harms nobody.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if leftover.fullmatch(other.name):
                if other.is_dir():
                    shutil.rmtree(other)
                else:
                    other.unlink()
