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


class Store:
    """A table of `rows`, each one tensor of every shape in `shapes`. Any thread may read.

    dtype: of all tensors.
    budget: bytes that may be kept in memory; a larger table goes to a file below `folder`. The file has no name
        once it is open, so that it is gone with the process, however that ends.

    The file is read and written by position. A mapping looks simpler, but counts as the process's memory by
    whole pieces of the page cache, up to 2 MB for each row that is touched, until it is all there (bench/LOG.md).

    `place` says which and how large. Raises ConfigError when the file does not fit on the disk.
    """

    def __init__(
        self, rows: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, *, budget: float, folder: Path
    ) -> None:
        self._shapes, self._dtype = [tuple(shape) for shape in shapes], dtype
        self._sizes = [prod(shape) * dtype.itemsize for shape in shapes]
        self.nbytes = rows * sum(self._sizes)
        self._tensors: list[Tensor] = []
        self._file: BinaryIO | None = None
        if self.nbytes <= budget:
            self._tensors = [torch.empty(rows, *shape, dtype=dtype) for shape in shapes]
        else:
            self._file = _file(self.nbytes, folder)
            weakref.finalize(self, self._file.close)
        self._turn = threading.Lock()
        self.place = f"{self.nbytes / 1e9:.2f} GB {'in memory' if self._file is None else 'on disk'}"

    def put(self, start: int, tensors: Sequence[Tensor]) -> None:
        """Fill rows from `start` on: one tensor (n, *shape) for each shape.

        Raises ConfigError where the disk is full after all.
        """
        # By NumPy and as bytes: PyTorch would wake its threads, which fight with those that run the trunk.
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
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigError(
            f"the kept features take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: use fewer "
            "windows, a smaller size, or a run folder on a larger disk"
        )
    stream = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (it lives as long as the store)
    try:
        if hasattr(os, "posix_fallocate"):  # a sparse file would find the disk full in the midst of training
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)
    except OSError as error:
        stream.close()
        raise ConfigError(
            f"the kept features take {size / 1e9:.1f} GB, and {folder} has no room for them: {error}"
        ) from error
    return stream
