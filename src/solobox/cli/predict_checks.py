"""What `solobox predict` refuses before it loads a model."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from solobox.errors import ConfigError, DataError
from solobox.predict.writers import check_ending


def check_numbers(
    margins: float | None, outer: float | None, min_presence: float | None, pad: float, *, crop: bool
) -> None:
    """Raise ConfigError for settings that are senseless, alone or beside another one."""
    if margins is not None and outer is not None:
        raise ConfigError("--margins and --outer are two kinds of one thing: give one of them")
    if min_presence is not None and not 0 <= min_presence <= 1:
        raise ConfigError(f"--min-presence is a probability from 0 to 1, not {min_presence:g}")
    if not 0 <= pad <= 10:
        raise ConfigError(f"--pad is a share of the box's sides from 0 to 10, such as 0.1, not {pad:g}")
    if pad and not crop:
        raise ConfigError("--pad belongs to --crop: name the folder for the crops")


def check_images_only(what: str, given: Mapping[str, object]) -> None:
    """Raise ConfigError where options that do not go with `what` are given: neither None nor False."""
    if wrong := [name for name, value in given.items() if value]:
        raise ConfigError(f"{' and '.join(wrong)} cannot be used with {what}")


def check_output(output: Path | None, *, resume: bool, ids: bool) -> None:
    """Raise ConfigError for a file of no known kind, and for options that are of no use without one or for it."""
    if output is None:
        if resume:
            raise ConfigError("--resume needs the -o of the run that was stopped")
    else:
        check_ending(output)
    if ids and (output is None or output.suffix.lower() != ".json"):
        raise ConfigError("--coco-ids belongs to COCO's results: write them with -o NAME.json")


def check_places(
    images: Sequence[str], inputs: Iterable[str], output: Path | None, folders: dict[str, Path]
) -> None:
    """Raise DataError where a result would take the place of something else, or be taken for an input next time.

    images: all of them. inputs: as they were given. folders: for images that are written, by the option's name.
    """
    for image in images:
        try:
            image.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the name {image!r} cannot be written as UTF-8: rename it, or leave it out"
            ) from None
    holds = {Path(folder).resolve() for folder in {os.path.dirname(image) for image in images}}  # noqa: PTH120
    searched = [Path(item).resolve() for item in inputs if Path(item).is_dir()]
    for option, folder in folders.items():
        place = folder.resolve()
        if place in holds:
            raise DataError(f"{option} {folder} holds some of these images: give it a folder of its own")
        if any(place.is_relative_to(one) for one in searched):
            raise DataError(
                f"{option} {folder} is in a folder whose images are asked for, and would be taken for some of them "
                "the next time: give it a folder of its own, elsewhere"
            )
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{option} {folder} is a file: name a folder")
    places = [folder.resolve() for folder in folders.values()]
    if len(set(places)) < len(places):
        raise DataError(f"{' and '.join(folders)} are the same folder: give each its own")
    if output is not None:
        _check_file(images, output, places)


def _check_file(images: Sequence[str], output: Path, places: Sequence[Path]) -> None:
    if output.is_dir():
        raise DataError(f"-o {output} is a folder: name a file")
    if output.resolve() in places:
        raise DataError(f"-o {output} and a folder for images are the same: give each its own name")
    if output.exists():
        alike = (image for image in images if Path(image).name == output.name)
        if any(Path(image).resolve() == output.resolve() for image in alike):
            raise DataError(f"-o {output} is one of the inputs: give it another name")
