"""Which images are meant: folders, patterns and lists of URLs in any store, one name after the other."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from solobox.errors import DataError
from solobox.images.reading import is_image_name
from solobox.ray.stores import Store, is_local, located, reading

LISTS = (".csv", ".txt")
"""Endings of lists of images."""

_COLUMNS = ("image", "url", "path", "uri")


def listed(inputs: Iterable[str]) -> Iterator[str]:
    """Names of images in the order of the inputs: URLs, and absolute paths of local ones.

    A folder or prefix stands for the images in it and below; a pattern with ``*``, ``?`` or ``[`` for what it
    matches; a ``.txt`` for its lines, a ``.csv`` for its column ``image`` (or ``url``, ``path``, ``uri``), both
    relative to where they lie; anything else for itself, whether it exists or not: it will have its row.

    A list is read line by line. Of a folder the names of one folder at a time are in memory, of a pattern all.
    Raises DataError for a folder, pattern or list that holds no image, and for what cannot be listed.
    """
    for item in inputs:
        count = 0
        for name in _of_one(item):
            count += 1
            yield name
        if not count:
            raise DataError(f"no images in {item}")


def is_list(item: str) -> bool:
    """Whether an input is a list of images, by its name."""
    return item.lower().endswith(LISTS)


def _of_one(item: str) -> Iterator[str]:
    store, path = located(item)
    if is_list(item):
        yield from _in_list(item, store, path)
        return
    if item.startswith(("http://", "https://")):  # a web server has no folders, and ? is no pattern there
        yield item
        return
    with reading(item):
        exists = store.exists(path)
        is_folder = exists and store.isdir(path)
    if is_folder:
        yield from _below(item, store, path)
    elif not exists and any(letter in path for letter in "*?["):
        with reading(item):
            matched = sorted(str(found) for found in store.glob(path))
        yield from (_full(item, store, found) for found in matched if is_image_name(found))
    else:
        yield _full(item, store, path)


def _below(item: str, store: Store, path: str) -> Iterator[str]:
    with reading(item):
        if is_local(store):  # fsspec would keep a record of each file, where only names are needed
            walk = ((folder, folders, files) for folder, folders, files in os.walk(path))
        else:
            walk = ((folder, list(folders), list(files)) for folder, folders, files in store.walk(path))
        for folder, folders, files in walk:
            folders.sort()
            for name in sorted(files):
                if is_image_name(name):
                    yield _full(item, store, f"{folder.rstrip('/')}/{name}")


def _full(item: str, store: Store, path: str) -> str:
    """A path in the store of an input, as it can be opened from anywhere."""
    if is_local(store):
        return path
    _, chained, outer = item.partition("::")  # as in zip://*.jpg::s3://bucket/reading.zip
    return f"{store.unstrip_protocol(path)}{chained}{outer}"


def _in_list(item: str, store: Store, path: str) -> Iterator[str]:
    base = str(PurePosixPath(path).parent)
    with reading(item), store.open(path, "rb") as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        names = _column(item, text) if item.lower().endswith(".csv") else (line.strip() for line in text)
        for number, name in enumerate(names, start=1):
            if name:
                yield name if _is_full(name) else _full(item, store, f"{base}/{name}")
            elif item.lower().endswith(".csv"):
                raise DataError(f"{item}: row {number} names no image")


def _is_full(name: str) -> bool:
    return "://" in name or name.startswith("/") or os.path.isabs(name)  # noqa: PTH117 (C:\\ on Windows alone)


def _column(item: str, text: io.TextIOWrapper) -> Iterator[str]:
    rows = csv.DictReader(text)
    fields = {field.strip().lower(): field for field in rows.fieldnames or ()}
    found = next((fields[name] for name in _COLUMNS if name in fields), None)
    if found is None:
        raise DataError(
            f"{item}: none of its columns ({', '.join(fields) or 'none'}) is called {' or '.join(_COLUMNS)}. "
            "Name the column of the images so, or give a .txt with an image on each line."
        )
    for row in rows:
        yield (row[found] or "").strip()
