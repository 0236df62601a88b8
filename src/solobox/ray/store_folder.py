"""A folder in any store that fsspec supports. Files are written atomically."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from solobox.errors import DataError, reason
from solobox.predict.stores import Store, is_local, locate, reading
from solobox.utils.atomic import replacing_bytes


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """A folder in a store.

    url: its address for other machines; local paths are absolute.
    """

    store: Store
    path: str
    url: str

    @classmethod
    def at(cls, url: str | os.PathLike[str]) -> "StoreFolder":
        """The folder at a URL or local path, which need not exist. Raises errors as `locate`."""
        store, path = locate(str(url))
        path = path.rstrip("/") or path
        return cls(store, path, path if is_local(store) else str(store.unstrip_protocol(path)))

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def names(self, folder: str = "") -> set[str]:
        """Names of the files and folders in it; empty if it does not exist."""
        path = self._file(folder) if folder else self.path
        with reading(self.url):
            try:
                paths = self.store.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return set()
        return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in paths} - {""}

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with reading(f"{self.url}/{name}"):
            return bool(self.store.exists(self._file(name)))

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises DataError."""
        with reading(f"{self.url}/{name}"):
            return bytes(self.store.cat_file(self._file(name)))

    def opened(self, name: str) -> BinaryIO:
        """A file, open for reading at any position. Raises DataError."""
        with reading(f"{self.url}/{name}"):
            return cast("BinaryIO", self.store.open(self._file(name), "rb"))

    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; an older one is replaced. Raises DataError."""
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
        """Remove the unfinished files of killed processes."""
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
            raise DataError(
                f"{self.url}/{name}: cannot be written: {reason(error)}", code="file-unwritable"
            ) from error
