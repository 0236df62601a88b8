"""CSV: a header with ``image,x1,y1,x2,y2`` in any order, one box a row, corners in pixels.

Read: also ``split``, ``group``, ``label``, ``source`` and ``original_image``; every other column is kept as text.
Commas, semicolons or tabs; header names in any case; UTF-8 with or without a mark. Spaces around values are dropped,
and the apostrophe before text that a spreadsheet would run as a formula. A row whose four coordinates are empty lists
an image without the object.
"""

import csv
import difflib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    NO_EXTRA,
    NOT_A_BOX,
    box_of,
    encoding_of,
    head,
    image_name,
    split_of,
)
from solobox.data.formats.records import Annotations, Record
from solobox.data.formats.writing import plain, relative_to, writable
from solobox.errors import DataError
from solobox.utils.atomic import replacing
from solobox.utils.text import CsvLines, unescape_cell, unescape_name

if TYPE_CHECKING:
    from _csv import Reader

NAME = "csv"
LOOKS_LIKE = "a CSV whose header has image,x1,y1,x2,y2"
CONVENTION = "corners x1,y1,x2,y2 in pixels"

REQUIRED = ("image", "x1", "y1", "x2", "y2")
OPTIONAL = ("split", "group", "label", "source")
ORIGINAL_IMAGE = "original_image"
"""The column of a copy that has `Record.image`, where that is not the path from the copy."""

DELIMITERS = (",", ";", "\t")

# What other tools call these columns, for a hint where the names are not similar.
_ALSO_CALLED = {
    "image": ("filename", "file", "file_name", "path", "filepath", "image_path", "img", "image", "name"),
    "x1": ("xmin", "x_min", "left", "x0", "bbox_x1"),
    "y1": ("ymin", "y_min", "top", "y0", "bbox_y1"),
    "x2": ("xmax", "x_max", "right", "bbox_x2"),
    "y2": ("ymax", "y_max", "bottom", "bbox_y2"),
}


@dataclass(frozen=True, slots=True)
class _Columns:
    width: int
    image: int
    box: tuple[int, int, int, int]
    optional: tuple[int, int, int, int]  # one past the end where there is no such column
    original: int  # the same
    extra: tuple[tuple[str, int], ...]


def fits(path: Path) -> bool:
    """Whether the file's first line is text with several cells."""
    if not path.is_file():
        return False
    lines = head(path).lstrip("\r\n").splitlines()
    return bool(lines) and "\0" not in lines[0] and any(delimiter in lines[0] for delimiter in DELIMITERS)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a CSV; image names are relative to `images`, or else to the file's folder.

    A row with an ``original_image`` is of a copy that `write` made: that is the image's name, relative to `images`;
    without `images`, or where no such file is, ``image`` leads to it from the file's folder.

    A coordinate that is no number is NaN in the record. ``DataError`` for a file that cannot be decoded,
    missing or repeated columns, a row without an image name, or an unknown split.
    """
    with opened(path) as file:
        delimiter = sniff(file)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        columns = _columns(path, next((cells for cells in reader if any(map(str.strip, cells))), []))
        finder = ImageFinder(path.parent, images=images)
        records = tuple(_records(path, reader, columns, path.parent, images, finder))
    return Annotations(path, NAME, CONVENTION, records, problems=finder.problems(path, records))


def write(path: Path, rows: Sequence[Record], *, raw: bool = False) -> None:
    """Write a CSV with commas. Columns that no row fills are left out, the image and the box excepted.

    The column ``image`` is relative to the file's folder where possible; where `Record.image` differs, the column
    ``original_image`` keeps it. Numbers read back exactly. raw: as in `CsvLines`.
    ``DataError`` for a box that is not four finite numbers, or where the file cannot be written.
    """
    writable(rows, path)
    optional = [name for name in OPTIONAL if any(getattr(record, name) for record in rows)]
    extra = list(dict.fromkeys(name for record in rows for name in record.extra))
    name_of = relative_to(path.parent)
    copied = any(record.image != name_of(record.path) for record in rows)
    with writing(path, [*optional, *([ORIGINAL_IMAGE] if copied else [])], extra, raw=raw) as add:
        for record in rows:
            add(record)


@contextmanager
def writing(
    path: Path, optional: Sequence[str], extra: Sequence[str], *, raw: bool = False
) -> Iterator[Callable[[Record], None]]:
    """Write a CSV row by row, for more rows than fit in memory; otherwise as `write`.

    optional: those of `OPTIONAL` and `ORIGINAL_IMAGE` that become columns. extra: other columns, filled from
    `Record.extra`.
    Yields the function that adds a row, which may have any box. The file appears when the block ends without an error.
    """
    name_of = relative_to(path.parent)
    with replacing(path) as file:
        writer = CsvLines(file, raw=raw)
        writer.put([*REQUIRED, *optional, *extra])

        def add(record: Record) -> None:
            writer.put(
                [
                    name_of(record.path),
                    *([""] * 4 if record.box is None else map(plain, record.box)),
                    *(getattr(record, "image" if name == ORIGINAL_IMAGE else name) for name in optional),
                    *(record.extra.get(name, "") for name in extra),
                ]
            )

        yield add


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a delimited file in its encoding. Raises DataError: ``not-utf8``, ``bad-csv``, ``unreadable-file``."""
    try:
        with path.open("rb") as start:
            encoding = encoding_of(start.read(2))
        with path.open(encoding=encoding, newline="") as file:
            yield file
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8: save it as CSV UTF-8", code="not-utf8") from None
    except csv.Error as error:
        raise DataError(
            f"{path}: is broken as a CSV: {error} (is a quotation mark not closed?)", code="bad-csv"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", code="unreadable-file"
        ) from None


def sniff(file: TextIO) -> str:
    """The delimiter of the first line with text; the file is left at its start."""
    while (line := file.readline()) and not line.strip():
        pass
    file.seek(0)
    rows = {d: next(csv.reader([line], delimiter=d, skipinitialspace=True), []) for d in DELIMITERS}

    def score(delimiter: str) -> tuple[int, int]:
        known = {cell.strip().lower() for cell in rows[delimiter]} & set(REQUIRED)
        return len(known), len(rows[delimiter])

    return max(DELIMITERS, key=score)


def _columns(path: Path, header: Sequence[str]) -> _Columns:
    names = [unescape_cell(cell.strip()) for cell in header]
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if name and lower.count(name) > 1})
    if twice:
        raise DataError(
            f"{path}: the column {twice[0]!r} appears twice in the header", code="duplicate-column"
        )
    missing = [name for name in REQUIRED if name not in lower]
    if missing:
        raise DataError(f"{path}: {missing_columns(missing, names)}", code="missing-column")
    at = {name: index for index, name in enumerate(lower)}
    known = {*REQUIRED, *OPTIONAL, ORIGINAL_IMAGE}
    end = len(names)
    return _Columns(
        width=end,
        image=at["image"],
        box=(at["x1"], at["y1"], at["x2"], at["y2"]),
        optional=(at.get("split", end), at.get("group", end), at.get("label", end), at.get("source", end)),
        original=at.get(ORIGINAL_IMAGE, end),
        extra=tuple((name, index) for index, name in enumerate(names) if lower[index] not in known),
    )


def missing_columns(missing: Sequence[str], names: Sequence[str]) -> str:
    """Say which columns are missing, and which of the others they may be."""
    hints = []
    for name in missing:
        lower = {cell.lower(): cell for cell in names if cell.lower() not in REQUIRED}
        called = [cell for cell in _ALSO_CALLED[name] if cell in lower]
        similar = called or difflib.get_close_matches(name, lower, n=1, cutoff=0.6)
        hints.append(f"{name} (is it {lower[similar[0]]!r}?)" if similar else name)
    text = f"the header has no {', '.join(hints)}; its columns are {', '.join(map(repr, names)) or 'none'}"
    if any(cell.replace(".", "", 1).isdigit() for cell in names):
        text += "; the first line looks like data: add the line image,x1,y1,x2,y2 above it"
    return text


def _records(
    path: Path, reader: "Reader", columns: _Columns, folder: Path, images: Path | None, finder: ImageFinder
) -> Iterator[Record]:
    names_in = images or folder
    original_at = columns.original
    width, extras = columns.width, columns.extra
    x1, y1, x2, y2 = columns.box
    split_at, group_at, label_at, source_at = columns.optional
    splits = {"": ""}
    prefix = f"{path.name}, row "
    line = reader.line_num
    for cells in reader:
        row, line = line + 1, reader.line_num
        overflow: list[str] = []
        if len(cells) != width:
            if not any(map(str.strip, cells)):
                continue
            cells, overflow = cells[:width] + [""] * (width - len(cells)), cells[width:]
        cells.append("")  # the cell past the end stands for each missing optional column
        where = f"{prefix}{row}"
        image = unescape_name(image_name(cells[columns.image]), names_in)
        if not image:
            if not any(map(str.strip, cells)):
                continue
            raise DataError(f"{where}: the image name is empty", code="empty-image-name")
        text, box = _box(cells[x1], cells[y1], cells[x2], cells[y2])
        if overflow and any(map(str.strip, overflow)):
            # More cells than columns: a stray delimiter shifted the values, so none can be trusted.
            text = f"{', '.join(cells[:width] + overflow)} ({width} columns expected)"
            box = NOT_A_BOX
        original = unescape_name(image_name(cells[original_at]), names_in)
        word = cells[split_at]
        if word not in splits:
            splits[word] = split_of(word, where)
        extra = {name: unescape_cell(cells[index].strip()) for name, index in extras} if extras else NO_EXTRA
        yield Record(
            row,
            where,
            original or image,
            finder.find(image, original),
            box,
            text,
            sys.intern(unescape_cell(cells[label_at].strip())),
            splits[word],
            unescape_cell(cells[group_at].strip()),
            sys.intern(unescape_cell(cells[source_at].strip())),
            extra,
        )


def _box(a: str, b: str, c: str, d: str) -> tuple[str, tuple[float, float, float, float] | None]:
    text = f"{a}, {b}, {c}, {d}"
    try:
        box = float(a), float(b), float(c), float(d)
    except ValueError:
        return (text, box_of((a, b, c, d))) if text.strip(", ") else ("", None)
    # Nearly every row ends here; the rest is text that Python accepts as a number and people do not.
    if "_" in text or not math.isfinite(sum(box)):
        return text, box_of((a, b, c, d))
    return text, box
