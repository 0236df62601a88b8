"""Rows of tensors, kept in memory while they fit a budget and in a memory-mapped file when they do not."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.errors import ConfigError


class Store:
    """A table of `rows`, each one tensor of every shape in `shapes`.

    dtype: of all tensors.
    budget: bytes that may be kept in memory; a larger table goes to a file below `folder`, and no more than
        the budget of it stays resident. The file has no name once it is open, so that it is gone with the
        process, however that ends.

    `place` says which and how large. Raises ConfigError when the file does not fit on the disk.
    """

    def __init__(
        self, rows: int, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, *, budget: float, folder: Path
    ) -> None:
        sizes = [prod(shape) for shape in shapes]
        self.nbytes = rows * sum(sizes) * dtype.itemsize
        self._budget, self._touched = budget, 0
        self._file: mmap.mmap | None = None
        total = rows * sum(sizes)
        if self.nbytes <= budget:
            flat = torch.empty(total, dtype=dtype)
        else:
            self._file = _file(self.nbytes, folder)
            flat = torch.frombuffer(self._file, dtype=dtype)
        parts = torch.split(flat, [rows * size for size in sizes])
        self._tensors = [part.view(rows, *shape) for part, shape in zip(parts, shapes, strict=True)]
        gigabytes = f"{self.nbytes / 1e9:.2f} GB"
        self.place = f"{gigabytes} in memory" if self._file is None else f"{gigabytes} on disk, memory-mapped"

    def put(self, start: int, tensors: Sequence[Tensor]) -> None:
        """Fill rows from `start` on: one tensor (n, *shape) for each shape."""
        for own, given in zip(self._tensors, tensors, strict=True):
            # By NumPy and as bytes: PyTorch would wake its threads, which fight with those that run the trunk.
            _bytes(own[start : start + len(given)])[...] = _bytes(given.cpu())
        self._touch(len(tensors[0]))

    def get(self, rows: Tensor) -> list[Tensor]:
        """A copy of some rows: for each shape (len(rows), *shape)."""
        found = [own[rows] for own in self._tensors]
        self._touch(len(rows))
        return found

    def _touch(self, rows: int) -> None:
        """Give pages back to the system before more than the budget of them is resident."""
        if self._file is None:
            return
        self._touched += rows * sum(t[0].nbytes for t in self._tensors)
        if self._touched > self._budget / 2:
            self._touched = 0
            self._file.flush()
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, whose pages are trimmed by the system
                self._file.madvise(mmap.MADV_DONTNEED)


def _bytes(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().view(torch.uint8).numpy()


def _file(size: int, folder: Path) -> mmap.mmap:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigError(
            f"the kept features take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free: use fewer "
            "windows, a smaller size, or a run folder on a larger disk"
        )
    with tempfile.TemporaryFile(dir=folder) as stream:
        try:
            if hasattr(
                os, "posix_fallocate"
            ):  # a sparse file would find the disk full in the midst of training
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.truncate(size)
        except OSError as error:
            raise ConfigError(
                f"the kept features take {size / 1e9:.1f} GB, and {folder} has no room for them: {error}"
            ) from error
        return mmap.mmap(stream.fileno(), size)
