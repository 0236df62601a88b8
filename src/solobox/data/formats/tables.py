"""Tables of boxes: which column is what, by the names that people and tools use, and a record for each row."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from solobox.data.formats.image_finder import ImageFinder
from solobox.data.formats.parsing import (
    NO_EXTRA,
    NOT_A_BOX,
    box_of,
    image_name,
    number,
    says_no_object,
    split_of,
)
from solobox.data.formats.records import Box, Layout, Problem, Record
from solobox.data.formats.text_layout import text_layout
from solobox.data.layouts import describe
from solobox.errors import DataError
from solobox.images.reading import is_image_name
from solobox.utils.text import unescape_cell, unescape_name

_IMAGE = (
    *("image", "filename", "file_name", "filepath", "file_path", "path", "image_path", "imagepath", "file"),
    *("image_file", "image_name", "imagename", "image_filename", "img", "img_path", "img_name", "image_id"),
    *("imageid", "img_id", "name"),
)
_X1 = ("x1", "xmin", "x_min", "left", "bbox_x1", "bbox_xmin", "bbox_x_min", "box_x1", "minx", "min_x", "x0")
_Y1 = ("y1", "ymin", "y_min", "top", "bbox_y1", "bbox_ymin", "bbox_y_min", "box_y1", "miny", "min_y", "y0")
_X2 = ("x2", "xmax", "x_max", "right", "bbox_x2", "bbox_xmax", "bbox_x_max", "box_x2", "maxx", "max_x")
_Y2 = ("y2", "ymax", "y_max", "bottom", "bbox_y2", "bbox_ymax", "bbox_y_max", "box_y2", "maxy", "max_y")
_CX = ("cx", "x_center", "xcenter", "center_x", "x_centre", "centre_x", "xc", "bbox_cx", "bbox_x_center")
_CY = ("cy", "y_center", "ycenter", "center_y", "y_centre", "centre_y", "yc", "bbox_cy", "bbox_y_center")
_X = ("x", "bbox_x", "box_x", *_X1)
_Y = ("y", "bbox_y", "box_y", *_Y1)
_W = ("w", "bbox_w", "bbox_width", "box_w", "box_width", "width")
_H = ("h", "bbox_h", "bbox_height", "box_h", "box_height", "height")
_BBOX = ("bbox", "box", "bounding_box", "boundingbox", "boxes", "bboxes")
_WIDTH = ("image_width", "img_width", "imagewidth", "image_w", "img_w", "width")
_HEIGHT = ("image_height", "img_height", "imageheight", "image_h", "img_h", "height")
_LABEL = ("label", "class", "category", "class_name", "category_name", "classname", "labelname", "name")

KNOWN = frozenset(
    {*_IMAGE, *_X, *_Y, *_X2, *_Y2, *_CX, *_CY, *_W, *_H, *_BBOX, *_WIDTH, *_HEIGHT, *_LABEL, "split"}
)
"""Every name of a column that means something here."""

_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "[]", "-"})
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_NUMBERS = re.compile(r"[^\s,;\[\]()]+")
_LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        "xyxy": "corners {} in pixels",
        "xywh": "corner and size {} in pixels",
        "cxcywh": "centre and size {} in pixels",
    }
)


PIXEL_CORNERS = Layout()


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a row everything is. An index of -1 is a column that the table lacks.

    box: the four numbers of a box, or one column with all of them. images: every column that names the image, the
    most trusted first. convention: the layout, in words. layout_is_guess: as in `Annotations`.
    """

    width: int
    images: tuple[int, ...]
    box: tuple[int, ...]
    layout: Layout = PIXEL_CORNERS
    layout_is_guess: bool = False
    convention: str = ""
    has_header: bool = True
    split: int = -1
    group: int = -1
    label: int = -1
    source: int = -1
    original: int = -1
    size: tuple[int, int] | None = None
    extra: tuple[tuple[str, int], ...] = ()


def normalized(name: str) -> str:
    """A column's name as it is compared: in lower case, ``_`` for other signs between words."""
    return re.sub(r"[\s.\-/]+", "_", unescape_cell(name.strip()).lower())


def columns_of(header: Sequence[str]) -> Columns | None:
    """The columns by their names; None where the image or the box is missing."""
    names = [normalized(cell) for cell in header]
    at = {name: index for index, name in reversed(list(enumerate(names))) if name}

    def first(choices: Iterable[str]) -> int:
        return next((at[name] for name in choices if name in at), -1)

    images = tuple(at[name] for name in _IMAGE if name in at)
    if "name" in at and len(images) > 1:
        images = images[:-1]  # beside another one it is the object's
    found = _box_columns(at)
    if not images or found is None:
        return None
    box, layout = found
    words = ",".join(header[index].strip() for index in box)
    convention, is_guess = _LAYOUTS[layout.order].format(words), False
    if len(box) == 1:
        layout, is_guess = text_layout(header, words)
        convention = f"{describe(layout)} (the column {words})"
    used = {*box, *images[:1]}
    sizes = tuple(
        next((at[name] for name in choices if name in at and at[name] not in box), -1)
        for choices in (_WIDTH, _HEIGHT)
    )
    size = (sizes[0], sizes[1]) if min(sizes) >= 0 else None
    label = next((at[name] for name in _LABEL if name in at and at[name] not in used), -1)
    others = {key: first((key,)) for key in ("split", "group", "source", "original_image")}
    if others["split"] < 0:
        others["split"] = first(("set", "subset", "partition", "fold_name"))
    used |= {label, *others.values(), *(size or ())}
    return Columns(
        width=len(header),
        images=images,
        box=box,
        layout=layout,
        layout_is_guess=is_guess,
        convention=convention,
        split=others["split"],
        group=others["group"],
        label=label,
        source=others["source"],
        original=others["original_image"],
        size=size,
        extra=tuple(
            (unescape_cell(name.strip()), index) for index, name in enumerate(header) if index not in used
        ),
    )


def _box_columns(at: Mapping[str, int]) -> tuple[tuple[int, ...], Layout] | None:
    if "x0" in at and "y0" in at and "x2" not in at and "x1" in at and "y1" in at:
        return (at["x0"], at["y0"], at["x1"], at["y1"]), Layout()
    families = (
        ((_X1, _Y1, _X2, _Y2), Layout()),
        ((_CX, _CY, _W, _H), Layout(order="cxcywh")),
        ((_X, _Y, _W, _H), Layout(order="xywh")),
        ((_BBOX,), Layout(order="xywh")),
    )
    for family, layout in families:
        found = tuple(next((at[name] for name in names if name in at), -1) for names in family)
        if min(found) >= 0:
            return found, layout
    return None


def missing_names(header: Sequence[str]) -> list[str]:
    """Which of ``image, x1, y1, x2, y2`` a header has by none of their names."""
    names = {normalized(cell) for cell in header}
    choices = {"image": _IMAGE, "x1": _X1, "y1": _Y1, "x2": _X2, "y2": _Y2}
    return [key for key, known in choices.items() if not names & set(known)]


def is_data(cells: Sequence[str]) -> bool:
    """Whether the first line of a table is a row and no header."""
    return any(not math.isnan(_number(cell)) for cell in cells) or any(map(is_image_name, cells))


def columns_without_header(rows: Sequence[Sequence[str]]) -> Columns | None:
    """The columns of a table without a header by what is in them: an image, and the only four numbers in a row.

    A number after the four is the label. None where that does not say which numbers are the box.
    """
    width = max((len(row) for row in rows), default=0)
    columns = [[row[index].strip() for row in rows if index < len(row)] for index in range(width)]
    images = [i for i, cells in enumerate(columns) if cells and all(map(is_image_name, cells))]
    numbers = [
        any(cells) and all(cell.lower() in _EMPTY or not math.isnan(_number(cell)) for cell in cells)
        for cells in columns
    ]
    runs: list[list[int]] = []
    for index, numeric in enumerate(numbers):
        if numeric and index and numbers[index - 1]:
            runs[-1].append(index)
        elif numeric:
            runs.append([index])
    runs = [run for run in runs if len(run) >= 4]
    if len(images) != 1 or len(runs) != 1 or len(runs[0]) > 5:
        return None
    box = tuple(runs[0][:4])
    rest = [index for index in range(width) if index not in {*box, *images}]
    label = runs[0][4] if len(runs[0]) == 5 else next((i for i in rest if i > box[3]), -1)
    return Columns(
        width=width,
        images=(images[0],),
        box=box,
        convention=f"no header: columns {box[0] + 1} to {box[3] + 1} are corners x1,y1,x2,y2 in pixels",
        has_header=False,
        label=label,
        extra=tuple((f"column_{index + 1}", index) for index in rest if index != label),
    )


class Table:
    """Reads the rows of one table.

    path: the file. decimal_comma: whether ``1,5`` is a number. split, inside, top: see `csv.read_table`.
    After `records`: `problems` are the faults of rows, and `convention` says how the file was read.
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        *,
        decimal_comma: bool = False,
        split: str = "",
        inside: str = "",
        top: Path | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self._path, self._columns, self._decimal_comma = path, columns, decimal_comma
        self._split, self._inside, self._top = split, inside, top
        self._without: Counter[str] = Counter()
        self._splits = {"": split, "UNASSIGNED": split}  # the second is Google's word
        self._count = 0
        self.finder = ImageFinder(path.parent)

    def convention(self) -> str:
        """The layout, and how the file writes that an image is without the object, in words."""
        ways = [f"{way} means no object ({count:,} rows)" for way, count in self._without.most_common()]
        return "; ".join([self._columns.convention, *ways])

    def records(self, rows: Iterable[list[str]], images: Path | None) -> Iterator[Record]:
        """Yield the records of a `csv.reader` that has read the header."""
        columns = self._columns
        folder = self._path.parent
        split_at, group_at, label_at, source_at = columns.split, columns.group, columns.label, columns.source
        finder = self.finder = ImageFinder(*self._folders(), images=images)
        shown = f"{self._inside}/{self._path.name}" if self._inside else self._path.name
        prefix, width = f"{shown}, row ", columns.width
        line: int = getattr(rows, "line_num", 0)
        for cells in rows:
            row, line = line + 1, getattr(rows, "line_num", line + 1)
            overflow: list[str] = []
            if len(cells) != width:
                if not any(map(str.strip, cells)) or cells[0].strip().lower().startswith("sep="):
                    continue
                cells, overflow = cells[:width] + [""] * (width - len(cells)), cells[width:]
            cells.append("")  # the cell at -1 stands for each missing column
            where = f"{prefix}{row}"
            name = next((cells[at] for at in columns.images if cells[at].strip()), "")
            image = unescape_name(image_name(name), images or folder)
            if not image:
                if any(map(str.strip, cells)):
                    advice = "write the image's name, or delete the row"
                    message = "the image name is empty"
                    self.problems.append(Problem("empty-image-name", where, row, "", message, advice))
                continue
            original = unescape_name(image_name(cells[columns.original]), images or folder)
            split = self._split_of(cells[split_at], where, row, original or image)
            found: list[tuple[str, Box | None]]
            label = sys.intern(unescape_cell(cells[label_at].strip()))
            if overflow and any(map(str.strip, overflow)):
                # More cells than columns: a stray delimiter shifted the values, so none can be trusted.
                text = f"{', '.join(cells[:width] + overflow)} ({width} columns expected)"
                found = [(text, NOT_A_BOX)]
            elif len(columns.box) == 1:
                found = self._boxes(cells[columns.box[0]])
            else:
                a, b, c, d = (cells[at] for at in columns.box)
                found = [self._box(a, b, c, d)]
            if all(box is not None and not any(box) for _, box in found) and says_no_object(label):
                self._without[f"the label {label}"] += 1
                found, label = [(found[0][0], None)], ""
            path = finder.find(image, original)
            record = Record(
                row,
                where,
                f"{self._inside}/{original or image}" if self._inside else original or image,
                path,
                found[0][1],
                found[0][0],
                label,
                split,
                unescape_cell(cells[group_at].strip()),
                sys.intern(unescape_cell(cells[source_at].strip())),
                {key: unescape_cell(cells[at].strip()) for key, at in columns.extra}
                if columns.extra
                else NO_EXTRA,
                self._size(cells),
                self._other_path(cells, path, finder) if len(columns.images) > 1 else None,
            )
            self._count += len(found)
            yield record
            for text, box in found[1:]:
                yield replace(record, box=box, text=text)

    def _folders(self) -> list[Path]:
        folder = self._path.parent
        split_folder = [folder / self._split] if self._split and not self._inside else []
        return [folder, *split_folder, folder / "images"]

    def _size(self, cells: Sequence[str]) -> tuple[float, float] | None:
        if self._columns.size is None:
            return None
        width, height = (self._number(cells[at]) for at in self._columns.size)
        return (width, height) if width > 0 and height > 0 else None

    def _other_path(self, cells: Sequence[str], path: Path, finder: ImageFinder) -> Path | None:
        """Another existing image that a second key names; a key that names none, such as a number, says nothing."""
        for at in self._columns.images:
            name = image_name(cells[at])
            if name:
                other = finder.find(name)
                if other != path and other.exists() and path.exists():
                    return other
        return None

    def _split_of(self, word: str, where: str, row: int, image: str) -> str:
        if word not in self._splits:
            try:
                self._splits[word] = split_of(word, where) or self._split
            except DataError:
                advice = "write one of train, val, test, or leave it empty"
                message = f"the split {word.strip()!r} is unknown"
                self.problems.append(
                    Problem("unknown-split", where, row, image, message, advice, self._count)
                )
                return ""
        return self._splits[word]

    def _number(self, cell: str) -> float:
        return _number(cell, decimal_comma=self._decimal_comma)

    def _box(self, a: str, b: str, c: str, d: str) -> tuple[str, Box | None]:
        text = f"{a}, {b}, {c}, {d}"
        try:
            box = float(a), float(b), float(c), float(d)
        except ValueError:
            return self._odd_box(text, (a, b, c, d))
        # Nearly every row ends here; the rest is text that Python accepts as a number and people do not.
        if "_" in text or not math.isfinite(sum(box)):
            return self._odd_box(text, (a, b, c, d))
        return text, box

    def _odd_box(self, text: str, cells: tuple[str, str, str, str]) -> tuple[str, Box | None]:
        words = {cell.strip().lower() for cell in cells}
        if words <= _EMPTY:
            self._without["empty cells" if words == {""} else f"{cells[0].strip() or cells[1].strip()}"] += 1
            return "", None
        return text, box_of(map(self._number, cells))

    def _boxes(self, cell: str) -> list[tuple[str, Box | None]]:
        """The boxes in one cell of text: ``[1, 2, 3, 4]``, ``1 2 3 4``, or a list of such lists."""
        text = cell.strip()
        if text.lower() in _EMPTY:
            self._without[text or "an empty cell"] += 1
            return [(text, None)]
        numbers = _NUMBERS.findall(text)
        if all(word.lower() in _EMPTY for word in numbers):
            self._without[text] += 1
            return [(text, None)]
        if len(numbers) % 4 or not numbers:
            return [(text, NOT_A_BOX)]
        groups = [numbers[start : start + 4] for start in range(0, len(numbers), 4)]
        return [(", ".join(group), box_of(group)) for group in groups]


def without_box_sizes(records: tuple[Record, ...], columns: Columns) -> tuple[Record, ...]:
    """Drop recorded sizes that are the boxes' own: beside four corners, ``width`` may be either.

    They are the boxes' where they say so in every row, to a pixel, and not all boxes begin at 0.
    """
    if columns.size is None or columns.layout.order != "xyxy":
        return records
    told = [(record.box, record.size) for record in records if record.box and record.size]
    own = all(abs(b[2] - b[0] - w) <= 1 and abs(b[3] - b[1] - h) <= 1 for b, (w, h) in told)
    if not told or not own or all(b[0] <= 1 and b[1] <= 1 for b, _ in told):
        return records
    return tuple(replace(record, size=None) for record in records)


def _number(cell: str, *, decimal_comma: bool = True) -> float:
    if decimal_comma and _DECIMAL_COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    return number(cell)
