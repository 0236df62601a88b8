"""Open Images CSV: ``ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,...``, corners as fractions."""

from dataclasses import replace
from pathlib import Path

from solobox.data.formats import csv, tables
from solobox.data.formats.records import Annotations, Layout
from solobox.errors import DataError

NAME = "openimages"
LOOKS_LIKE = "an Open Images CSV (ImageID, LabelName, XMin, XMax, YMin, YMax)"
CONVENTION = "corners XMin,YMin,XMax,YMax as fractions of the image"

_NAMES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}


def fits(path: Path) -> bool:
    """Whether the header has Open Images' own names."""
    return path.is_file() and set(csv.header_of(path)) >= _NAMES


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all boxes. An image's name is its ID, which has no suffix. Raises DataError as `csv.read`."""
    columns = tables.columns_of(csv.header_of(path))
    if columns is None:
        raise DataError(f"{path}: is no {LOOKS_LIKE}", code="missing-column")
    columns = replace(columns, layout=Layout(unit="fractions"), convention=CONVENTION)
    return csv.read_table(path, NAME, images, columns=columns)
