"""What the readers of JSON share: the keys that a file begins with, and its content."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solobox.data.formats.parsing import head, image_name, number, read_text
from solobox.data.formats.records import Problem
from solobox.errors import DataError
from solobox.utils.json_utils import parse_json

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|[{}]')
_MAX_DEPTH = 3
_NO_KEYS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outline:
    """How a JSON file begins.

    start: its first character. keys: the keys of its outermost objects, of those in them, and so on.
    """

    start: str
    keys: tuple[frozenset[str], ...]

    def has(self, *keys: str, depth: int = 1) -> bool:
        """Whether the objects at a depth, 1 the outermost, have all of these keys."""
        return set(keys) <= self._at(depth)

    def has_any(self, *keys: str, depth: int = 1) -> bool:
        """Whether the objects at a depth have any of these keys."""
        return not self._at(depth).isdisjoint(keys)

    def _at(self, depth: int) -> frozenset[str]:
        return self.keys[depth - 1] if depth <= len(self.keys) else _NO_KEYS


def outline(path: Path, size: int = 1 << 16) -> Outline:
    """The keys in the first `size` bytes of a file; none for what is no JSON. Lists do not count as a depth."""
    if not path.is_file():
        return Outline("", ())
    text = head(path, size).lstrip()
    if text[:1] not in {"{", "["}:
        return Outline("", ())
    keys: list[set[str]] = [set() for _ in range(_MAX_DEPTH)]
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
        elif token[2] and 1 <= depth <= _MAX_DEPTH:
            keys[depth - 1].add(token[1])
    return Outline(text[0], tuple(map(frozenset, keys)))


def load(path: Path) -> Any:
    """The content of a JSON file. Raises DataError: ``bad-json``, ``unreadable-file``, ``not-utf8``."""
    return parse(read_text(path), str(path))


def parse(text: str, where: str) -> Any:
    """Parse JSON that stands at `where`. Raises DataError: ``bad-json``."""
    try:
        return parse_json(text, allow_nan=True)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}, line {error.lineno}, column {error.colno}: broken JSON: {error.msg}", code="bad-json"
        ) from None
    except ValueError as error:
        raise DataError(f"{where}: broken JSON: {error}", code="bad-json") from None


def objects(
    value: object, where: str, what: str, problems: list[Problem], row: int = 0, image: str = ""
) -> list[tuple[int, Mapping[str, Any]]]:
    """The objects in a list, or in the values of an object, each with its position, from 1.

    What is no object, and a value that is no list, is added to `problems`: left out without a word, it would shift the
    numbers of the others, or make its image one without the object.

    where: the place of the list. what: one entry's word, such as ``task``. row, image: as in `Problem`; a row of 0 is
    the position.
    """
    if not isinstance(value, list | dict):
        message = f"there is no list of its {what}s" + (f", but {_shown(value)}" if value is not None else "")
        advice = f"write the list, empty where the image has no {what}, or remove the entry"
        problems.append(Problem("bad-json", where, row, image, message, advice))
        return []
    entries: Iterable[object] = value.values() if isinstance(value, dict) else value
    found: list[tuple[int, Mapping[str, Any]]] = []
    for at, entry in enumerate(entries, start=1):
        if isinstance(entry, dict):
            found.append((at, entry))
            continue
        message = f"is no object in braces: {_shown(entry)}"
        place = f"{where}, {what} {at}"
        problems.append(
            Problem("bad-json", place, row or at, image, message, "correct the entry, or remove it")
        )
    return found


def _shown(value: object) -> str:
    return json.dumps(value, default=str)[:40]


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """A text or a number as text; the empty text for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()


def name_of(value: object) -> str:
    """The name of an image, or the empty text."""
    return image_name(value) if isinstance(value, str) else ""


def size_of(width: object, height: object) -> tuple[float, float] | None:
    """A recorded size of two positive numbers, or None."""
    size = number(width), number(height)
    return size if size[0] > 0 and size[1] > 0 else None


def bounds(xs: Sequence[object], ys: Sequence[object]) -> tuple[float, float, float, float]:
    """The corners of the box around points; NaN where a number of them is none, or there are none."""
    x, y = [number(value) for value in xs], [number(value) for value in ys]
    if not x or len(x) != len(y) or any(value != value for value in (*x, *y)):
        return (float("nan"),) * 4
    return min(x), min(y), max(x), max(y)


def nameless(where: str, row: int) -> Problem:
    """The fault of an entry that names no image."""
    return Problem(
        "empty-image-name", where, row, "", "the entry names no image", "name its image, or remove the entry"
    )
