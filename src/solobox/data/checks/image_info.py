"""What the images themselves say: there or not, readable or not, how large, which bytes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from solobox.errors import ImageError
from solobox.images import reading

Progress: TypeAlias = Callable[[int, int], None]

_THREADS = 2
_SMALL = 64


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one image file.

    header: what the file's first bytes say; None when it is missing or unreadable.
    missing: no file of that name. problem: why it cannot be read, or the empty string. advice: what to do.
    digest: SHA-256 of the file's bytes; empty unless the image was decoded whole.
    """

    header: reading.Header | None = None
    missing: bool = False
    problem: str = ""
    advice: str = ""
    digest: bytes = b""


def look(paths: Sequence[Path], *, decode: bool, progress: Progress | None) -> dict[Path, Look]:
    """Look at each file once; with `decode`, every pixel of it. `progress` hears (done, of how many)."""
    found: dict[Path, Look] = {}
    for path, seen in zip(paths, _seen(paths, decode=decode), strict=True):
        found[path] = seen
        if progress is not None:
            progress(len(found), len(paths))
    return found


def _seen(paths: Sequence[Path], *, decode: bool) -> Iterator[Look]:
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(partial(_look, decode=decode), paths)


def _look(path: Path, *, decode: bool) -> Look:
    try:
        if not path.is_file():
            return Look(missing=True)
        header = reading.probe(path)
        if not decode:
            return Look(header)
        # a reduced decode still reads a JPEG to its last byte, so that a truncated one is found
        reading.read(path, at_least=_SMALL)
        with path.open("rb") as stream:
            return Look(header, digest=hashlib.file_digest(stream, "sha256").digest())
    except (ImageError, OSError) as error:
        # an image's error reads "name: reason. Remedy."; the name has a column of its own here
        text = str(error).removeprefix(f"{path}: ")
        reason, _, remedy = text.rpartition(". ")
        return Look(problem=reason or text, advice=remedy if reason else "")
