"""The images to predict: files, folders, glob patterns, lists, and URLs of any store.

URLs go through fsspec, of the extra ``ray``; everything local works without it.
"""

import contextlib
import csv
import glob
import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from solobox.errors import ConfigError, DataError, reason
from solobox.images.reading import MAX_BYTES, is_image_name
from solobox.utils.text import printable, unescape_cell, unescape_name

Store: TypeAlias = Any
"""An ``fsspec.AbstractFileSystem``; fsspec has no types."""

LISTS = (".csv", ".txt")
"""Endings of files that list images."""

_COLUMNS = ("image", "url", "path", "uri")
_TRIES = 3
_PAUSE = 0.5
"""Seconds before the second try to download an image; the third waits twice as long."""


def expand(inputs: Iterable[str | Path]) -> list[str]:
    """All of `iter_images` in a list."""
    return list(iter_images(inputs))


def iter_images(inputs: Iterable[str | Path]) -> Iterator[str]:
    """Names of images in the order of the inputs.

    A folder stands for the images in it and below, by name; a pattern with ``*``, ``?`` or ``[`` for the files that it
    matches, by name (``**`` for any depth), unless a file has that very name; a ``.txt`` for its lines and a ``.csv``
    for its column ``image`` (or ``url``, ``path``, ``uri``), both relative to their folder; anything else for itself,
    even if it does not exist: its row then has the error. All of these may be URLs.

    A list is read line by line; of a folder the names of one folder at a time are in memory, of a pattern all.
    Raises DataError: ``no-images`` for a folder, pattern or list without images, ``list-damaged``, and
    ``file-unreadable``; ConfigError ``missing-package`` for a URL without fsspec or the store's package.
    """
    for item in (str(each).removeprefix("file://") for each in inputs):
        count = 0
        for name in _images_of(item):
            count += 1
            yield name
        if not count:
            is_pattern = glob.has_magic(item) and not is_list(item)
            raise DataError(f"{'nothing matches' if is_pattern else 'no images in'} {item}", code="no-images")


def check_named(inputs: Iterable[str]) -> None:
    """Raise DataError ``not-found`` for a path that does not exist. Patterns and URLs are not looked at."""
    for item in inputs:
        path = item.removeprefix("file://")
        if not (is_url(path) or glob.has_magic(path) or os.path.lexists(path)):
            raise DataError(f"{printable(item)}: there is no such file or folder", code="not-found")


NOT_UTF8 = "the name is not UTF-8, so no file of rows can hold it: rename the image"


def is_list(item: str) -> bool:
    """Whether an input is a list of images, by its name."""
    return item.lower().endswith(LISTS)


def is_url(item: str) -> bool:
    """Whether an input lies in a store, such as ``s3://bucket/image.jpg``. Local names may hold any character."""
    return "://" in item


def _images_of(item: str) -> Iterator[str]:
    if is_list(item):
        yield from _in_list(item)
    elif item.startswith(("http://", "https://")):  # a web server has no folders, and ? is no pattern there
        yield item
    elif is_url(item):
        yield from _in_store(item)
    elif Path(item).is_dir():
        yield from _below(str(Path(item)), _list_folder)
    elif glob.has_magic(item) and not Path(item).exists():
        yield from sorted(path for path in glob.glob(item, recursive=True) if Path(path).is_file())  # noqa: PTH207
    else:
        yield item


Entry: TypeAlias = tuple[str, bool]
"""A name in a folder, and whether it is a folder."""


def _below(folder: str, entries: Callable[[str], Iterable[Entry]]) -> Iterator[str]:
    """Images in a folder and below in the order of their whole paths."""
    for name, is_folder in sorted(
        entries(folder), key=lambda entry: f"{entry[0]}/" if entry[1] else entry[0]
    ):
        path = name if folder == "." else f"{folder.rstrip('/')}/{name}"
        if is_folder:
            yield from _below(path, entries)
        elif is_image_name(name):
            yield path


def _list_folder(folder: str) -> Iterator[Entry]:
    with reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            if (is_folder := entry.is_dir(follow_symlinks=False)) or entry.is_file():
                yield entry.name, is_folder


def _in_store(item: str) -> Iterator[str]:
    store, path = locate(item)
    if is_local(store):
        yield from _images_of(path)
        return
    _, chained, outer = item.partition("::")  # as in zip://*.jpg::s3://bucket/all.zip

    def url(path: str) -> str:
        return f"{store.unstrip_protocol(path)}{chained}{outer}"

    def entries(folder: str) -> Iterator[Entry]:
        with reading(item):
            listing = store.ls(folder, detail=True)
        for entry in listing:
            name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            if name and str(entry["name"]).rstrip("/") != folder.rstrip("/"):
                yield name, entry["type"] == "directory"

    with reading(item):
        exists = store.exists(path)
        is_folder = exists and store.isdir(path)
    if is_folder:
        yield from map(url, _below(path, entries))
    elif not exists and glob.has_magic(path):
        with reading(item):
            matches = sorted(
                (str(name), info["type"]) for name, info in store.glob(path, detail=True).items()
            )
        yield from (url(name) for name, kind in matches if kind != "directory")
    else:
        yield url(path)


def _in_list(item: str) -> Iterator[str]:
    path, chained, outer = item.partition("::") if is_url(item) else (item, "", "")
    base = path.rpartition("/")[0] if is_url(item) else os.path.dirname(item)  # noqa: PTH120
    is_csv = item.lower().endswith(".csv")
    with reading(item), _open_text(item) as text:
        names = _column(item, text) if is_csv else (line.strip() for line in text)
        for number, name in enumerate(names, start=1):
            if is_csv:
                name = unescape_cell(name) if is_url(item) else unescape_name(name, Path(base))
            if name:
                is_whole = is_url(name) or os.path.isabs(name) or not base  # noqa: PTH117 (C:\\ on Windows alone)
                yield name if is_whole else f"{base}/{name}{chained}{outer}"
            elif is_csv:
                raise DataError(f"{item}: row {number} names no image", code="list-damaged")


@contextlib.contextmanager
def _open_text(item: str) -> Iterator[TextIO]:
    if not is_url(item):
        with Path(item).open(encoding="utf-8-sig", newline="") as file:
            yield file
        return
    store, path = locate(item)
    with store.open(path, "rb") as raw:
        yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


def _column(item: str, text: TextIO) -> Iterator[str]:
    rows = csv.DictReader(text)
    fields = {unescape_cell(field.strip().lower()): field for field in rows.fieldnames or ()}
    column = next((fields[name] for name in _COLUMNS if name in fields), None)
    if column is None:
        raise DataError(
            f"{item}: no column ({', '.join(fields) or 'none'}) is called {' or '.join(_COLUMNS)}. "
            "Rename the column of the images, or use a .txt with an image on each line.",
            code="list-damaged",
        )
    for row in rows:
        yield (row[column] or "").strip()


# Clips and cameras ----------------------------------------------------------------------------------

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"))
"""Endings of clips' names, in lower case, with the dot."""


def is_video(text: str) -> bool:
    """Whether an input is a clip by its name's ending (in any case), or the number of a camera."""
    return is_camera(text) or Path(text).suffix.lower() in VIDEO_SUFFIXES


def is_camera(text: str) -> bool:
    """Whether an input is the number of a camera: digits alone."""
    return re.fullmatch(r"[0-9]{1,3}", text) is not None


def clip_of(inputs: Iterable[str]) -> str | None:
    """The clip or camera among the inputs of a command, None where all are images.

    A number that is the name of an existing file or folder is not a camera. Raises ConfigError
    ``options-conflict`` for a clip or camera together with other inputs.
    """
    inputs = list(inputs)
    clips = [text for text in inputs if is_video(text) and not (is_camera(text) and Path(text).exists())]
    if clips and len(inputs) > 1:
        raise ConfigError(
            f"{clips[0]} is a clip or a camera: give one alone, without images or other clips",
            code="options-conflict",
        )
    return clips[0] if clips else None


# Stores ---------------------------------------------------------------------------------------------


def locate(url: str) -> tuple[Store, str]:
    """The store of a URL or local path, and the path in it.

    Raises ConfigError ``missing-package`` where fsspec or the store's package is not installed; DataError
    ``unknown-store``.
    """
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem, make_path_posix
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{url}: URLs need fsspec: install Solobox with its [ray] extra", code="missing-package"
        ) from error
    if not is_url(url):  # fsspec would split a local path with :: in it
        return LocalFileSystem(), str(make_path_posix(url))
    try:
        # Without a cache of listings: a file that another machine has just written has to be visible.
        store, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise ConfigError(f"{url}: {error}", code="missing-package") from error
    except ValueError as error:
        raise DataError(f"{url}: {error}", code="unknown-store") from error
    return store, str(path)


def is_local(store: Store) -> bool:
    """Whether a store is this machine's file system."""
    return "file" in ((store.protocol,) if isinstance(store.protocol, str) else store.protocol)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn any exception of a store or a disk into a DataError ``file-unreadable`` that names the file."""
    try:
        yield
    except (DataError, ConfigError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file. Check the path.", code="file-unreadable") from error
    except Exception as error:
        raise DataError(f"{name}: cannot be read: {reason(error)}", code="file-unreadable") from error


@dataclass(frozen=True, slots=True)
class Unread:
    """Why an image could not be downloaded. unreachable: it may exist, and the network is at fault."""

    error: str
    unreachable: bool = False


def fetch(name: str) -> str | bytes | Unread:
    """The path of a local image, or the bytes of one in a store; `Unread` where there are none.

    Raises ConfigError if a package is missing.
    """
    if not is_url(name):
        return name
    try:
        store, path = locate(name)
    except DataError as error:
        return Unread(str(error))
    if is_local(store):
        return path
    for pause in (*(_PAUSE * 2**n for n in range(_TRIES - 1)), None):
        try:
            # One byte more than an image may have: a larger one is refused by its length.
            return bytes(store.cat_file(path, start=0, end=MAX_BYTES + 1))
        except FileNotFoundError:
            return Unread(f"{name}: there is no such file. Check the path.")
        except IsADirectoryError:
            return Unread(f"{name}: this is a folder, not an image. Give the images in it.")
        except Exception as error:  # noqa: BLE001 (each store has different exceptions)
            why = reason(error)
        if pause is not None:
            time.sleep(pause)
    return Unread(f"{name}: cannot be read ({why}). Check the path and permissions.", unreachable=True)
