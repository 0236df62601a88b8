"""Google AutoML and Vertex AI CSV without a header: ``set,path,label,x_min,y_min,,,x_max,y_max,,``, fractions."""

from pathlib import Path

from solobox.data.formats import csv
from solobox.data.formats.records import Annotations, Layout
from solobox.data.formats.tables import Columns
from solobox.images.reading import is_image_name

NAME = "automl"
LOOKS_LIKE = "a Google AutoML CSV (TRAIN,gs://...,label,x_min,y_min,,,x_max,y_max,,)"
CONVENTION = "corners x_min,y_min,x_max,y_max as fractions of the image"

_SETS = {"train", "training", "validation", "test", "testing", "unassigned"}
_COLUMNS = Columns(
    width=11,
    images=(1,),
    box=(3, 4, 7, 8),
    layout=Layout(unit="fractions"),
    convention=CONVENTION,
    has_header=False,
    split=0,
    label=2,
)


def fits(path: Path) -> bool:
    """Whether the first line is a set, an image, and the cells of a box."""
    cells = csv.header_of(path) if path.is_file() else []
    raw = csv.first_lines(path)[0].split(",") if cells else []
    return len(raw) >= 9 and cells[0] in _SETS and is_image_name(raw[1].strip().strip('"'))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all boxes; a row without one is an image without the object. Raises DataError as `csv.read`."""
    return csv.read_table(path, NAME, images, columns=_COLUMNS)
