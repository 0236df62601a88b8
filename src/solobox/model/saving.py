"""A saved localizer: a folder with ``model.safetensors``, ``config.json`` and, if trained, ``fingerprints.npz``.

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
    """Write the files in a temporary folder, flush them to the disk, then move them: ``config.json`` last.

    Raises ConfigError when the folder cannot be written; the files there are then still whole.
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
        for name in (MODEL, FINGERPRINTS, CONFIG) if fingerprints is not None else (MODEL, CONFIG):
            with (temporary / name).open("rb+") as stream:
                os.fsync(stream.fileno())
            (temporary / name).replace(folder / name)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the model could not be saved in {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    """Build the dataclass `kind` from the config. Unknown keys are errors.

    A missing key takes its default: a new option does by default what models did before it existed.
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
    """
    path = folder / MODEL
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {MODEL}: training did not finish, or the file was moved")
    try:
        tensors = load_file(path)
        module.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(prefix)})
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ConfigError(f"{path} is damaged or of another architecture: {error}") from error
    others = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return {key: value.float().numpy() for key, value in others.items()}
