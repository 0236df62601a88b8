"""Images that a CSV lists."""

import csv
from pathlib import Path

from solobox.data.formats.csv import opened, sniff
from solobox.data.formats.parsing import image_name, locate
from solobox.errors import DataError


def listed(path: Path) -> list[Path]:
    """The images in the column ``image`` of a CSV, in its order; names are relative to the file's folder.

    Other columns are not looked at. ``DataError`` for a file that cannot be read or has no such column, and for
    one that lists no image.
    """
    path_of = locate(path.parent)
    with opened(path) as file:
        delimiter = sniff(file)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if "image" not in header:
            raise DataError(f"{path}: has no column 'image'; its columns are {', '.join(header) or 'none'}")
        column = header.index("image")
        names = [image_name(cells[column]) for cells in reader if len(cells) > column]
    images = [path_of(name) for name in names if name]
    if not images:
        raise DataError(f"{path}: lists no image")
    return images
