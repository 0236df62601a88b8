"""What `solobox predict` refuses before it loads a model."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from solobox.errors import ConfigError, DataError
from solobox.predict.inputs import is_url
from solobox.predict.writers import check_format


def check_pad(pad: float, *, crop: bool) -> None:
    """Raise ConfigError for a --pad that is ``out-of-range``, or without --crop (``options-conflict``)."""
    if not 0 <= pad <= 10:
        raise ConfigError(
            f"--pad is a share of the box's sides from 0 to 10, such as 0.1, not {pad:g}", code="out-of-range"
        )
    if pad and not crop:
        raise ConfigError("--pad belongs to --crop: name the folder for the crops", code="options-conflict")


def check_only_for_images(what: str, options: Mapping[str, object]) -> None:
    """Raise ConfigError ``options-conflict`` where options that do not go with `what` are set."""
    if wrong := [name for name, value in options.items() if value]:
        raise ConfigError(f"{' and '.join(wrong)} cannot be used with {what}", code="options-conflict")


def check_output(output: Path | None, inputs: Iterable[str], *, resume: bool, ids: bool) -> None:
    """Raise ConfigError for an output of unknown format, and for options that need another one.

    Raises DataError ``output-is-input`` where it is one of the inputs.
    """
    if output is None:
        if resume:
            raise ConfigError("--resume needs the -o of the run that was stopped", code="options-conflict")
    else:
        check_format(output)
        if output.exists() and any(Path(item).resolve() == output.resolve() for item in inputs):
            raise _is_input(output)
    if ids and (output is None or output.suffix.lower() != ".json"):
        raise ConfigError(
            "--coco-ids belongs to COCO's results: write them with -o NAME.json", code="options-conflict"
        )


def check_outputs(
    images: Sequence[str], inputs: Iterable[str], output: Path | None, folders: Mapping[str, Path]
) -> None:
    """Raise DataError where an output would replace something else, or be taken for an input the next time.

    images: all of them. inputs: of the command. folders: for images that are written, by the option's name.
    Codes: ``output-is-input``, ``output-conflict``, ``name-not-utf8``; ConfigError ``options-conflict``.
    """
    for image in images:
        try:
            image.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the name {image!r} cannot be written as UTF-8: rename it, or leave it out",
                code="name-not-utf8",
            ) from None
        if folders and is_url(image):
            raise ConfigError(
                f"{' and '.join(folders)} need local images, and {image} is a URL", code="options-conflict"
            )
    image_folders = {Path(folder).resolve() for folder in {os.path.dirname(image) for image in images}}  # noqa: PTH120
    searched = [Path(item).resolve() for item in inputs if Path(item).is_dir()]
    for option, folder in folders.items():
        path = folder.resolve()
        if path in image_folders:
            raise DataError(
                f"{option} {folder} holds some of these images: give another folder", code="output-is-input"
            )
        if any(path.is_relative_to(one) for one in searched):
            raise DataError(
                f"{option} {folder} is in a folder of inputs, and its images would be inputs the next time: give a "
                "folder elsewhere",
                code="output-is-input",
            )
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{option} {folder} is a file: name a folder", code="output-conflict")
    paths = [folder.resolve() for folder in folders.values()]
    if len(set(paths)) < len(paths):
        raise DataError(
            f"{' and '.join(folders)} are the same folder: give each its own", code="output-conflict"
        )
    if output is not None:
        _check_file(images, output, paths)


def _check_file(images: Sequence[str], output: Path, folders: Sequence[Path]) -> None:
    if output.is_dir():
        raise DataError(f"-o {output} is a folder: name a file", code="output-conflict")
    if output.resolve() in folders:
        raise DataError(
            f"-o {output} and a folder for images are the same: give each its own name",
            code="output-conflict",
        )
    if output.exists():
        same_name = (image for image in images if Path(image).name == output.name)
        if any(Path(image).resolve() == output.resolve() for image in same_name):
            raise _is_input(output)


def _is_input(output: Path) -> DataError:
    return DataError(f"-o {output} is one of the inputs: give it another name", code="output-is-input")
