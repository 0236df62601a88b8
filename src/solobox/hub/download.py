"""Find a model: a path as it is, a name on the hub as the path of its downloaded copy. No torch."""

import importlib.util
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from solobox.errors import ConfigError
from solobox.hub.client import PREFIX, TIMEOUT, HubName, explained, hub_client

Kind: TypeAlias = Literal["any", "folder", "onnx"]

ONNX = "model.onnx"
FOLDER = ("config.json", "model.safetensors")
OPTIONAL = "fingerprints.npz"

_MAX_BYTES = 4 << 30
"""Of a file; a repository may come from anybody, and its size is known before it is downloaded."""

_FOR_FOLDER = ("torch", "timm", "safetensors")


def is_hub_name(model: str | Path) -> bool:
    """Whether a model is named ``hf:...``; a file of such a name is ``./hf:...``."""
    return str(model).startswith(PREFIX)


def local_model(model: str | Path, kind: Kind = "any") -> Path:
    """The path of a model: `model` itself, or where the model of a name on the hub, ``hf:owner/name``, was downloaded.

    kind: what is needed: the ``folder`` with config.json and model.safetensors, which PyTorch loads, or the exported
        file (``onnx``); ``any``: the folder where PyTorch is installed and the repository has it, else the file.

    Of a repository only these files are downloaded, into the hub's cache, and nothing of it is run. With
    HF_HUB_OFFLINE=1 the cache alone is looked at.

    Raises ConfigError: ``hub-name-invalid``, ``missing-package``, ``hub-unreachable``, ``hub-not-found``,
    ``hub-revision-missing``, ``hub-forbidden``, ``hub-gated``, ``hub-failed``, ``hub-no-model``, ``hub-offline``.
    """
    if not is_hub_name(model):
        return Path(model)
    name = HubName.parse(model if isinstance(model, str) else model.as_posix())
    api = hub_client()
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return _from_cache(name, kind)
    with explained(name):
        info = api.model_info(name.repository, revision=name.revision, files_metadata=True, timeout=TIMEOUT)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        files = _files(name, sizes, kind)
        if too_large := next((file for file in files if sizes[file] > _MAX_BYTES), None):
            raise ConfigError(
                f"{name}: its {too_large} has {sizes[too_large]:,} bytes, which is no model of Solobox",
                code="hub-no-model",
            )
        # By the revision's name and not its commit: so the cache knows it offline.
        folder = api.snapshot_download(name.repository, revision=name.revision, allow_patterns=list(files))
    return _path_in(Path(folder), name, files)


def _from_cache(name: HubName, kind: Kind) -> Path:
    from huggingface_hub import snapshot_download

    try:
        # Without patterns it would ask for all files of the repository that it knows of.
        folder = Path(
            snapshot_download(
                name.repository, revision=name.revision, local_files_only=True, allow_patterns=[]
            )
        )
        return _path_in(folder, name, _files(name, {each.name: 0 for each in folder.iterdir()}, kind))
    except (OSError, ConfigError) as error:
        raise ConfigError(
            f"{name} was not downloaded before, or not in the form that is needed, and HF_HUB_OFFLINE forbids to "
            "download it: unset that once",
            code="hub-offline",
        ) from error


def _files(name: HubName, present: Mapping[str, int], kind: Kind) -> tuple[str, ...]:
    """What to take of a repository that holds the files `present`."""
    has_folder = all(file in present for file in FOLDER)
    if has_folder and (kind == "folder" or (kind == "any" and _can_load_folder())):
        return (*FOLDER, OPTIONAL) if OPTIONAL in present else FOLDER
    if ONNX in present and kind != "folder":
        return (ONNX,)
    if has_folder and kind == "any":
        raise ConfigError(
            f"{name} has no {ONNX}, and its model.safetensors needs PyTorch: install Solobox with its [train] extra",
            code="hub-no-model",
        )
    needed = {"folder": " and ".join(FOLDER), "onnx": ONNX, "any": f"{' and '.join(FOLDER)}, or {ONNX}"}[kind]
    raise ConfigError(
        f"{name} holds no {needed}: it is no model of Solobox, or was pushed without", code="hub-no-model"
    )


def _path_in(folder: Path, name: HubName, files: Collection[str]) -> Path:
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise ConfigError(f"{name}: {missing[0]} could not be downloaded: try again", code="hub-failed")
    return folder / ONNX if ONNX in files else folder


def _can_load_folder() -> bool:
    return all(importlib.util.find_spec(package) is not None for package in _FOR_FOLDER)
