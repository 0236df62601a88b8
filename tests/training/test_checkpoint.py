import ctypes
import errno
import json
import math
import os
import random
import resource
import signal
import stat
import struct
import subprocess
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from solobox.errors import ConfigError
from solobox.training import checkpoint
from solobox.training.checkpoint import DTYPES, flatten, load, read_note, save, unflatten

NAME = "last.safetensors"


def alike(one: Any, other: Any) -> bool:
    """Whether two trees are the same to the bit, types and order of keys included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and bytes_of(one) == bytes_of(other)
            and one.is_contiguous() == other.is_contiguous()
        )
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(alike(list(a), list(b)) for a, b in pairs)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(DTYPES, key=str)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape) * dtype.itemsize
    raw = draw(st.binary(min_size=count, max_size=count))
    if dtype == torch.bool:
        raw = bytes(byte % 2 for byte in raw)
    flat = torch.tensor(list(raw), dtype=torch.uint8).view(dtype) if count else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), tensors()
)  # fmt: skip
keys = st.one_of(st.text(max_size=5), st.integers(), st.sampled_from(["tensor", "dict", "a/b"]))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(trees)
@settings(deadline=None, max_examples=150)
def test_a_tree_is_put_together_as_it_was(tree: Any) -> None:
    taken, plain = flatten(tree)
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert alike(unflatten(taken, again), tree)


@given(trees)
@settings(deadline=None, max_examples=40)
def test_a_file_gives_the_tree_back(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "some" / NAME
    save(path, tree)
    assert alike(load(path), tree)


def test_tensors_that_share_or_skip_memory_are_kept_as_copies(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    complex_ = torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex64)
    tree = {
        "base": base, "row": base[1], "again": base, "turned": base.T, "wide": torch.ones(1).expand(5),
        "every other": base[:, ::2], "conjugate": complex_.conj(), "imaginary": complex_.conj().imag,
        "learnt": nn.Parameter(torch.ones(2)), "module": nn.Linear(2, 2).state_dict(),
    }  # fmt: skip
    wanted = {key: value.clone() for key, value in tree.items() if isinstance(value, Tensor)}
    save(tmp_path / NAME, tree)
    base.zero_()
    found = load(tmp_path / NAME)
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key
        assert found[key].is_contiguous()
        assert not found[key].requires_grad
    assert list(found["module"]) == ["weight", "bias"]


def test_a_flattened_tree_does_not_follow_the_original() -> None:
    live = torch.ones(3)
    taken, plain = flatten([live])
    live.zero_()
    assert unflatten(taken, plain)[0].tolist() == [1, 1, 1]


def test_channels_last_stays_so(tmp_path: Path) -> None:
    plain = torch.randn(4, 3, 5, 5)
    save(tmp_path / NAME, [plain.to(memory_format=torch.channels_last), plain])
    turned, straight = load(tmp_path / NAME)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert not turned.is_contiguous()
    assert straight.is_contiguous()
    assert torch.equal(turned, plain)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam])
def test_an_optimizer_goes_on_to_the_bit(tmp_path: Path, kind: Any) -> None:
    def begin() -> tuple[nn.Module, Any, Any]:
        torch.manual_seed(3)
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 1))
        optimizer = kind(module.parameters(), lr=0.01, weight_decay=0.1)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=False)
        return module, optimizer, cycle

    def steps(parts: tuple[nn.Module, Any, Any], numbers: range) -> None:
        module, optimizer, cycle = parts
        for number in numbers:
            torch.manual_seed(number)
            optimizer.zero_grad()
            module(torch.randn(2, 3, 5, 5)).square().sum().backward()
            optimizer.step()
            cycle.step()

    whole, first, second = begin(), begin(), begin()
    steps(whole, range(8))
    steps(first, range(4))
    save(tmp_path / NAME, [part.state_dict() for part in first])
    for part, state in zip(second, load(tmp_path / NAME), strict=True):
        part.load_state_dict(state)
    steps(second, range(4, 8))
    for one, other in zip(whole, second, strict=True):
        assert alike(dict(one.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"a": [1, {"b": {1, 2}}]}, r"^/a/1/b: a builtins.set"),
        ({"a": (b"",)}, r"^/a/0: a builtins.bytes"),
        (object(), r"^/: a builtins.object"),
        ({"a": {2.5: 1}}, r"^/a: the key 2.5"),
        ({True: 1}, r"^/: the key True"),
        ({"m": Counter([1])}, r"^/m: a collections.Counter"),
        ({"x": torch.ones(1, dtype=torch.complex128)}, r"^/x: a tensor that is torch.complex128"),
        ({"x": torch.eye(2).to_sparse()}, r"^/x: a tensor .*sparse"),
        ({"x": torch.ones(2, device="meta")}, r"^/x: a tensor .* on meta"),
        ([torch.ones(2).numpy()[0]], r"^/0: a numpy.float32"),
        ([torch.ones(2).double().numpy()[0]], r"^/0: a numpy.float64"),
    ],
)
def test_what_cannot_be_kept_is_named(tmp_path: Path, tree: Any, place: str) -> None:
    with pytest.raises(TypeError, match=place):
        save(tmp_path / NAME, tree)
    assert list(tmp_path.iterdir()) == []


def test_names_of_files_that_are_no_text_are_kept(tmp_path: Path) -> None:
    save(tmp_path / NAME, {"\udc80.jpg": ["\udcff", torch.ones(1)]})
    assert alike(load(tmp_path / NAME), {"\udc80.jpg": ["\udcff", torch.ones(1)]})


def test_an_ordered_dict_is_kept_as_a_dict(tmp_path: Path) -> None:
    save(tmp_path / NAME, OrderedDict([("b", 1), ("a", 2)]))
    assert alike(load(tmp_path / NAME), {"b": 1, "a": 2})


def test_the_note_is_read_without_the_tensors(tmp_path: Path) -> None:
    save(tmp_path / NAME, {"x": torch.ones(3)}, note={"epoch": 3, "why": "Ctrl-C"})
    assert read_note(tmp_path / NAME) == {"epoch": 3, "why": "Ctrl-C"}
    save(tmp_path / NAME, {})
    assert read_note(tmp_path / NAME) == {}


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / NAME
    save(path, [torch.arange(2000)])
    (found,) = load(path)
    before = path.read_bytes()
    found += 1
    assert path.read_bytes() == before
    path.write_bytes(b"\0" * len(before))
    assert torch.equal(found, torch.arange(2000) + 1)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint .*last\.safetensors: nothing to go on from"):
        load(tmp_path / NAME)


def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / NAME
    save(path, {"w": torch.randn(3), "n": 3}, note={"a": 1})
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1 << index % 8]) + whole[index + 1 :])
        try:
            found = load(path)
        except ConfigError:
            continue
        # only blanks at the end of the header, which say nothing, may differ unnoticed
        path.write_bytes(whole)
        assert alike(found, load(path)), index


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_a_file_cut_short_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / NAME
    save(path, {"w": torch.randn(30)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="damaged or no checkpoint"):
        load(path)


def test_foreign_files_are_told(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="is not a checkpoint of this version"):
        load(tmp_path / "model.safetensors")
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="damaged or no checkpoint"):
        load(tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="damaged or no checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize(
    "plain",
    [{"tensor": "0/nowhere"}, {"dict": [[1.5, 2]]}, {"dict": [[1]]}, {"float": "five"}, {"what": 1}, {}],
)
def test_json_of_another_kind_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="is not"):
        unflatten({}, plain)


def test_others_may_read_it_where_the_umask_says_so(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / NAME, {"x": torch.ones(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o640


def test_leftovers_of_this_file_alone_are_removed(tmp_path: Path) -> None:
    ours = tmp_path / f".{NAME}.0123abcd.part"
    others = [tmp_path / f".best.{NAME}.0123abcd.part", tmp_path / f".{NAME}.b.0123abcd.part", tmp_path / "x"]
    for file in (ours, *others):
        file.write_bytes(b"unfinished")
    folder = tmp_path / f".{NAME}.4567cdef.part"
    folder.mkdir()
    (folder / NAME).write_bytes(b"unfinished")
    save(tmp_path / NAME, {})
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / NAME])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("by", ["safetensors", "fsync", "replace"])
def test_what_the_system_refuses_is_told_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, by: str
) -> None:
    path = tmp_path / NAME
    save(path, {"version": 1})

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    def refuse_by_library(_: Any, file: Path, **__: Any) -> None:
        file.write_bytes(b"half")
        raise SafetensorError(
            f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
        )

    with monkeypatch.context() as patch:
        if by == "safetensors":
            patch.setattr(checkpoint, "save_file", refuse_by_library)
        else:
            patch.setattr(os if by == "fsync" else Path, by, refuse)
        with pytest.raises(
            ConfigError, match=r"could not be saved: .*the last checkpoint is still whole"
        ) as caught:
            save(path, {"version": 2})
    words = {
        errno.ENOSPC: "no room",
        errno.EDQUOT: "no room",
        errno.EROFS: "read-only",
        errno.EACCES: "read-only",
    }
    assert words.get(number, os.strerror(number)) in str(caught.value)
    assert load(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_one_that_fails_speaks_of_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ConfigError, match=r"free some$"):
        save(tmp_path / NAME, {})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_the_old_one_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAME
    save(path, 1)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, 2)
    assert load(path) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: bool
) -> None:
    flush = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    if told:
        with pytest.raises(ConfigError, match="does not confirm"):
            save(tmp_path / NAME, 1)
    else:
        save(tmp_path / NAME, 1)
    assert load(tmp_path / NAME) == 1


def in_child(work: Callable[[], str]) -> str:
    """What `work` gives, or the text of its error, in a process of its own."""
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


def test_a_file_that_may_not_grow_so_far(tmp_path: Path) -> None:
    path = tmp_path / NAME
    save(path, {"version": 1})

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        save(path, torch.zeros(10_000))
        return "saved"

    assert "ConfigError" in (text := in_child(work))
    assert "there is no room for it on the disk; free some; the last checkpoint is still whole" in text
    assert load(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_disk_and_a_real_read_only_one(tmp_path: Path) -> None:
    """On a tiny disk in memory that only the child sees, and that goes with it."""
    path = tmp_path / "disk" / NAME
    path.parent.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, path.parent], check=True, capture_output=True)  # noqa: S607

    def work() -> str:
        if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):  # CLONE_NEWNS
            return "no disk of one's own"
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)  # noqa: S607
            mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
        except (OSError, subprocess.CalledProcessError):
            return "no disk of one's own"
        save(path, {"version": 1})
        texts = []
        for size in (10_000, 30_000):  # small: a forked process has no threads to compute with
            try:
                save(path, torch.zeros(size, dtype=torch.float64))
            except ConfigError as error:
                texts.append(str(error))
        mount("-o", "remount,ro")
        try:
            save(path, {"version": 3})
        except ConfigError as error:
            texts.append(str(error))
        return json.dumps([texts, load(path), [file.name for file in path.parent.iterdir()]])

    text = in_child(work)
    if text == "no disk of one's own":
        pytest.skip("this process may not mount a disk of its own")
    told, left, files = json.loads(text)
    assert ["read-only" if "read-only" in line else "no room" if "no room" in line else line for line in told] == [
        "no room", "no room", "read-only",
    ]  # fmt: skip
    assert all(line.endswith("the last checkpoint is still whole") for line in told)
    assert (left, files) == ({"version": 1}, [NAME])


KILLS = 200


def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / NAME
    started = time.perf_counter()
    save(path, tree_of(0))
    span = max(0.03, 3 * (time.perf_counter() - started))  # a slow disk takes longer
    rng, reached, interrupted = random.Random(5), 0, 0  # noqa: S311 (no secret)
    for _ in range(KILLS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            save_for_ever(path, reached + 1, writer)
        os.close(writer)
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
        while True:
            save(path, tree_of(version))
            os.write(told, struct.pack("q", version))  # fewer bytes than a pipe's buffer: whole or not at all
            version += 1
    finally:
        os._exit(1)
