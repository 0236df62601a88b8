"""Rows of tensors: in memory while they fit a budget, else in a temporary file."""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from solobox.errors import ConfigError
from solobox.training.distributed import Distributed

_SHARED = Path("/dev/shm")  # noqa: S108 (shared memory, on Linux)


class TensorStore:
    """A table of `rows`, each one tensor of every shape in `shapes`. Any thread may read.

    dtype: of all tensors.
    budget: bytes that may be kept in memory; a larger table goes to a file in `folder`. The file is unlinked once it is
        open, so it disappears with the process. Windows unlinks no open file: there it is removed when it is closed.
    group: all processes of a host create the table together and share it. It is then always a file, in shared memory
        within the budget. Each process may write different rows; a row may be read after the processes have
        synchronized.

    The file is read and written by position. A memory map looks simpler, but the process is charged for up to 2 MB of
    page cache for each row that it touches, until that is the whole file (bench/LOG.md).

    `description` says where the rows are and how large they are. Raises ConfigError ``disk-full``.
    """

    def __init__(
        self,
        rows: int,
        shapes: Sequence[tuple[int, ...]],
        dtype: torch.dtype,
        *,
        budget: float,
        folder: Path,
        group: Distributed | None = None,
    ) -> None:
        self._shapes, self._dtype = [tuple(shape) for shape in shapes], dtype
        self._sizes = [prod(shape) * dtype.itemsize for shape in shapes]
        self.nbytes = rows * sum(self._sizes)
        self._tensors: list[Tensor] = []
        self._file: BinaryIO | None = None
        group = group or Distributed()
        in_memory = self.nbytes <= budget
        if group.local_size > 1:
            in_memory = in_memory and group.on_local_rank_zero(lambda: _has_room(_SHARED, self.nbytes))
        if in_memory and group.local_size == 1:
            self._tensors = [torch.empty(rows, *shape, dtype=dtype) for shape in shapes]
        else:
            self._file = _unlinked_file(self.nbytes, _SHARED if in_memory else folder, group)
        if self._file is not None:
            weakref.finalize(self, _close, self._file)
        self._lock = threading.Lock()
        self.description = f"{self.nbytes / 1e9:.2f} GB {'in memory' if in_memory else 'on disk'}"

    def put(self, start: int, tensors: Sequence[Tensor]) -> None:
        """Fill rows from `start` on: one tensor (n, *shape) for each shape.

        Raises ConfigError ``disk-full``.
        """
        # Copied by NumPy: PyTorch's threads would compete with those that run the backbone.
        rows_of_bytes = [_bytes(tensor.cpu()) for tensor in tensors]
        if self._file is None:
            for tensor, data in zip(self._tensors, rows_of_bytes, strict=True):
                tensor[start : start + len(data)].view(torch.uint8).numpy().reshape(data.shape)[...] = data
            return
        try:
            with self._lock:
                self._file.seek(start * sum(self._sizes))
                _write_all(self._file, np.concatenate(rows_of_bytes, axis=1).data.cast("B"))
        except OSError as error:
            raise ConfigError(
                f"the file of {self.nbytes / 1e9:.1f} GB cannot be written: {error}", code="disk-full"
            ) from error

    def get(self, rows: Tensor) -> list[Tensor]:
        """A copy of some rows: for each shape (len(rows), *shape)."""
        if self._file is None:
            # A copy row by row, in a tenth of the time of `tensor[rows]`.
            return [tensor.index_select(0, rows) for tensor in self._tensors]
        length = sum(self._sizes)
        arrays = [np.empty((len(rows), size), np.uint8) for size in self._sizes]
        record = np.empty(length, np.uint8)
        bounds = np.cumsum(self._sizes)[:-1]
        for index, row in enumerate(rows.tolist()):
            with self._lock:
                self._file.seek(row * length)
                _read_into(self._file, record.data)
            for array, values in zip(arrays, np.split(record, bounds), strict=True):
                array[index] = values
        tensors = [torch.from_numpy(array).view(self._dtype) for array in arrays]
        return [tensor.view(len(rows), *shape) for tensor, shape in zip(tensors, self._shapes, strict=True)]


def _bytes(tensor: Tensor) -> np.ndarray:
    """(n, bytes of a row)."""
    return tensor.contiguous().view(torch.uint8).numpy().reshape(len(tensor), -1)


def _read_into(file: BinaryIO, buffer: memoryview) -> None:
    """Fill `buffer`, in several reads if needed."""
    while len(buffer):
        count = file.readinto(buffer)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the cache file ends too soon")
        buffer = buffer[count:]


def _write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all of `data`: a single write stops at 2 GB."""
    while len(data):
        data = data[file.write(data) :]


def _unlinked_file(size: int, folder: Path, group: Distributed) -> BinaryIO:
    """A file of that size, open and unbuffered in all processes of this host, and then unlinked."""

    def create() -> str:
        folder.mkdir(parents=True, exist_ok=True)
        _check_free_space(size, folder)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".solobox-")
        os.close(handle)
        return name

    path = Path(group.on_local_rank_zero(create))
    try:
        with group.raise_together():
            stream = path.open("r+b", buffering=0)
    finally:
        group.on_local_rank_zero(lambda: _unlink(path))
    try:
        group.on_local_rank_zero(lambda: _reserve(stream, size, folder))
    except ConfigError:
        _close(stream)
        raise
    return stream


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        path.unlink()


def _close(stream: BinaryIO) -> None:
    """Close the file; of the processes that share one that could not be unlinked, the last one removes it."""
    stream.close()
    _unlink(Path(stream.name))


def _has_room(folder: Path, size: int) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size


def _check_free_space(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigError(
            f"the cache takes {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: use fewer "
            "crops, a smaller size, or a run folder on a larger disk",
            code="disk-full",
        )


def _reserve(stream: BinaryIO, size: int, folder: Path) -> None:
    """Allocate the file on the disk."""
    try:
        if hasattr(os, "posix_fallocate"):  # a sparse file may fill the disk later, in training
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)
    except OSError as error:
        raise ConfigError(
            f"the cache takes {size / 1e9:.1f} GB, and {folder} has no room for it: {error}",
            code="disk-full",
        ) from error
