"""What a person names on a command line: images, folders and globs, as one list in a settled order."""

import glob
from collections.abc import Iterable
from pathlib import Path

from solobox.errors import DataError
from solobox.images.reading import is_image_name


def expand(inputs: Iterable[str | Path]) -> list[str]:
    """Images in the order of the inputs.

    A folder stands for the images in it and below, by name; a pattern with ``*``, ``?`` or ``[`` that is no
    file for what it matches, by name (``**`` for any depth); anything else for itself, whether it exists or not:
    it will have its row. Raises DataError for a folder or pattern that holds no image.
    """
    found: list[str] = []
    for item in inputs:
        text = str(item)
        if Path(text).is_dir():
            inside = sorted(
                str(path) for path in Path(text).rglob("*") if path.is_file() and is_image_name(path)
            )
            if not inside:
                raise DataError(f"no images in the folder {text}")
            found += inside
        elif glob.has_magic(text) and not Path(text).exists():
            matched = sorted(path for path in glob.glob(text, recursive=True) if Path(path).is_file())  # noqa: PTH207
            if not matched:
                raise DataError(f"nothing matches {text}")
            found += matched
        else:
            found.append(text)
    return found
