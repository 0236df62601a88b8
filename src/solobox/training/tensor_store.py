"""Rows of tensors, kept in memory while they fit a budget and in a file when they do not."""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from solobox.errors import ConfigError
from solobox.training.distributed import Ranks

_SHARED = Path("/dev/shm")  # noqa: S108 (memory that looks like a folder, on Linux)


class Store:
    """A table of `rows`, each one tensor of every shape in `shapes`. Any thread may read.

    dtype: of all tensors.
    budget: bytes that may be kept in memory; a larger table goes to a file below `folder`. The file has no name
        once it is open, so that it is gone with the process, however that ends.
    ranks: all ranks of a host make the table together and share it. It is then always a file, in shared memory
        within the budget, and each rank may write rows of its own; a row may be read once all have met after that.

    The file is read and written by position. A mapping looks simpler, but counts as the process's memory by
    whole pieces of the page cache, up to 2 MB for each row that is touched, until it is all there (bench/LOG.md).

    `place` says which and how large. Raises ConfigError when the file does not fit on the disk.
    """

    def __init__(
        self,
        rows: int,
        shapes: Sequence[tuple[int, ...]],
        dtype: torch.dtype,
        *,
        budget: float,
        folder: Path,
        ranks: Ranks | None = None,
    ) -> None:
        self._shapes, self._dtype = [tuple(shape) for shape in shapes], dtype
        self._sizes = [prod(shape) * dtype.itemsize for shape in shapes]
        self.nbytes = rows * sum(self._sizes)
        self._tensors: list[Tensor] = []
        self._file: BinaryIO | None = None
        in_memory = self.nbytes <= budget
        if ranks is not None and ranks.local_size > 1:
            in_memory = in_memory and ranks.on_host(lambda: _has_room(_SHARED, self.nbytes))
            self._file = _shared_file(self.nbytes, _SHARED if in_memory else folder, ranks)
        elif in_memory:
            self._tensors = [torch.empty(rows, *shape, dtype=dtype) for shape in shapes]
        else:
            self._file = _file(self.nbytes, folder)
        if self._file is not None:
            weakref.finalize(self, self._file.close)
        self._turn = threading.Lock()
        self.place = f"{self.nbytes / 1e9:.2f} GB {'in memory' if in_memory else 'on disk'}"

    def put(self, start: int, tensors: Sequence[Tensor]) -> None:
        """Fill rows from `start` on: one tensor (n, *shape) for each shape.

        Raises ConfigError where the disk is full after all.
        """
        # By NumPy and as bytes: PyTorch would wake its threads, which fight with those that run the backbone.
        given = [_bytes(tensor.cpu()) for tensor in tensors]
        if self._file is None:
            for own, new in zip(self._tensors, given, strict=True):
                own[start : start + len(new)].view(torch.uint8).numpy().reshape(new.shape)[...] = new
            return
        try:
            with self._turn:
                self._file.seek(start * sum(self._sizes))
                _written(self._file, np.concatenate(given, axis=1).data.cast("B"))
        except OSError as error:
            raise ConfigError(f"the file of {self.nbytes / 1e9:.1f} GB cannot be written: {error}") from error

    def get(self, rows: Tensor) -> list[Tensor]:
        """A copy of some rows: for each shape (len(rows), *shape)."""
        if self._file is None:
            return [own[rows] for own in self._tensors]
        length = sum(self._sizes)
        found = [np.empty((len(rows), size), np.uint8) for size in self._sizes]
        record = np.empty(length, np.uint8)
        cuts = np.cumsum(self._sizes)[:-1]
        for place, row in enumerate(rows.tolist()):
            with self._turn:
                self._file.seek(row * length)
                _read(self._file, record.data)
            for own, part in zip(found, np.split(record, cuts), strict=True):
                own[place] = part
        tensors = [torch.from_numpy(own).view(self._dtype) for own in found]
        return [own.view(len(rows), *shape) for own, shape in zip(tensors, self._shapes, strict=True)]


def _bytes(tensor: Tensor) -> np.ndarray:
    """(n, bytes of a row)."""
    return tensor.contiguous().view(torch.uint8).numpy().reshape(len(tensor), -1)


def _read(file: BinaryIO, into: memoryview) -> None:
    """Fill `into`, by as many reads as it takes."""
    while len(into):
        count = file.readinto(into)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the file of kept rows ends too soon")
        into = into[count:]


def _written(file: BinaryIO, data: memoryview) -> None:
    """Write all of `data`, by as many writes as it takes: one alone ends at 2 GB."""
    while len(data):
        data = data[file.write(data) :]


def _file(size: int, folder: Path) -> BinaryIO:
    """An open, unbuffered file of that size without a name."""
    folder.mkdir(parents=True, exist_ok=True)
    _must_fit(size, folder)
    stream = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (it lives as long as the store)
    try:
        _reserve(stream, size, folder)
    except ConfigError:
        stream.close()
        raise
    return stream


def _shared_file(size: int, folder: Path, ranks: Ranks) -> BinaryIO:
    """A file of that size that all ranks of this host have open. It has a name only until they do."""

    def named() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        _must_fit(size, folder)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".solobox-")
        os.close(handle)
        return name

    path = Path(ranks.on_host(named))
    try:
        with ranks.agreeing():
            stream = path.open("r+b", buffering=0)
    finally:
        ranks.on_host(path.unlink)
    ranks.on_host(lambda: _reserve(stream, size, folder))
    return stream


def _has_room(folder: Path, size: int) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size


def _must_fit(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigError(
            f"the kept features take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: use fewer "
            "windows, a smaller size, or a run folder on a larger disk"
        )


def _reserve(stream: BinaryIO, size: int, folder: Path) -> None:
    """Give the file its size, and its room on the disk."""
    try:
        if hasattr(os, "posix_fallocate"):  # a sparse file would find the disk full in the midst of training
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)
    except OSError as error:
        raise ConfigError(
            f"the kept features take {size / 1e9:.1f} GB, and {folder} has no room for them: {error}"
        ) from error
