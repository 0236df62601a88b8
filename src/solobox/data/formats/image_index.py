"""The names of all files below some folders, to find images by."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solobox.images.reading import is_image_name

MAX_INDEXED = 1_000_000
"""Files below a folder that are indexed; in a larger one nothing is searched, since no match would be certain."""


@dataclass(frozen=True, slots=True)
class FileIndex:
    """All files below some folders, by folded name and (images) by folded stem, with their folded folders."""

    by_name: dict[str, list[tuple[Path, tuple[str, ...]]]] = field(default_factory=dict)
    by_stem: dict[str, list[tuple[Path, tuple[str, ...]]]] = field(default_factory=dict)

    @classmethod
    def of(cls, roots: Sequence[Path]) -> "FileIndex":
        """Index what lies below some folders; nothing where that is more than `MAX_INDEXED`."""
        index, count = cls(), 0
        for root in roots:
            for parent, folders, names in os.walk(root):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                count += len(names) + len(folders)
                if count > MAX_INDEXED:
                    return cls()
                at = Path(parent)
                folded = fold(at.parts)
                for name in names:
                    if name.startswith("."):
                        continue
                    entry = at / name, folded
                    key = fold_text(name)
                    index.by_name.setdefault(key, []).append(entry)
                    if is_image_name(name):
                        index.by_stem.setdefault(key.rpartition(".")[0], []).append(entry)
        return index


def fold_text(text: str) -> str:
    """A name without its case and Unicode form."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def fold(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts of a path without their case and Unicode form."""
    return tuple(map(fold_text, parts))


def common_tail(first: Sequence[str], second: Sequence[str]) -> int:
    """How many last parts two paths have in common."""
    count = 0
    for a, b in zip(reversed(first), reversed(second), strict=False):
        if a != b:
            break
        count += 1
    return count
