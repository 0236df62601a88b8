"""CSV: a header with ``image,x1,y1,x2,y2`` in any order, one box a row, corners in pixels.

Read: also ``split``, ``group``, ``label``, ``source`` and ``original_image``; every other column is kept as text.
Commas, semicolons or tabs; header names in any case; UTF-8 with or without a mark. Spaces around values are dropped,
and the apostrophe before text that a spreadsheet would run as a formula. A row whose four coordinates are empty lists
an image without the object.
"""

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TextIO

from solobox.data.formats.parsing import encoding_of, head, sorted_files, split_in_name
from solobox.data.formats.records import Annotations, Problem, Record
from solobox.data.formats.tables import (
    KNOWN,
    Columns,
    Table,
    columns_of,
    columns_without_header,
    is_data,
    missing_names,
    normalized,
    without_box_sizes,
)
from solobox.data.formats.writing import plain, relative_to, writable
from solobox.errors import DataError
from solobox.utils.atomic import replacing
from solobox.utils.text import CsvLines, unescape_cell

NAME = "csv"
LOOKS_LIKE = "a CSV whose header names the image and the box, such as image,x1,y1,x2,y2"
CONVENTION = "corners x1,y1,x2,y2 in pixels"

REQUIRED = ("image", "x1", "y1", "x2", "y2")
OPTIONAL = ("split", "group", "label", "source")
ORIGINAL_IMAGE = "original_image"
"""The column of a copy that has `Record.image`, where that is not the path from the copy."""

DELIMITERS = (",", ";", "\t")
SEPARATOR = re.compile(r"""["']?sep=(.)["']?[,;\t]*""", re.IGNORECASE)
"""The first line by which a spreadsheet says what separates its cells."""

# What other tools call these columns, for a hint where the names are not similar.
_ALSO_CALLED = {
    "image": ("filename", "file", "file_name", "path", "filepath", "image_path", "img", "image", "name"),
    "x1": ("xmin", "x_min", "left", "x0", "bbox_x1"),
    "y1": ("ymin", "y_min", "top", "y0", "bbox_y1"),
    "x2": ("xmax", "x_max", "right", "bbox_x2"),
    "y2": ("ymax", "y_max", "bottom", "bbox_y2"),
}


def fits(path: Path) -> bool:
    """Whether the file's first line is text with several cells, or the folder holds one such file for each split."""
    if path.is_dir():
        return bool(tables_of(path))
    lines = first_lines(path)
    if not lines or "\0" in lines[0] or lines[0].lstrip()[:1] in {"{", "[", "<"}:
        return False
    return any(delimiter in lines[0] for delimiter in DELIMITERS)


def first_lines(path: Path) -> list[str]:
    """The lines with text at the start of a file, a line ``sep=;`` left out."""
    lines = [line for line in head(path).splitlines() if line.strip()] if path.is_file() else []
    return lines[1:] if lines and SEPARATOR.fullmatch(lines[0].strip()) else lines


def header_of(path: Path) -> list[str]:
    """The names in a file's first line with text, as `tables.normalized`; none where it is no table."""
    lines = first_lines(path)
    if not lines:
        return []
    try:
        cells = next(csv.reader([lines[0]], delimiter=sniff(io.StringIO(lines[0]))), [])
    except csv.Error:
        return []
    return [normalized(cell) for cell in cells]


def tables_of(folder: Path) -> list[Path]:
    """The tables of a folder that belong together: one for each split, by its name or by its folder's."""
    found = [
        path
        for pattern in ("*.csv", "*/_annotations.csv", "*/metadata.csv")
        for path in sorted_files(folder, pattern)
        if _split_of_file(path, folder) and columns_of(header_of(path)) is not None
    ]
    splits = [_split_of_file(path, folder) for path in found]
    return found if len(splits) == len(set(splits)) else []


def _split_of_file(path: Path, folder: Path) -> str:
    return split_in_name(path.stem if path.parent == folder else path.parent.name)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read a CSV, or a folder of one for each split; names are relative to `images`, or else to the file's folder.

    A row with an ``original_image`` is of a copy that `write` made: that is the image's name, relative to `images`;
    without `images`, or where no such file is, ``image`` leads to it from the file's folder.

    A coordinate that is no number is NaN in the record. ``DataError`` for a file that cannot be decoded, and for
    missing or repeated columns. A row without an image name or with an unknown split is a `Problem`.
    """
    if not path.is_dir():
        return read_table(path, NAME, images)
    parts = []
    for file in tables_of(path):
        inside = file.parent.name if file.parent != path else ""
        folder = None if images is None else images / inside if (images / inside).is_dir() else images
        parts.append(
            read_table(file, NAME, folder, split=_split_of_file(file, path), inside=inside, top=path)
        )
    if len({part.layout for part in parts}) > 1:
        raise DataError(f"{path}: its files have different columns: give one of them", code="missing-column")
    problems: list[Problem] = []
    count = 0
    for part in parts:
        for problem in part.problems:
            index = problem.record
            problems.append(problem if index is None else replace(problem, record=index + count))
        count += len(part.records)
    return Annotations(
        path,
        NAME,
        "; ".join(dict.fromkeys(part.convention for part in parts)),
        tuple(record for part in parts for record in part.records),
        layout=parts[0].layout,
        layout_is_guess=any(part.layout_is_guess for part in parts),
        problems=tuple(problems),
    )


def read_table(
    path: Path,
    name: str,
    images: Path | None,
    *,
    columns: Columns | None = None,
    split: str = "",
    inside: str = "",
    top: Path | None = None,
) -> Annotations:
    """Read one table, of which a format may know the `columns`.

    split: of every row that states none. inside: the folder of the file in `top`, which begins every image's name.
    Raises DataError as `read`.
    """
    with opened(path) as file:
        delimiter = sniff(file)
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        first = next(
            (cells for cells in reader if any(map(str.strip, cells)) and not _is_separator(cells)), []
        )
        if columns is None:
            columns = _columns(path, first)
        if columns is None:
            sample = [first, *islice(reader, 1000)]
            columns = columns_without_header([cells for cells in sample if any(map(str.strip, cells))])
            if columns is None:
                raise DataError(f"{path}: {missing_columns(REQUIRED, first)}", code="missing-column")
        if not columns.has_header:
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        table = Table(path, columns, decimal_comma=delimiter != ",", split=split, inside=inside, top=top)
        records = without_box_sizes(tuple(table.records(reader, images)), columns)
        if not columns.has_header and not records:
            raise DataError(f"{path}: holds no row", code="missing-column")
    problems = (*table.problems, *table.finder.problems(path, records))
    return Annotations(
        path, name, table.convention(), records, layout=columns.layout, layout_is_guess=columns.layout_is_guess,
        problems=problems,
    )  # fmt: skip


def _is_separator(cells: Sequence[str]) -> bool:
    return len(cells) <= 2 and cells[0].strip().lower().startswith("sep=")


def _columns(path: Path, header: Sequence[str]) -> Columns | None:
    """The columns by the header's names; None where the first line is data."""
    names = [unescape_cell(cell.strip()) for cell in header]
    lower = [name.lower() for name in names]
    twice = sorted({name for name in lower if name and lower.count(name) > 1})
    columns = columns_of(names)
    if twice and (columns is not None or set(lower) & set(REQUIRED)):
        raise DataError(
            f"{path}: the column {twice[0]!r} appears twice in the header", code="duplicate-column"
        )
    if columns is None and not is_data(names):
        missing = missing_names(names)
        raise DataError(f"{path}: {missing_columns(missing, names)}", code="missing-column")
    return columns


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
    if (stated := SEPARATOR.fullmatch(line.strip())) and stated[1] in DELIMITERS:
        file.seek(0)
        return stated[1]
    file.seek(0)
    rows = {d: next(csv.reader([line], delimiter=d, skipinitialspace=True), []) for d in DELIMITERS}

    def score(delimiter: str) -> tuple[int, int]:
        known = {normalized(cell) for cell in rows[delimiter]} & KNOWN
        return len(known), len(rows[delimiter])

    return max(DELIMITERS, key=score)


def missing_columns(missing: Sequence[str], names: Sequence[str]) -> str:
    """Say which columns are missing, and which of the others they may be."""
    hints = []
    for name in missing:
        lower = {cell.lower(): cell for cell in names if cell.lower() not in REQUIRED}
        called = [cell for cell in _ALSO_CALLED[name] if cell in lower]
        similar = called or difflib.get_close_matches(name, lower, n=1, cutoff=0.6)
        hints.append(f"{name} (is it {lower[similar[0]]!r}?)" if similar else name)
    text = f"the header has no {', '.join(hints)}; its columns are {', '.join(map(repr, names)) or 'none'}"
    if is_data(names):
        text += (
            "; the first line looks like data, and which of its numbers are the box cannot be told: "
            "put a line with the names of its columns above it, four of them the box's"
        )
    return text
