"""Writing without a buffer, so that a full disk is told of where the bytes are written and not at the end."""

from io import FileIO
from pathlib import Path
from typing import cast

from solobox.utils.atomic import explained


def opened(path: Path, mode: str) -> FileIO:
    """Open a file for writing bytes without a buffer; ``DataError`` where that cannot be done."""
    with explained(path):
        return cast("FileIO", path.open(mode, buffering=0))


def write(path: Path, file: FileIO, block: bytes) -> None:
    """Write all of a block: the system may take less than it is given. ``DataError`` where it takes no more."""
    left = memoryview(block)
    with explained(path):
        while left:
            left = left[file.write(left) :]
