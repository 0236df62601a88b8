"""The reference article's CSV: an image's path, then its box as the text ``[x1, y1, x2, y2]``.

Read with or without a header. The text may be unquoted, and the numbers may be separated by spaces only (as NumPy
prints them). An empty text or ``[]`` lists an image without the object. A header that says other numbers, such as
COCO's word ``bbox``, makes it a plain CSV of these.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from solobox.data.formats import csv as csv_format
from solobox.data.formats.csv import opened
from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import NOT_A_BOX, box_of, head, image_name
from solobox.data.formats.records import Annotations, Record
from solobox.data.formats.text_layout import text_layout
from solobox.data.formats.writing import plain, relative_to, writable
from solobox.data.layouts import CORNERS, describe
from solobox.errors import DataError
from solobox.images.reading import is_image_name
from solobox.utils.atomic import replacing
from solobox.utils.text import CsvLines, unescape_name

NAME = "article"
LOOKS_LIKE = "a CSV of two columns, a path and the text [x1, y1, x2, y2]"
CONVENTION = "corners [x1, y1, x2, y2] in pixels"

_BRACKETED = re.compile(r"[\[(].*[\])]", re.DOTALL)
_NUMBERS = re.compile(r"[\[(][\s\d.,;eE+-]*[\])]")
_SCALAR = re.compile(r"np\.\w+\(([^()]*)\)")  # how NumPy 2 prints the numbers of a list
_SNIFFED_LINES = 200


def fits(path: Path) -> bool:
    """Whether the file starts with rows of two cells, the second a bracketed text."""
    if not path.is_file():
        return False
    lines = [line for line in head(path).splitlines() if line.strip()][:_SNIFFED_LINES]
    delimiter = _delimiter(lines)
    rows = [_halves(cells) for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    return any(_NUMBERS.fullmatch(_SCALAR.sub(r"\1", text)) for name, text in rows if name)


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read the article's CSV; paths are relative to `images`, or else to the file's folder.

    The numbers are corners, unless the header's name of the second column settles another layout. A text that is not
    four numbers gives a box of NaN. ``DataError`` for a file that cannot be decoded, or a row without a path.
    """
    folder = images or path.parent
    finder = ImageFinder(path.parent, path.parent / "images", images=images)
    records: list[Record] = []
    header, layout, is_guess = "", CORNERS, False
    with opened(path) as file:
        delimiter = _delimiter(head(path).splitlines()[:_SNIFFED_LINES])
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        line, first = reader.line_num, True
        for cells in reader:
            row, line = line + 1, reader.line_num
            name, text = _halves(cells)
            name = unescape_name(name, folder)
            if not name and not text:
                continue
            if first and _is_header(name, text):
                first = False
                layout, is_guess = text_layout((name, text), text)
                header = text
                continue
            first = False
            where = f"{path.name}, row {row}"
            if not name:
                raise DataError(f"{where}: the image path is empty", code="empty-image-name")
            records.append(Record(row, where, name, finder.find(name), _box(text), text))
    kind, convention = NAME, CONVENTION
    if layout != CORNERS:
        kind, convention = csv_format.NAME, f"{describe(layout)} (the column {header})"
    problems = finder.problems(path, records)
    return Annotations(
        path, kind, convention, tuple(records), layout=layout, layout_is_guess=is_guess, problems=problems
    )


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write the article's CSV, with the header ``image,box``.

    It has no columns for splits, groups, labels, sources and others: these are left out. Paths are relative to the
    file's folder where possible. Numbers read back exactly. ``DataError`` for a box
    that is not four finite numbers, or where the file cannot be written.
    """
    writable(rows, path)
    name_of = relative_to(path.parent)
    with replacing(path) as file:
        writer = CsvLines(file)
        writer.put(["image", "box"])
        for record in rows:
            text = f"[{', '.join(map(plain, record.box or ()))}]"
            writer.put([name_of(record.path), text])


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter between the path and the first bracket."""
    for line in lines:
        before = re.split(r"[\[(]", line, maxsplit=1)
        if len(before) == 2:
            start = before[0].rstrip('" ')
            if start[-1:] in {",", ";", "\t"}:
                return start[-1]
    return ","


def _halves(cells: Sequence[str]) -> tuple[str, str]:
    return image_name(cells[0]) if cells else "", ", ".join(cells[1:]).strip()


def _is_header(name: str, text: str) -> bool:
    return bool(text) and not _BRACKETED.fullmatch(text) and not is_image_name(name)


def _box(text: str) -> tuple[float, float, float, float] | None:
    inner = _SCALAR.sub(r"\1", text).strip()
    if inner[:1] in {"[", "("} and inner[-1:] in {"]", ")"}:
        inner = inner[1:-1].strip()
    elif inner:
        return NOT_A_BOX
    return box_of(re.split(r"\s*[,;]\s*|\s+", inner)) if inner else None
