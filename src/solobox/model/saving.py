"""A saved localizer: a folder of ``model.safetensors``, ``config.json`` and, of a trained one, ``fingerprints.npz``.

Nothing in it is ever unpickled.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from solobox.data.fingerprints import FILE as FINGERPRINTS
from solobox.data.fingerprints import Fingerprints
from solobox.errors import ConfigError
from solobox.utils.atomic import remove_leftovers, unfinished

FORMAT = 1
MODEL, CONFIG = "model.safetensors", "config.json"
PRETRAINED_HEAD = "pretrained_head.safetensors"
RESERVED = ("format", "architecture", "margins")

A = TypeVar("A")


def save(
    folder: Path,
    architecture: Any,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, object],
    fingerprints: Fingerprints | None,
) -> None:
    """Write the files beside, flush them to the disk, then give them their names: ``config.json`` last.

    Raises ConfigError when the folder cannot be written; what was there before is then still whole.
    """
    config = {"format": FORMAT, "architecture": asdict(architecture), **metadata}
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    # In a folder of their own, since what writes tensors may leave files under other names when it is killed.
    beside = unfinished(folder / MODEL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / MODEL)
        beside.mkdir()
        save_file({key: value.contiguous() for key, value in state.items()}, beside / MODEL)
        (beside / MODEL).chmod(
            beside.stat().st_mode & 0o666
        )  # for all whom the umask lets read, as other files
        (beside / CONFIG).write_text(text, encoding="utf-8")
        if fingerprints is not None:
            fingerprints.save(beside / FINGERPRINTS)
        for name in (MODEL, FINGERPRINTS, CONFIG) if fingerprints is not None else (MODEL, CONFIG):
            with (beside / name).open("rb+") as stream:
                os.fsync(stream.fileno())
            (beside / name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the model could not be saved in {folder}: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed ``config.json``."""
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {CONFIG}: give the folder that `solobox train -o` wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); train again or restore it") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ConfigError(f"{path} is not a localizer of this version (format {FORMAT})")
    return config


def architecture(config: Mapping[str, Any], kind: type[A], folder: Path) -> A:
    """Build the dataclass `kind` from the config; unknown keys are errors.

    A missing key takes its default: it was added after the model was saved, and what a new option does by default is
    what was done before there was one.
    """
    values = config.get("architecture")
    if not isinstance(values, dict):
        raise ConfigError(f"{folder / CONFIG} holds no architecture; train again or restore it")
    unknown = sorted(set(values) - {field.name for field in fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ConfigError(
            f"{folder / CONFIG}: the architecture has keys that this version does not know: {', '.join(unknown)}"
        )
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def load_pretrained_head(parts: Mapping[str, nn.Module]) -> bool:
    """Fill parts with the weights that come with the install, where every tensor has its counterpart.

    The file is made by `bench/pretrained_head.py`: a training run on drawn scenes, kept in float16.
    """
    tensors = load_file(Path(__file__).with_name(PRETRAINED_HEAD))
    target = {
        f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()
    }
    if {key: value.shape for key, value in target.items()} != {
        key: value.shape for key, value in tensors.items()
    }:
        return False
    for key, value in target.items():
        value.copy_(tensors[key])
    return True


def load_state(folder: Path, module: nn.Module, *, besides: str) -> dict[str, npt.NDArray[np.float32]]:
    """Fill `module` with the folder's tensors; all must be there and fit.

    Gives those whose names begin with `besides`, without that, which are not the module's.
    """
    path = folder / MODEL
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {MODEL}: training did not finish, or the file was moved")
    try:
        tensors = load_file(path)
        module.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(besides)})
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ConfigError(f"{path} is damaged or of another architecture: {error}") from error
    others = {key.removeprefix(besides): value for key, value in tensors.items() if key.startswith(besides)}
    return {key: value.float().numpy() for key, value in others.items()}
