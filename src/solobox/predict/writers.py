"""Predictions as rows of a file: CSV, JSON lines, Parquet, or COCO's results, by the ending of the file's name.

Each format is written row by row, in constant memory.
"""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal, Self, TextIO, TypeAlias

from solobox.errors import ConfigError, DataError
from solobox.predict.prediction import Prediction
from solobox.utils.atomic import replacing, replacing_bytes
from solobox.utils.json_utils import parse_json
from solobox.utils.text import CsvLines

MarginColumns: TypeAlias = Literal["none", "both", "outer"]
Record: TypeAlias = dict[str, object]

ROW_GROUP = 16_384
"""Rows in a row group of a Parquet file. So many rows are held in memory."""

_EDGES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True)
class Columns:
    """The optional columns of a row; each row has the image's name, its box and its error.

    margins: ``both``: an interval for each edge (``x1_lower,x1_upper,y1_lower,...``); ``outer``: the box that holds the
        whole object (``x1_outer,...``).
    presence, familiarity: as in `Prediction`.
    raw: in a CSV, write text as it is, see `CsvLines`.
    """

    margins: MarginColumns = "none"
    presence: bool = False
    familiarity: bool = False
    raw: bool = False

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric columns: the box, its margins, presence and familiarity."""
        margins: list[str] = []
        if self.margins == "both":
            margins = [f"{edge}_{end}" for edge in _EDGES for end in ("lower", "upper")]
        elif self.margins == "outer":
            margins = [f"{edge}_outer" for edge in _EDGES]
        return [*_EDGES, *margins, *self._probabilities]

    @property
    def names(self) -> list[str]:
        """The header: the image first, the error last."""
        return ["image", *self.numbers, "error"]

    @property
    def _probabilities(self) -> list[str]:
        return [name for name in ("presence", "familiarity") if getattr(self, name)]

    def texts(self, prediction: Prediction) -> list[str]:
        """The `numbers` as text: pixels with 2 decimals, probabilities with 4, "" for NaN."""
        pixels = prediction.box.tolist()
        if self.margins == "both":
            ends = zip(prediction.lower.tolist(), prediction.upper.tolist(), strict=True)
            pixels += [pixel for pair in ends for pixel in pair]
        elif self.margins == "outer":
            pixels += prediction.outer.tolist()
        probabilities = [float(getattr(prediction, name)) for name in self._probabilities]
        return [*_texts(pixels, 2), *_texts(probabilities, 4)]

    def cells(self, prediction: Prediction) -> list[str]:
        """One row as text; an image without a box has empty coordinates."""
        return [prediction.image, *self.texts(prediction), prediction.error]

    def record(self, prediction: Prediction) -> Record:
        """One row as a JSON object: the CSV's columns with the numbers that it shows, and ``width`` and ``height``.

        What is missing is None.
        """
        width, height = (None, None) if prediction.error else prediction.size
        texts = zip(self.numbers, self.texts(prediction), strict=True)
        numbers = {name: float(text) if text else None for name, text in texts}
        error = prediction.error or None
        return {"image": prediction.image, "width": width, "height": height, **numbers, "error": error}


def _texts(values: Sequence[float], digits: int) -> list[str]:
    # Adding 0.0 turns -0.0 into 0.0.
    return ["" if value != value else f"{value + 0.0:.{digits}f}" for value in values]


# COCO's results, https://cocodataset.org/#format-results ---------------------------------------------

Id: TypeAlias = int | str


@dataclass(frozen=True, slots=True)
class ImageIds:
    """How COCO's results name the images.

    of: the image's id by the input's name. An image that is not in it is named by its path.
    category: the category of every box: the model finds one kind of object.
    categories: how many categories the file has; where there are several, `category` is the first of them.
    """

    of: Mapping[str, Id] = field(default_factory=dict)
    category: Id = 1
    categories: int = 1

    @classmethod
    def read(cls, path: Path, names: Iterable[str]) -> "ImageIds":
        """Ids of the images and the category of a COCO file with annotations, for images of these names.

        A path matches the ``file_name`` that it ends with, by whole folders; the longest one counts.

        Raises DataError: ``coco-damaged``, ``coco-no-such-image`` for an image that matches none or several of the
        file's, ``coco-same-image`` for two inputs that match the same one.
        """
        images, categories = _content(path)
        by_name: dict[str, list[tuple[tuple[str, ...], Id]]] = {}
        for image in images:
            parts = PurePath(image["file_name"]).parts
            by_name.setdefault(parts[-1] if parts else "", []).append((parts, image["id"]))
        image_ids: dict[str, Id] = {}
        taken: dict[Id, str] = {}
        for name in names:
            parts = PurePath(name).parts
            matches = [
                entry
                for entry in by_name.get(parts[-1] if parts else "", [])
                if parts[-len(entry[0]) :] == entry[0]
            ]
            longest = max((len(names) for names, _ in matches), default=0)
            ids = [identity for names, identity in matches if len(names) == longest]
            if len(ids) != 1:
                what = f"{len(ids)} images" if ids else "no image"
                raise DataError(
                    f"{path}: it has {what} with the file_name of {name}", code="coco-no-such-image"
                )
            if taken.setdefault(ids[0], name) != name:
                raise DataError(
                    f"{path}: {name} and {taken[ids[0]]} are the same image, {ids[0]}", code="coco-same-image"
                )
            image_ids[name] = ids[0]
        return cls(image_ids, categories[0] if categories else 1, max(1, len(categories)))


def coco_result(prediction: Prediction, box: Sequence[float], ids: ImageIds) -> dict[str, object]:
    """The entry of one box: ``x1, y1, x2, y2`` in pixels of the upright image.

    ``bbox`` is x, y, width, height, with 2 decimals; ``score`` is `presence`, or 1 where the model never learned that.
    """
    x1, y1, x2, y2 = box
    presence = prediction.presence
    return {
        "image_id": ids.of.get(prediction.image, prediction.image),
        "category_id": ids.category,
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "score": 1.0 if presence != presence else round(float(presence), 4),
    }


def _content(path: Path) -> tuple[list[Mapping[str, Any]], list[Id]]:
    """The images, and the categories' ids, least first."""
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"), allow_nan=True)
        images = list(content["images"])
        categories = sorted(entry["id"] for entry in content.get("categories", ()))
        if not all(
            isinstance(image["file_name"], str) and isinstance(image["id"], int | str) for image in images
        ):
            raise TypeError("an image's file_name is text and its id a number or text")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", code="file-unreadable"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: this is not a COCO JSON with images and categories ({error!r})", code="coco-damaged"
        ) from error
    return images, categories


# Formats of lines -----------------------------------------------------------------------------------


class LineWriter(ABC):
    """Writes rows to an open text file.

    appending: the file already has rows of this format, and these come after them.
    """

    def __init__(
        self, file: TextIO, columns: Columns, ids: ImageIds | None = None, *, appending: bool = False
    ) -> None:
        self._file, self._columns, self._ids, self._empty = file, columns, ids or ImageIds(), not appending

    @abstractmethod
    def put(self, prediction: Prediction) -> None:
        """Write a row."""

    def finish(self) -> None:  # noqa: B027 (most formats need nothing)
        """Write what comes after the last row."""


class CsvWriter(LineWriter):
    """CSV, the header first; see `CsvLines`."""

    def __init__(
        self, file: TextIO, columns: Columns, ids: ImageIds | None = None, *, appending: bool = False
    ) -> None:
        super().__init__(file, columns, ids, appending=appending)
        self._lines = CsvLines(file, raw=columns.raw)
        if not appending:
            self._lines.put(columns.names)

    def put(self, prediction: Prediction) -> None:
        """Write a row."""
        self._lines.put(self._columns.cells(prediction))


class JsonLinesWriter(LineWriter):
    """A JSON object a line; see `Columns.record`."""

    def put(self, prediction: Prediction) -> None:
        """Write a row."""
        self._file.write(f"{to_json(self._columns.record(prediction))}\n")


class CocoWriter(LineWriter):
    """COCO's results: one JSON list with an entry for each box; see `coco_result`."""

    def put(self, prediction: Prediction) -> None:
        """Write an entry, where there is a box."""
        box = [float(text) for text in Columns().texts(prediction) if text]
        entry = coco_result(prediction, box, self._ids) if box else None
        if entry is not None:
            self._file.write(f"{'[' if self._empty else ','}\n{to_json(entry)}")
            self._empty = False

    def finish(self) -> None:
        """End the list."""
        self._file.write("[]\n" if self._empty else "\n]\n")


def to_json(value: object) -> str:
    """A line of standard JSON: no NaN; letters of all scripts are not escaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


# Parquet --------------------------------------------------------------------------------------------


def parquet_schema(columns: Columns) -> Any:
    """Arrow's schema of `Columns.record`: strings, int32 for width and height, float64 for all other numbers.

    Raises ConfigError where pyarrow is missing.
    """
    arrow, _ = pyarrow()
    types = {
        "image": arrow.string(),
        "width": arrow.int32(),
        "height": arrow.int32(),
        "error": arrow.string(),
    }
    names = ["image", "width", "height", *columns.numbers, "error"]
    return arrow.schema([(name, types.get(name, arrow.float64())) for name in names])


def pyarrow() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``. Raises ConfigError ``missing-package``."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow: install Solobox with its [parquet] extra, or name a .csv or .jsonl",
            code="missing-package",
        ) from error
    return pa, pq


class ParquetRows:
    """Writes records to an open binary file, a row group at a time. A context manager: leaving it ends the file."""

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self._arrow, parquet = pyarrow()
        self._schema = parquet_schema(columns)
        self._rows: list[Record] = []
        self._writer = parquet.ParquetWriter(file, self._schema)

    def put(self, record: Record) -> None:
        """Write a row; see `Columns.record`."""
        self._rows.append(record)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self._rows and kind is None:
                self._flush()
        finally:
            self._writer.close()


# By the ending --------------------------------------------------------------------------------------


FORMATS: dict[str, type[LineWriter]] = {
    ".csv": CsvWriter,
    ".jsonl": JsonLinesWriter,
    ".parquet": JsonLinesWriter,  # nothing can be appended to Parquet: it is made from these lines at the end
    ".json": CocoWriter,
}
"""The writer of each format, by the ending of the output's name; see `OutputFile`."""


def check_format(path: Path) -> str:
    """The ending of an output's name, in lower case.

    Raises ConfigError: ``unknown-format`` for an ending that is not in `FORMATS`, ``missing-package`` for Parquet
    without its library.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ConfigError(
            f"{path}: the ending of the name sets the format, and {ending or 'no ending'} is not one of "
            f"{', '.join(FORMATS)}",
            code="unknown-format",
        )
    if ending == ".parquet":
        pyarrow()
    return ending


def write(
    path: Path, predictions: Iterable[Prediction], columns: Columns | None = None, ids: ImageIds | None = None
) -> Iterator[Prediction]:
    """Write a row for each prediction as it passes, and pass it on.

    The file appears under its name when all rows are written; until then an older file stays.
    ids: how COCO's results name the images.

    Raises ConfigError as `check_format`, DataError where the file cannot be written.
    """
    ending, columns = check_format(path), columns or Columns()
    with contextlib.ExitStack() as stack:
        if ending == ".parquet":
            rows = stack.enter_context(ParquetRows(stack.enter_context(replacing_bytes(path)), columns))
            for prediction in predictions:
                rows.put(columns.record(prediction))
                yield prediction
            return
        lines = FORMATS[ending](stack.enter_context(replacing(path)), columns, ids)
        for prediction in predictions:
            lines.put(prediction)
            yield prediction
        lines.finish()
