"""Lists of images: lines of text, a column of a CSV, and labels in any format that `solobox.data.formats` reads."""

import codecs
import contextlib
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, TextIO

from solobox.data import formats
from solobox.errors import DataError
from solobox.images.reading import is_any_image_name
from solobox.predict.stores import is_url, locate, reading
from solobox.utils.text import printable, unescape_cell, unescape_name

SUFFIXES: Final = (".csv", ".txt", ".json", ".jsonl", ".tsv", ".xml", ".yaml", ".yml")
"""Endings of files that list images, in lower case."""

_COLUMNS = ("image", "url", "path", "uri")
_BOXES = frozenset(("x1", "xmin", "x_min", "x", "left", "cx", "bbox", "box", "bbox_x1", "bbox_x"))
"""Columns, one of which a CSV with boxes has: it may have several rows for an image."""
_LOOKED_AT = 100
"""Lines of a text of which one at least has to look like an image."""

_PATH = re.compile(r"\S*[/\\]\S*")
"""A path with a folder, or a URL; prose and tables of numbers have spaces."""


def is_list(item: str) -> bool:
    """Whether an input is a list of images, by its name; a folder is none."""
    path = item.removeprefix("file://")
    return path.lower().endswith(SUFFIXES) and (is_url(path) or not Path(path).is_dir())


def in_list(item: str) -> Iterator[str]:
    """The images of a list, in its order; relative names are relative to its folder.

    Of a ``.txt`` each line, without blank lines and those that begin with ``#``; of a ``.csv`` with a column ``image``
    (or ``url``, ``path``, ``uri``) and no boxes each row; of labels each image once. URLs are texts and CSVs only.

    Raises DataError ``list-damaged`` for what is no list, and ``file-unreadable``.
    """
    ending = item.lower().rpartition(".")[2]
    if ending == "txt":
        with reading(item), _open_text(item) as text:
            lines = (line.strip() for line in text)
            names = (line for line in lines if line and not line.startswith("#"))
            yield from (_located(item, name) for name in (names if is_url(item) else _checked(item, names)))
        return
    if ending != "csv":
        yield from _in_labels(item)
        return
    with reading(item), _open_text(item) as text:
        rows = csv.DictReader(text)
        fields = {unescape_cell(field.strip().lower()): field for field in rows.fieldnames or ()}
        column = next((fields[name] for name in _COLUMNS if name in fields), None)
        has_boxes = not _BOXES.isdisjoint(fields)
        if column is not None and (is_url(item) or not has_boxes):
            listed = _column(item, rows, column)
            yield from dict.fromkeys(listed) if has_boxes else listed
            return
    try:
        yield from _in_labels(item)
    except DataError as error:
        if column is not None:
            raise
        raise DataError(
            f"{item}: no column ({', '.join(fields) or 'none'}) is called {' or '.join(_COLUMNS)}, and it holds no "
            "labels. Rename the column of the images, or use a .txt with an image on each line.",
            code="list-damaged",
        ) from error


def _column(item: str, rows: "csv.DictReader[str]", column: str) -> Iterator[str]:
    for number, row in enumerate(rows, start=1):
        name = (row[column] or "").strip()
        name = unescape_cell(name) if is_url(item) else unescape_name(name, Path(_folder_of(item)))
        if not name:
            raise DataError(f"{item}: row {number} names no image", code="list-damaged")
        yield _located(item, name)


def _in_labels(item: str) -> Iterator[str]:
    """The images of labels, once each."""
    if is_url(item):
        raise DataError(
            f"{item}: at a URL a list is a .txt or a .csv. Download it, or list its images in such a file.",
            code="list-damaged",
        )
    if not Path(item).exists():
        raise DataError(f"{item}: there is no such file. Check the path.", code="file-unreadable")
    try:
        records = formats.read(Path(item)).records
    except DataError as error:
        raise DataError(f"{printable(item)} is no list of images. {error}", code="list-damaged") from error
    yield from dict.fromkeys(record.image if is_url(record.image) else str(record.path) for record in records)


def _checked(item: str, names: Iterable[str]) -> Iterator[str]:
    """The names of a local text, of whose first ones one at least looks like an image, or exists."""
    names = iter(names)
    first = list(islice(names, _LOOKED_AT))
    if first and not any(
        is_any_image_name(name) or _PATH.fullmatch(name) or os.path.lexists(_located(item, name))
        for name in first
    ):
        raise DataError(
            f"{printable(item)} is no list of images: none of its first lines names one ({first[0][:60]!r}). Write "
            "the path of an image on each line.",
            code="list-damaged",
        )
    return chain(first, names)


def _located(item: str, name: str) -> str:
    """A name in a list as a path or a URL."""
    base = _folder_of(item)
    if is_url(name) or os.path.isabs(name) or not base:  # noqa: PTH117 (C:\\ on Windows alone)
        return name
    _, chained, outer = item.partition("::") if is_url(item) else ("", "", "")
    return f"{base}/{name}{chained}{outer}"


def _folder_of(item: str) -> str:
    return item.partition("::")[0].rpartition("/")[0] if is_url(item) else os.path.dirname(item)  # noqa: PTH120


@contextlib.contextmanager
def _open_text(item: str) -> Iterator[TextIO]:
    if not is_url(item):
        with Path(item).open("rb") as raw:  # PowerShell's > writes UTF-16
            encoding = "utf-16" if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        with Path(item).open(encoding=encoding, newline="") as file:
            yield file
        return
    store, path = locate(item)
    with store.open(path, "rb") as raw:
        yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
