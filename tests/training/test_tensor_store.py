import errno
import os
from pathlib import Path

import pytest
import torch

from solobox.errors import ConfigError
from solobox.training.tensor_store import TensorStore

SHAPES = [(3, 3, 4), (2, 2, 8)]


@pytest.mark.parametrize(("budget", "where"), [(1e9, "in memory"), (1000, "on disk")])
def test_rows_are_read_as_they_were_written(tmp_path: Path, budget: float, where: str) -> None:
    store = TensorStore(50, SHAPES, torch.bfloat16, budget=budget, folder=tmp_path)
    assert where in store.description
    tensors = [torch.randn(50, *shape).bfloat16() for shape in SHAPES]
    for start in range(0, 50, 8):
        store.put(start, [tensor[start : start + 8] for tensor in tensors])
    rows = torch.tensor([49, 0, 7, 7, 31])
    for found, expected in zip(store.get(rows), tensors, strict=True):
        assert torch.equal(found, expected[rows])
    assert store.nbytes == 50 * (36 + 32) * 2


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    store = TensorStore(50, SHAPES, torch.uint8, budget=0, folder=tmp_path)
    store.put(0, [torch.ones(50, *shape, dtype=torch.uint8) for shape in SHAPES])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed as Linux does")
def test_a_file_that_cannot_be_unlinked_while_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    unlink = Path.unlink

    def of_windows(path: Path, *, missing_ok: bool = False) -> None:
        if any(each.exists() and path.samefile(each) for each in Path("/proc/self/fd").iterdir()):
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", of_windows)
    store = TensorStore(5, [(2,)], torch.uint8, budget=0, folder=tmp_path)
    rows = torch.arange(10, dtype=torch.uint8).view(5, 2)
    store.put(0, [rows])
    assert torch.equal(store.get(torch.arange(5))[0], rows)
    assert len(list(tmp_path.iterdir())) == 1
    del store
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        TensorStore(10**12, SHAPES, torch.bfloat16, budget=1e9, folder=tmp_path)
    assert error.value.code == "disk-full"


def test_a_disk_that_fills_up_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError) as error:
        TensorStore(50, SHAPES, torch.bfloat16, budget=0, folder=tmp_path)
    assert error.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
def test_rows_on_disk_take_no_memory(tmp_path: Path) -> None:
    megabyte = (1, 1024, 1024)
    row = torch.ones(1, *megabyte, dtype=torch.uint8)
    store = TensorStore(300, [megabyte], torch.uint8, budget=1e6, folder=tmp_path)
    before = _resident()
    for index in range(300):
        store.put(index, [row])
    for index in range(300):
        assert store.get(torch.tensor([index]))[0][0, 0, -1, -1] == 1
    assert _resident() - before < 100e6


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
