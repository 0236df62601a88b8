"""A saved localizer: a folder with ``model.safetensors``, ``config.json`` and, if trained, ``fingerprints.npz``.

Nothing in it is ever unpickled.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from solobox.config.run_metadata import check_metadata
from solobox.data.fingerprints import FILE as FINGERPRINTS
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError
from solobox.uncertainty.conformal import Calibration
from solobox.utils.atomic import remove_leftovers, unfinished
from solobox.utils.json_utils import MAX_BYTES, parse_json

FORMAT = 1
MODEL, CONFIG = "model.safetensors", "config.json"
PRETRAINED_HEAD = "pretrained_head.safetensors"
RESERVED = ("format", "architecture", "margins")

_MAX_HEADER_BYTES = 16 << 20
_DTYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_FLOATS = ("F32", "F16", "BF16")

A = TypeVar("A")


def save(
    folder: Path,
    architecture: Any,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, object],
    fingerprints: Fingerprints | None,
) -> None:
    """Write the files in a temporary folder, flush them to the disk, then move them: ``config.json`` last.

    Raises ConfigError when the folder cannot be written; the model there is then still whole. A kill leaves the old
    model, the new one, or no ``config.json``, but never parts of both.
    """
    config = {"format": FORMAT, "architecture": asdict(architecture), **metadata}
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    # In a folder, since a killed `save_file` may leave files under other names.
    temporary = unfinished(folder / MODEL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / MODEL)
        temporary.mkdir()
        save_file({key: value.contiguous() for key, value in state.items()}, temporary / MODEL)
        (temporary / MODEL).chmod(
            temporary.stat().st_mode & 0o666
        )  # with the permissions that other files get
        (temporary / CONFIG).write_text(text, encoding="utf-8")
        if fingerprints is not None:
            fingerprints.save(temporary / FINGERPRINTS)
        for path in temporary.iterdir():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        _move(temporary, folder)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the model could not be saved in {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move(source: Path, folder: Path) -> None:
    """Move a model's files from `source`. Those of an older one in `folder` go first, and come back where it fails."""
    old = source / "old"
    old.mkdir()
    names = (MODEL, FINGERPRINTS, CONFIG)
    try:
        _move_each(folder, old, names[::-1])
        _move_each(source, folder, names)
    except BaseException:
        _move_each(old, folder, names)
        raise


def _move_each(source: Path, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            (source / name).replace(folder / name)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed ``config.json``, with the types of its metadata checked.

    Raises ConfigError: ``model-missing``, ``model-damaged``, ``model-outdated``.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no {CONFIG}: give the folder that `solobox train -o` wrote", code="model-missing"
        )
    try:
        with path.open("rb") as file:
            config = parse_json(file.read(MAX_BYTES + 1).decode(), max_bytes=MAX_BYTES)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(config, dict) or type(config.get("format")) is not int:
        raise _damaged(path, "it has no format")
    if config["format"] != FORMAT:
        raise ConfigError(
            f"{path} is not a localizer of this version (format {FORMAT}): train again", code="model-outdated"
        )
    check_metadata({key: value for key, value in config.items() if key not in RESERVED}, path)
    return config


def calibration(config: Mapping[str, Any], folder: Path) -> Calibration | None:
    """The margins of a parsed ``config.json``; None where it has none. Raises ConfigError: ``model-damaged``."""
    margins = config.get("margins", {})
    if not isinstance(margins, dict):
        raise ConfigError(
            f"{folder / CONFIG} is damaged: its margins are not an object", code="model-damaged"
        )
    return Calibration.from_dict(margins) if "margins" in config else None


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is damaged ({why}); restore it, or train again", code="model-damaged")


def architecture(config: Mapping[str, Any], kind: type[A], folder: Path) -> A:
    """Build the dataclass `kind` from the config. Unknown keys are errors.

    A missing key takes its default: a new option does by default what models did before it existed.
    """
    values = config.get("architecture")
    if not isinstance(values, dict):
        raise _damaged(folder / CONFIG, "it has no architecture")
    unknown = sorted(set(values) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ConfigError(
            f"{folder / CONFIG}: the architecture has keys that this version does not know: "
            f"{', '.join(unknown[:5])[:200]}",
            code="unknown-option",
        )
    try:
        return kind(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        )
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {str(error)[:500]}", code=error.code) from None


def check_shapes(folder: Path, module: nn.Module, *, prefix: str) -> None:
    """Compare the tensors that the folder's file lists with those of `module`, which may be on the meta device.

    Nothing but the list is read: names, types and shapes. prefix: of names that `module` has not; see `load_state`.

    Raises ConfigError: ``model-missing``, ``model-damaged``.
    """
    path = folder / MODEL
    if not path.is_file():
        raise ConfigError(
            f"{folder} holds no {MODEL}: training did not finish, or the file was moved", code="model-missing"
        )
    expected = module.state_dict()
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _MAX_HEADER_BYTES:
                raise _damaged(path, "its list of tensors is too long")
        with safe_open(path, framework="pt") as tensors:
            names = [name for name in tensors.keys() if not name.startswith(prefix)]  # noqa: SIM118
            if different := expected.keys() ^ set(names):
                raise _damaged(path, f"it is of another architecture: {min(different)[:100]}")
            for name in names:
                one = tensors.get_slice(name)
                shape, dtype = tuple(one.get_shape()), one.get_dtype()
                if shape != tuple(expected[name].shape):
                    raise _damaged(path, f"{name} has the shape {shape}, not {tuple(expected[name].shape)}")
                own = _DTYPES.get(expected[name].dtype)
                if dtype != own and not (own in _FLOATS and dtype in _FLOATS):
                    raise _damaged(path, f"{name} is of the type {dtype}, not {own}")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error


def load_pretrained_head(modules: Mapping[str, nn.Module]) -> bool:
    """Load the weights that come with the install, if every tensor fits. Returns whether they do.

    The file comes from `bench/pretrained_head.py`: from a training run on synthetic images, in float16.
    """
    pretrained = load_file(Path(__file__).with_name(PRETRAINED_HEAD))
    state = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    if {key: value.shape for key, value in state.items()} != {
        key: value.shape for key, value in pretrained.items()
    }:
        return False
    for key, value in state.items():
        value.copy_(pretrained[key])
    return True


def load_state(folder: Path, module: nn.Module, *, prefix: str) -> dict[str, npt.NDArray[np.float32]]:
    """Load the folder's tensors into `module`; all must be there and fit.

    Returns the others, whose names begin with `prefix`, by the rest of their names.

    Raises ConfigError ``model-damaged``, also where a number is not finite.
    """
    path = folder / MODEL
    try:
        tensors = load_file(path)
        module.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(prefix)})
    except (SafetensorError, RuntimeError, OSError) as error:
        raise _damaged(path, f"it may be of another architecture: {error}") from error
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise _damaged(path, f"{key} has numbers that are not finite")
    others = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return {key: value.float().numpy() for key, value in others.items()}
