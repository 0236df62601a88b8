"""Text in files: CSV lines, what spreadsheets would run, and names of files that are not UTF-8; counts in messages."""

import csv
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
"""Text that a spreadsheet takes for a formula, and such text with apostrophes before it."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def escape_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula; numbers stay. See `unescape_cell`."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_cell(text: str) -> str:
    """What `escape_cell` was given. Text from elsewhere loses an apostrophe only before what looks like a formula."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def unescape_name(name: str, folder: Path) -> str:
    """An image's name in a CSV without the apostrophe of `escape_cell`.

    A CSV that nothing escaped may name a file that begins so: the name stays where that file alone exists in `folder`.
    """
    plain = unescape_cell(name)
    if plain != name and (folder / name).exists() and not (folder / plain).exists():
        return name
    return plain


class CsvLines:
    """Writes a CSV: lines end with a line feed; text with a line feed or a carriage return is quoted.

    raw: write text as it is; otherwise text that a spreadsheet would run as a formula is escaped, see `escape_cell`.
    """

    def __init__(self, file: TextIO, *, raw: bool = False) -> None:
        self._file, self._raw = file, raw
        # Python's writer quotes only the characters of its line terminator, and file names may hold both.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """Called by Python's CSV writer."""
        self._file.write(f"{line[:-2]}\n")

    def put(self, cells: Iterable[object]) -> None:
        """Write a line."""
        self._writer.writerow(
            escape_cell(cell) if isinstance(cell, str) and not self._raw else cell for cell in cells
        )


def printable(name: str) -> str:
    """A name with an escape for each byte that is not UTF-8; other names unchanged."""
    return name if is_utf8(name) else os.fsencode(name).decode(errors="backslashreplace")


def is_utf8(name: str) -> bool:
    """Whether a name, as Python decodes it from a folder, can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def count_of(number: int, noun: str) -> str:
    """Such as ``1 image`` and ``2,000 images``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
