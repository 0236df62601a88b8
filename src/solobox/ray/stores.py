"""Folders of any store that fsspec knows: reading, listing, and files that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem, make_path_posix

from solobox.errors import DataError, reason
from solobox.utils.atomic import replacing_bytes

Store: TypeAlias = Any
"""An ``fsspec.AbstractFileSystem``; fsspec has no types."""


def located(url: str) -> tuple[Store, str]:
    """The store of a URL or local path, and the path in it.

    Raises DataError for a store that fsspec does not know, or whose package is not installed.
    """
    if "://" not in url:  # whatever is in a path; fsspec would take one with :: in it for something else
        return LocalFileSystem(), str(make_path_posix(url))
    try:
        # Listings are not kept: a file that another machine wrote a moment ago has to be seen.
        store, path = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url}: {error}") from error
    return store, str(path)


def is_local(store: Store) -> bool:
    """Whether the store is this machine's file system."""
    return isinstance(store, LocalFileSystem)


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a store raises into a DataError that names `what`: each has exceptions of its own."""
    try:
        yield
    except (DataError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise DataError(f"{what}: there is no such file. Check the path.") from error
    except Exception as error:
        raise DataError(f"{what}: cannot be read: {reason(error)}") from error


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in a store.

    url: as workers on other machines are told; local paths are absolute in it.
    """

    store: Store
    path: str
    url: str

    @classmethod
    def at(cls, url: str | os.PathLike[str]) -> "Place":
        """The folder at a URL or local path, which need not exist. Raises DataError as `located`."""
        store, path = located(str(url))
        path = path.rstrip("/") or path
        return cls(store, path, path if is_local(store) else str(store.unstrip_protocol(path)))

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def names(self, folder: str = "") -> set[str]:
        """Names of the files and folders in it; empty where there is none."""
        path = self._file(folder) if folder else self.path
        with reading(self.url):
            try:
                found = self.store.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return set()
        return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in found} - {""}

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with reading(f"{self.url}/{name}"):
            return bool(self.store.exists(self._file(name)))

    def read(self, name: str) -> bytes:
        """All of a file. Raises DataError."""
        with reading(f"{self.url}/{name}"):
            return bytes(self.store.cat_file(self._file(name)))

    def opened(self, name: str) -> BinaryIO:
        """A file, open for reading here and there in it. Raises DataError."""
        with reading(f"{self.url}/{name}"):
            return cast("BinaryIO", self.store.open(self._file(name), "rb"))

    def put(self, name: str, data: bytes) -> None:
        """Write a file that is there whole or not at all; it takes the place of an older one. Raises DataError."""
        if is_local(self.store):
            with replacing_bytes(Path(self._file(name))) as file:
                file.write(data)
            return
        with self._writing(name):
            self.store.pipe_file(self._file(name), data)  # object stores show an upload when it is complete

    def put_file(self, name: str, source: Path) -> None:
        """As `put`, of a local file of any size."""
        if is_local(self.store):
            with source.open("rb") as file, replacing_bytes(Path(self._file(name))) as to:
                shutil.copyfileobj(file, to, 1 << 20)
            return
        with self._writing(name):
            self.store.put_file(str(source), self._file(name))

    def remove_unfinished(self) -> None:
        """Remove what killed processes left of files that they were writing."""
        if not is_local(self.store):
            return
        with contextlib.suppress(OSError):
            for path in Path(self.path).glob(".part-*.part"):
                path.unlink()

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            self.store.makedirs(self._file(name).rsplit("/", 1)[0], exist_ok=True)
            yield
        except Exception as error:
            raise DataError(f"{self.url}/{name}: cannot be written: {reason(error)}") from error
