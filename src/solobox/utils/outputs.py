"""The rule for every output of a command: no input is lost, and what exists is replaced only when asked."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from solobox.errors import DataError

RUN_FILES = (
    "config.json", "model.safetensors", "fingerprints.npz", "checkpoint.pt", "history.csv", "data_source.json",
    "out_of_fold.csv", "pseudo_labels.csv", "mlflow_run_id.json", "wandb_run_id.json",
)  # fmt: skip
"""The files that training writes into a run's folder."""

Identity: TypeAlias = tuple[int, int]

_MARKS = ("model.safetensors", "checkpoint.pt", "data_source.json", "fingerprints.npz")
"""Files that only a run's folder has."""


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, finished or not."""
    return any((folder / name).is_file() for name in _MARKS)


def check_outputs(
    outputs: Mapping[str, Path | None], inputs: Iterable[Path], *, overwrite: bool = False
) -> None:
    """Refuse outputs that would destroy something; called before any work.

    outputs: files by their options; None where an option is not set. inputs: files that the command reads; the folder
        of a run stands for the files of the run. Hard and symbolic links are followed. They are looked at only if an
        output exists. overwrite: an output may replace a file that is none of the inputs.

    Raises DataError: ``output-conflict`` for an output that is a folder or a device, or two outputs of one name;
    ``output-in-run`` for a file of any run, ``output-is-input``, and ``output-exists``.
    """
    existing = _existing(outputs)
    if not existing:
        return
    for path in inputs:
        for file in (path, *(path / name for name in RUN_FILES)) if path.is_dir() else (path,):
            if (text := existing.get(_identity(file) or (0, 0))) is not None:
                raise DataError(
                    f"{text} is one of the inputs, {file}: give it another name", code="output-is-input"
                )
    if not overwrite:
        raise DataError(
            f"{next(iter(existing.values()))} exists: give it another name, or replace it with --overwrite",
            code="output-exists",
        )


def _existing(outputs: Mapping[str, Path | None]) -> dict[Identity, str]:
    """The outputs that exist, with their options, by identity; raises for those that are refused by themselves."""
    existing: dict[Identity, str] = {}
    names: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        text, real = f"{option} {path}", Path(os.path.realpath(path))
        other = names.setdefault(real, text)
        if (identity := _identity(real)) is not None and other == text:
            other = existing.setdefault(identity, text)
        if other != text:
            raise DataError(
                f"{text} and {other} are the same file: give each its own", code="output-conflict"
            )
        if real.name.casefold() in RUN_FILES and is_run(real.parent):
            raise DataError(f"{text} is a file of a run: give it another name", code="output-in-run")
        if real.exists() and not real.is_file():
            raise DataError(f"{text} is a folder or a device: name a file", code="output-conflict")
    return existing


def _identity(path: Path) -> Identity | None:
    """The same for all names of one file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_output_folder(option: str, folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder for images that is not empty, unless `overwrite`; called before any work.

    Raises DataError: ``output-conflict`` for a file, ``output-exists``.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{option} {folder} is a file: name a folder", code="output-conflict")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{option} {folder} is not empty: name another folder, or replace images of the same names in it with "
            "--overwrite",
            code="output-exists",
        )
