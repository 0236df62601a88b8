"""One row of a dataset, the record of it that the formats write, and the choice of some rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.data.formats import Record
from solobox.images.reading import ImageInput

PREDICTED = "predicted"
"""`Sample.source` of a box that a model predicted and nobody looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One row of a `Dataset`.

    image: a path, or an image in memory.
    box: shape (4,), float64, read-only: ``x1, y1, x2, y2`` in pixels of the upright image; None for an image without
        the object.
    label, split, group, source, name: as in `solobox.data.dataset.Dataset`.
    """

    image: ImageInput
    box: Floats | None
    label: str
    split: str
    group: str
    source: str
    name: str


def record_of(sample: Sample, row: int, where: str, extra: Mapping[str, str]) -> Record:
    """A sample as a record; `Record.path` of an image in memory is its name.

    row: its number, from 1. where: its location for messages. extra: the data's other columns.
    """
    box = None
    if sample.box is not None:
        x1, y1, x2, y2 = sample.box.tolist()
        box = x1, y1, x2, y2
    return Record(
        row=row,
        where=where,
        image=sample.name,
        path=sample.image if isinstance(sample.image, Path) else Path(sample.name),
        box=box,
        split=sample.split,
        group=sample.group,
        label=sample.label,
        source=sample.source,
        extra=extra,
    )


def row_numbers(rows: npt.ArrayLike, count: int) -> npt.NDArray[np.integer]:
    """Row numbers (k,) of a mask (count,), or of row numbers in any order. Raises ValueError."""
    chosen = np.asarray(rows)
    if chosen.dtype == np.bool_:
        if chosen.shape != (count,):
            raise ValueError(f"a mask of {count} rows has shape ({count},), not {chosen.shape}")
        return np.flatnonzero(chosen)
    if chosen.size == 0:
        return np.zeros(0, dtype=np.intp)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"rows are a mask or row numbers, not {chosen.dtype} of shape {chosen.shape}")
    return chosen
