"""Files that appear whole or not at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from solobox.errors import DataError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes the place of `path` once it is complete and on the disk.

    Folders above are made. When anything fails, what was at `path` before is still there, and nothing else.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("x", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or could not be made
            beside.unlink()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ``DataError`` that names `path`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {error.object!r} cannot be written as UTF-8; rename it") from error
