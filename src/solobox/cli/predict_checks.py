"""What `solobox predict` refuses before it loads a model."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from solobox.errors import ConfigError, DataError
from solobox.predict.stores import is_url
from solobox.predict.writers import check_format
from solobox.utils.outputs import check_output_folder


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


def check_output(output: Path | None, *, resume: bool, ids: bool) -> None:
    """Raise ConfigError for an output of unknown format, and for options that need another one."""
    if output is not None:
        check_format(output)
    elif resume:
        raise ConfigError("--resume needs the -o of the run that was stopped", code="options-conflict")
    if ids and (output is None or output.suffix.lower() != ".json"):
        raise ConfigError(
            "--coco-ids belongs to COCO's results: write them with -o NAME.json", code="options-conflict"
        )


def check_folders(
    images: Sequence[str],
    inputs: Iterable[str],
    output: Path | None,
    folders: Mapping[str, Path],
    *,
    overwrite: bool,
) -> None:
    """Raise DataError where the images in a folder would replace others, or be taken for inputs the next time.

    images: all of them. inputs: of the command. output: the file with the rows. folders: for images that are written,
    by the option's name. overwrite: the folders may hold something.
    Codes: ``output-is-input``, ``output-exists``, ``output-conflict``; ConfigError ``options-conflict``.
    """
    if not folders:
        return
    if url := next(filter(is_url, images), None):
        raise ConfigError(
            f"{' and '.join(folders)} need local images, and {url} is a URL", code="options-conflict"
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
        check_output_folder(option, folder, overwrite=overwrite)
    paths = [path.resolve() for path in (*folders.values(), output) if path is not None]
    if len(set(paths)) < len(paths):
        raise DataError(f"{' and '.join(folders)} and -o: give each its own name", code="output-conflict")
