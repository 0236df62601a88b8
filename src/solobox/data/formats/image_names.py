"""The parts of the names that annotations give to images, whichever system wrote them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from solobox.data.formats.parsing import split_in_name

_DRIVE = re.compile(r"[A-Za-z]:")
_QUERY = re.compile(r"[?&]d=([^&#]+)")  # Label Studio's local files


def name_parts(name: str) -> tuple[str, ...]:
    """The folders and the file that a path of any system, a URL or an address of Label Studio names."""
    query = _QUERY.search(name)
    if query:
        name = query[1]
    elif "://" in name:
        name = re.split(r"[?#]", name.partition("://")[2], maxsplit=1)[0]
    if "%" in name:
        name = unquote(name)
    parts = tuple(part for part in re.split(r"[/\\]", name.strip()) if part not in {"", ".", ".."})
    return parts[1:] if parts and _DRIVE.fullmatch(parts[0]) else parts


def contradicts(parts: Sequence[str], path: Path) -> bool:
    """Whether a name is of one split and a file of another: ``val/1.png`` is not ``train/1.png``."""
    of_name = _splits_in(tuple(parts[:-1]))
    of_path = _splits_in(path.parts[-4:-1]) if of_name else of_name
    return bool(of_name and of_path and not of_name & of_path)


@lru_cache(maxsize=10_000)
def _splits_in(folders: tuple[str, ...]) -> frozenset[str]:
    return frozenset(split for split in map(split_in_name, folders) if split)
