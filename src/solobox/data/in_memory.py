"""Annotations from arrays and data frames, whose images may be in memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from solobox.data.formats import Annotations, Record
from solobox.data.formats.csv import OPTIONAL, ORIGINAL_IMAGE, REQUIRED, missing_columns
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import NO_EXTRA, box_of, image_name, split_of
from solobox.errors import DataError
from solobox.images.reading import ImageInput

FORMAT = "arrays"
_MISSING = {"", "nan", "None", "<NA>", "NaT"}


class DataFrame(Protocol):
    """What is needed of a pandas (or polars) DataFrame."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names of the columns."""

    def __getitem__(self, key: Any, /) -> Any:
        """One column, a sequence of its values."""


def made_up_name(row: int) -> str:
    """The name of an image in memory: ``image-000001`` for row 0."""
    return f"image-{row + 1:06d}"


def short_names(images: Sequence[ImageInput]) -> list[str]:
    """For each image the last part of its path, or its made-up name."""
    return [image.name if isinstance(image, Path) else made_up_name(row) for row, image in enumerate(images)]


def from_arrays(
    images: Iterable[ImageInput],
    boxes: Iterable[Any],
    *,
    split: Iterable[Any] | None = None,
    group: Iterable[Any] | None = None,
    label: Iterable[Any] | None = None,
    source: Iterable[Any] | None = None,
    extra: Mapping[str, Sequence[str]] | None = None,
    original: Iterable[Any] | None = None,
    folder: Path | None = None,
) -> tuple[Annotations, dict[Path, ImageInput]]:
    """Records of N images, and those of the images that are no files by their `Record.path`.

    boxes: N boxes ``x1, y1, x2, y2``, each None or four NaN for an image without the object.
    original: N names of the images in the data that this is a copy of, see `Record.image`.
    folder: what relative paths are relative to.

    Raises ValueError for different lengths; DataError (``unknown-split``).
    """
    images, all_boxes = list(images), list(boxes)
    optional = dict(zip((*OPTIONAL, ORIGINAL_IMAGE), (split, group, label, source, original), strict=True))
    texts = {
        name: [""] * len(images) if values is None else [text_of(value) for value in values]
        for name, values in optional.items()
    }
    for name, values in {"boxes": all_boxes, **texts}.items():
        if len(values) != len(images):
            raise ValueError(f"{len(images)} images go with {len(images)} {name}, not {len(values)}")
    # Paths of the program itself are as they say; the working directory may be anything, a home or a disk.
    finder = ImageFinder(Path(), images=folder, only_exact=folder is None)
    in_memory: dict[Path, ImageInput] = {}
    records = []
    for row, (image, box) in enumerate(zip(images, all_boxes, strict=True)):
        where = f"row {row + 1}"
        if isinstance(image, str | Path):
            given = image_name(str(image))
            name = texts[ORIGINAL_IMAGE][row] or given
            path = finder.find(given, texts[ORIGINAL_IMAGE][row])
        else:
            name = made_up_name(row)
            path = Path(name)
            in_memory[path] = image
        records.append(
            Record(
                row=row + 1,
                where=where,
                image=name,
                path=path,
                box=_box(box),
                split=split_of(texts["split"][row], where),
                group=texts["group"][row],
                label=texts["label"][row],
                source=texts["source"][row],
                extra={name: values[row] for name, values in extra.items()} if extra else NO_EXTRA,
            )
        )
    path = Path(FORMAT)
    problems = finder.problems(path, records)
    return Annotations(
        path, FORMAT, "corners x1,y1,x2,y2 in pixels", tuple(records), problems=problems
    ), in_memory


def from_dataframe(
    frame: DataFrame, folder: Path | None = None
) -> tuple[Annotations, dict[Path, ImageInput]]:
    """As `from_arrays`, from the columns ``image, x1, y1, x2, y2`` and those of `OPTIONAL`; others are kept as text.

    Raises DataError (``missing-column``).
    """
    names = [str(name) for name in frame.columns]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise DataError(f"the data frame: {missing_columns(missing, names)}", code="missing-column")
    columns = {str(name): _values(frame[name]) for name in frame.columns}
    return from_arrays(
        columns["image"],
        list(zip(*(columns[name] for name in REQUIRED[1:]), strict=True)),
        split=columns.get("split"),
        group=columns.get("group"),
        label=columns.get("label"),
        source=columns.get("source"),
        original=columns.get(ORIGINAL_IMAGE),
        extra={
            name: [text_of(value) for value in values]
            for name, values in columns.items()
            if name not in (*REQUIRED, *OPTIONAL, ORIGINAL_IMAGE)
        },
        folder=folder,
    )


def text_of(value: object) -> str:
    """A cell as text; ``""`` for None and the missing values of pandas."""
    text = str(value).strip()
    return "" if text in _MISSING else text


def _values(column: Any) -> list[Any]:
    for name in ("tolist", "to_list"):
        if hasattr(column, name):
            return list(getattr(column, name)())
    return list(column)


def _box(box: Any) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    values = [value.item() if isinstance(value, np.generic) else value for value in box]
    if len(values) == 4 and not any(text_of(value) for value in values):
        return None
    return box_of(values)
