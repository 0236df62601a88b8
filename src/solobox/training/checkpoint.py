"""A training run's state as one file of tensors and JSON: it appears whole or not at all, and unpickles nothing.

The file is in safetensors' format. What is not a tensor is JSON in its header, so that one rename replaces everything.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from solobox.errors import ConfigError
from solobox.utils.atomic import remove_leftovers, unfinished

FORMAT = "solobox checkpoint 1"

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool,
        torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint64, torch.uint32, torch.uint16, torch.uint8,
        torch.float8_e4m3fn, torch.float8_e5m2,
    }
)  # fmt: skip
"""What the file's format can hold."""

_NOTHING: Mapping[str, Json] = MappingProxyType({})


def flatten(tree: object) -> tuple[dict[str, Tensor], Json]:
    """Take a tree apart into tensors by name and JSON that says where each belongs.

    tree: dicts (keys str or int), lists and tuples, nested as one likes, of tensors of `DTYPES`, int, float, str,
        bool and None. An OrderedDict is taken for a dict, a Parameter for its tensor.

    The tensors are contiguous copies of their own on the CPU; the tree's may change meanwhile. The JSON has no
    NaN and no infinity in it: those are words. Raises TypeError, naming the place, for anything else in the tree.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _apart(tree, "", tensors)


def unflatten(tensors: Mapping[str, Tensor], plain: Json) -> Any:
    """The tree that `flatten` took apart: the same values, types, order of keys and dtypes.

    A tensor that was channels_last is again, so that a resumed run computes in the same order; others are
    contiguous. Raises ValueError where the two do not fit together.
    """
    match plain:
        case None | bool() | int() | float() | str():
            return plain
        case list(items):
            return [unflatten(tensors, item) for item in items]
        case {"tuple": list(items)}:
            return tuple(unflatten(tensors, item) for item in items)
        case {"dict": list(pairs)}:
            return {key: unflatten(tensors, value) for key, value in map(_pair, pairs)}
        case {"float": "nan" | "inf" | "-inf" as word}:
            return float(str(word))
        case {"tensor": str(name), "layout": "channels_last"} if name in tensors:
            return tensors[name].contiguous(memory_format=torch.channels_last)
        case {"tensor": str(name)} if name in tensors:
            return tensors[name]
    raise ValueError(f"{str(plain)[:80]} is not part of a checkpoint")


def save(path: Path, tree: object, *, note: Mapping[str, Json] = _NOTHING) -> None:
    """Put a tree into the file `path` in place of what was there, all at once.

    tree: see `flatten`. note: a few facts that `read_note` gives without the tensors.

    The file is written beside in a hidden folder, flushed to the disk, and renamed; then the folder is flushed. A
    process killed at any moment leaves the old file or the new one, and perhaps a hidden folder that the next
    `save` removes. One process at a time may save to a path. Folders above are made.

    Raises ConfigError when it cannot be written, most often for a full disk or a read-only folder: what was there
    before is then still whole, and nothing else is left.
    """
    tensors, plain = flatten(tree)
    texts = {"tree": json.dumps(plain, allow_nan=False), "note": json.dumps(dict(note), allow_nan=False)}
    facts = {"format": FORMAT, **texts, "crc32": _checksum(tensors, texts)}
    # safetensors may write under yet another name first: in a folder of its own that one is found again, too
    beside = unfinished(path)
    new = beside / path.name
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            beside.mkdir()
            save_file(tensors, new, metadata=facts)
            with safe_open(new, framework="pt"):  # its header can be read: it is not too long, for one
                pass
            with new.open("rb+") as stream:
                os.fsync(stream.fileno())
            new.chmod(beside.stat().st_mode & 0o666)  # as the user's umask has it, not for the owner alone
            new.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    _settle(path)


def load(path: Path) -> Any:
    """The tree that was saved to `path`, its tensors on the CPU and independent of the file.

    Raises ConfigError when there is no such file, when it is no checkpoint of this version, and when a single bit
    of it is not as it was written.
    """
    with _readable(path) as stream:
        facts = _facts(stream, path)
        tensors = {name: stream.get_tensor(name).clone() for name in stream.keys()}  # noqa: SIM118 (no mapping)
        texts = {name: facts[name] for name in ("tree", "note")}
        if facts["crc32"] != _checksum(tensors, texts):
            raise ValueError("its checksum is wrong")
        return unflatten(tensors, json.loads(texts["tree"]))


def read_note(path: Path) -> dict[str, Json]:
    """The note that was saved with the checkpoint at `path`; the tensors are not read. ConfigError as `load`."""
    with _readable(path) as stream:
        return dict(json.loads(_facts(stream, path)["note"]))


def _apart(tree: object, place: str, tensors: dict[str, Tensor]) -> Json:
    kind = type(tree)
    if isinstance(tree, Tensor):
        return _tensor_apart(tree, place, tensors)
    if tree is None or kind in (bool, int, str):
        return tree  # type: ignore[return-value]
    if isinstance(tree, float) and kind is float:
        return tree if abs(tree) < float("inf") else {"float": str(tree)}
    if isinstance(tree, list | tuple) and kind in (list, tuple):
        items: list[Json] = [_apart(item, f"{place}/{index}", tensors) for index, item in enumerate(tree)]
        return items if kind is list else {"tuple": items}
    if isinstance(tree, dict) and kind in (dict, OrderedDict):  # a module's state_dict is the latter
        pairs: list[Json] = []
        for key, value in tree.items():
            if type(key) not in (str, int):
                raise TypeError(f"{place or '/'}: the key {key!r} is neither str nor int")
            pairs.append([key, _apart(value, f"{place}/{key}", tensors)])
        return {"dict": pairs}
    raise TypeError(f"{place or '/'}: a {kind.__module__}.{kind.__qualname__} cannot be kept in a checkpoint")


def _tensor_apart(tensor: Tensor, place: str, tensors: dict[str, Tensor]) -> Json:
    if tensor.dtype not in DTYPES or tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(
            f"{place or '/'}: a tensor that is {tensor.dtype}, {tensor.layout}, on {tensor.device} cannot be kept "
            "in a checkpoint"
        )
    # The number makes it unique, whatever the keys are; the place is for people who look into the file.
    name = f"{len(tensors)}{place}".encode("ascii", "backslashreplace").decode()
    tensors[name] = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    channels_last = (
        tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )
    return {"tensor": name, "layout": "channels_last"} if channels_last else {"tensor": name}


def _pair(pair: Json) -> tuple[str | int, Json]:
    match pair:
        case [str() | int() as key, value]:
            return key, value
    raise ValueError(f"{str(pair)[:80]} is not a key and a value")


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """CRC-32 over all that is kept; the format itself only notices a wrong length."""
    crc = 0
    for text in texts.values():
        crc = zlib.crc32(text.encode(), crc)
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _facts(stream: Any, path: Path) -> dict[str, str]:
    facts = stream.metadata() or {}
    if facts.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a checkpoint of this version of Solobox ({FORMAT})")
    return dict(facts)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise ConfigError(f"there is no checkpoint {path}: nothing to go on from")
    try:
        with safe_open(path, framework="pt") as stream:
            yield stream
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged or no checkpoint ({error}): give another one, or train anew"
        ) from error


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ``ConfigError`` in plain words."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = "there is no room for it on the disk; free some"
        elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
            reason = f"the folder {path.parent} is read-only; allow writing there"
        else:
            reason = str(error)
        old = "; the last checkpoint is still whole" if path.exists() else ""
        raise ConfigError(f"{path}: the checkpoint could not be saved: {reason}{old}") from error


def _errno(error: SafetensorError) -> int | None:
    """Safetensors puts the system's number into its text: "I/O error: No space left on device (os error 28)"."""
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


_NO_SUCH_THING: Sequence[int] = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)


def _settle(path: Path) -> None:
    """Flush the folder, so that the new name outlives a power cut; on systems that know of such a thing."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in _NO_SUCH_THING:
            raise ConfigError(
                f"{path}: saved, but the disk does not confirm it ({error.strerror}): look after the disk"
            ) from error
