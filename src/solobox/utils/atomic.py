"""Atomic files, which appear complete or not at all."""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from solobox.errors import DataError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file that replaces `path` once it is complete and on the disk.

    Missing folders are created. Where `path` is a symbolic link, the file that it leads to is replaced. When anything
    fails, `path` stays as it was, and no other file is left. ``DataError`` where it cannot be written.
    """
    with _beside(path) as beside, beside.open("x", encoding="utf-8", newline="") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing_bytes(path: Path) -> Iterator[BinaryIO]:
    """The same as `replacing`, for a binary file."""
    with _beside(path) as beside, beside.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    named, path = path, followed(path)
    beside = unfinished(path)
    try:
        with explained(named):
            if path.exists() and not path.is_file():
                raise DataError(f"{named}: cannot be written: it is a folder or a device")
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            beside.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # already moved, or never created
            beside.unlink()


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system supports it: a rename is durable only then."""
    with contextlib.suppress(OSError):  # Windows cannot open folders, and some file systems cannot sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def followed(path: Path) -> Path:
    """The path that a symbolic link leads to, so that the file there is replaced and not the link; others unchanged."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def unfinished(path: Path) -> Path:
    """A unique hidden name in the folder of `path`, for its new contents until they are complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a ``DataError`` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {error.object!r} cannot be written as UTF-8; rename it") from error


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files and folders that killed processes left for `path`.

    Only for a file that one process at a time writes: the unfinished file of another process looks the same. What
    cannot be removed stays, and does no harm.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            if leftover.fullmatch(other.name):
                if other.is_dir():
                    shutil.rmtree(other)
                else:
                    other.unlink()
