"""A checkpoint: tensors and plain values in one file, written atomically and loaded without running code.

The file has a line with a checksum, then the bytes of `torch.save`.
"""

import io
import pickle
import zlib
from pathlib import Path
from typing import Any

import torch

from solobox.errors import ConfigError, DataError
from solobox.utils.atomic import remove_leftovers, replacing_bytes

_HEADER = b"solobox checkpoint 2 %08x\n"


def save(path: Path, state: object) -> None:
    """Replace the file `path` atomically by a checkpoint of `state`.

    state: dicts, lists and tuples of tensors, numbers, text, bool and None.

    The file is written next to `path`, flushed to the disk and renamed. A killed process leaves the old
    file or the new one, and perhaps a hidden file that the next `save` removes. Only one process may write to a path.

    Raises ConfigError ``checkpoint-not-saved``, most often for a full disk or a read-only folder: the last checkpoint
    is still there. TypeError for a state that `load` would refuse.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    try:
        torch.load(io.BytesIO(data), map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TypeError(f"a checkpoint has tensors and plain values only: {error}") from error
    try:
        remove_leftovers(path)
        with replacing_bytes(path) as file:
            file.write(_HEADER % zlib.crc32(data))
            file.write(data)
    except DataError as error:
        kept = "; the last checkpoint is still there" if path.exists() else ""
        raise ConfigError(
            f"{error}{kept}. Free some space, or allow writing in {path.parent}", code="checkpoint-not-saved"
        ) from error


def load(path: Path) -> Any:
    """The state that was saved to `path`, with its tensors on the CPU.

    Raises ConfigError ``checkpoint-missing``, or ``checkpoint-damaged`` for a file that is not exactly what `save`
    wrote.
    """
    try:
        line, _, data = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no checkpoint {path}: nothing to resume", code="checkpoint-missing"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", code="checkpoint-damaged") from error
    if line + b"\n" != _HEADER % zlib.crc32(data):
        raise ConfigError(
            f"{path} is damaged, or no checkpoint of this version: use another copy, or train again",
            code="checkpoint-damaged",
        )
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a forged file can make the loader raise anything
        raise ConfigError(
            f"{path} holds more than tensors: do not trust it", code="checkpoint-damaged"
        ) from error
