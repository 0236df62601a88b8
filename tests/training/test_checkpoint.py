"""Checkpoints are whole or not there, are loaded bit for bit, and run no code."""

import ctypes
import errno
import io
import json
import os
import pickle
import random
import resource
import signal
import stat
import struct
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solobox.errors import ConfigError
from solobox.training.checkpoint import load, save

NAME = "last.pt"


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def identical(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit, types and order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (
            one.dtype == other.dtype and one.stride() == other.stride() and bytes_of(one) == bytes_of(other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(identical(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(identical(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other)


def test_a_state_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    state = {
        "module": dict(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()), "step": 3, "lr": 0.1,
        "inf": float("inf"), "none": None, "flags": [True, False], "pair": (1, "a/b"), 7: "\udc80.jpg",
        "images": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last), "bf16": torch.rand(3).bfloat16(),
        "prints": torch.tensor([2**62, -5]), "empty": torch.empty(0, 4),
    }  # fmt: skip
    save(tmp_path / "folder" / NAME, state)
    assert identical(load(tmp_path / "folder" / NAME), state)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_continues_to_the_bit(tmp_path: Path, kind: Any) -> None:
    def build() -> tuple[nn.Module, Any]:
        torch.manual_seed(3)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 1))
        return module, kind(module.parameters(), lr=0.01, weight_decay=0.1)

    def steps(parts: tuple[nn.Module, Any], numbers: range) -> None:
        module, optimizer = parts
        for number in numbers:
            torch.manual_seed(number)
            optimizer.zero_grad()
            module(torch.randn(2, 3, 5, 5)).square().sum().backward()
            optimizer.step()

    whole, first, second = build(), build(), build()
    steps(whole, range(8))
    steps(first, range(4))
    save(tmp_path / NAME, [part.state_dict() for part in first])
    for part, state in zip(second, load(tmp_path / NAME), strict=True):
        part.load_state_dict(state)
    steps(second, range(4, 8))
    for one, other in zip(whole, second, strict=True):
        assert identical(dict(one.state_dict()), dict(other.state_dict()))


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


def with_header(data: bytes) -> bytes:
    return b"solobox checkpoint 2 %08x\n" % zlib.crc32(data) + data


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_a_hostile_file_runs_no_code(tmp_path: Path, way: str) -> None:
    hostile, buffer = Hostile(tmp_path / "witness"), io.BytesIO()
    if way == "torch":
        torch.save({"w": torch.ones(2), "x": hostile}, buffer)
    else:
        pickle.dump(hostile, buffer, protocol=2)
    (tmp_path / NAME).write_bytes(with_header(buffer.getvalue()))
    with pytest.raises(ConfigError) as error:
        load(tmp_path / NAME)
    assert error.value.code == "checkpoint-damaged"
    assert not (tmp_path / "witness").exists()
    buffer.seek(0)
    if way == "torch":
        torch.load(buffer, weights_only=False)
    else:
        pickle.load(buffer)  # noqa: S301
    assert (tmp_path / "witness").exists()  # else this test would show nothing


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(tmp_path / NAME, {"path": Path("a")})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path / NAME)
    assert error.value.code == "checkpoint-missing"


def test_a_flipped_bit_in_any_byte_is_detected(tmp_path: Path) -> None:
    path = tmp_path / NAME
    save(path, {"w": torch.randn(3), "n": 3})
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1 << index % 8]) + data[index + 1 :])
        with pytest.raises(ConfigError) as error:
            load(path)
        assert error.value.code == "checkpoint-damaged", index


@pytest.mark.parametrize("end", [0, 4, 40, -1])
def test_a_file_cut_short_is_detected(tmp_path: Path, end: int) -> None:
    path = tmp_path / NAME
    save(path, {"w": torch.randn(30)})
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ConfigError) as error:
        load(path)
    assert error.value.code == "checkpoint-damaged"


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    for path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(ConfigError) as error:
            load(path)
        assert error.value.code == "checkpoint-damaged"


def test_others_may_read_it_where_the_umask_says_so(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / NAME, {"x": torch.ones(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o640


def test_leftovers_of_this_file_alone_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / f".{NAME}.0123abcd.part"
    others = [tmp_path / f".best.{NAME}.0123abcd.part", tmp_path / f".{NAME}.b.0123abcd.part", tmp_path / "x"]
    for file in (leftover, *others):
        file.write_bytes(b"unfinished")
    save(tmp_path / NAME, {})
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / NAME])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("by", ["fsync", "replace"])
def test_an_error_of_the_system_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, by: str
) -> None:
    path = tmp_path / NAME
    save(path, {"version": 1})

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os if by == "fsync" else Path, by, refuse)
        with pytest.raises(ConfigError) as error:
            save(path, {"version": 2})
    assert error.value.code == "checkpoint-not-saved"
    assert os.strerror(number) in str(error.value)
    assert load(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAME
    save(path, 1)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, 2)
    assert load(path) == 1
    assert list(tmp_path.iterdir()) == [path]


def in_child(work: Callable[[], str]) -> str:
    """The result of `work`, or the text of its error, in a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = work()
        except BaseException as error:  # noqa: BLE001 (it is told to the parent)
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    os.waitpid(child, 0)
    return text


def test_a_file_size_limit(tmp_path: Path) -> None:
    path = tmp_path / NAME
    save(path, {"version": 1})

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save(path, torch.zeros(10_000))
        return "saved"

    text = in_child(work)
    assert text.startswith("ConfigError")
    assert "the last checkpoint is still there" in text
    assert load(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_disk_and_a_real_read_only_one(tmp_path: Path) -> None:
    """On a tiny disk in memory that only the child sees."""
    path = tmp_path / "disk" / NAME
    path.parent.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, path.parent], check=True, capture_output=True)  # noqa: S607

    def work() -> str:
        if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):  # CLONE_NEWNS
            return "no private mount"
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)  # noqa: S607
            mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
        except (OSError, subprocess.CalledProcessError):
            return "no private mount"
        save(path, {"version": 1})
        codes = []
        for size in (10_000, 30_000):  # small: a forked process has no threads to compute with
            try:
                save(path, torch.zeros(size, dtype=torch.float64))
            except ConfigError as error:
                codes.append(error.code)
        mount("-o", "remount,ro")
        try:
            save(path, {"version": 3})
        except ConfigError as error:
            codes.append(error.code)
        return json.dumps([codes, load(path), [file.name for file in path.parent.iterdir()]])

    text = in_child(work)
    if text == "no private mount":
        pytest.skip("this process may not mount a file system")
    codes, left, files = json.loads(text)
    assert codes == ["checkpoint-not-saved"] * 3
    assert (left, files) == ({"version": 1}, [NAME])


KILLS = 50


def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / NAME
    started = time.perf_counter()
    save(path, tree_of(0))
    span = max(0.03, 3 * (time.perf_counter() - started))  # a slow disk takes longer
    rng, reached, interrupted = random.Random(5), 0, 0  # noqa: S311 (no secret)
    for number in range(20 * KILLS):
        if number >= KILLS and interrupted and reached:  # where writing is fast, few kills come in its midst
            break
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(path, reached + 1, writer)
        os.close(writer)
        os.read(reader, 1)  # it begins, which takes longer than `span` where the processors are busy
        time.sleep(rng.uniform(0, span))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as stream:
            told = stream.read()
        acknowledged = struct.unpack("q", told[-8:])[0] if told else reached
        tree = load(path)
        assert tree["sum"] == zlib.crc32(bytes_of(tree["w"]))
        assert tree["version"] in (acknowledged, acknowledged + 1)
        interrupted += any(file.suffix == ".part" for file in tmp_path.iterdir())
        reached = tree["version"]
    assert interrupted, "no kill came while a file was written"
    assert reached, "no child ever saved"
    save(path, tree_of(reached + 1))
    assert list(tmp_path.iterdir()) == [path]


def tree_of(version: int) -> dict[str, Any]:
    weights = torch.full((20_000,), float(version))
    return {"version": version, "w": weights, "sum": zlib.crc32(bytes_of(weights))}


def save_for_ever(path: Path, version: int, told: int) -> None:
    try:
        os.write(told, b".")
        while True:
            save(path, tree_of(version))
            os.write(told, struct.pack("q", version))  # fewer bytes than a pipe's buffer: whole or not at all
            version += 1
    finally:
        os._exit(1)
