"""Predictions as rows of a file: CSV, JSON lines, Parquet, or COCO's results, by the ending of the file's name.

Each format is written row by row, in constant memory.
"""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, TextIO, TypeAlias

from solobox.errors import ConfigError
from solobox.predict.coco_results import ImageIds, coco_result
from solobox.predict.prediction import Prediction
from solobox.utils.atomic import CsvLines, replacing, replacing_bytes

MarginColumns: TypeAlias = Literal["none", "both", "outer"]
Record: TypeAlias = dict[str, object]

ROW_GROUP = 16_384
"""Rows in a row group of a Parquet file. So many rows are held in memory."""

_EDGES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row beside the image's name, its box and its error.

    margins: ``both``: an interval for each edge (``x1_lower,x1_upper,y1_lower,...``); ``outer``: the box that holds the
        whole object (``x1_outer,...``).
    presence, familiarity: as in `Prediction`.
    """

    margins: MarginColumns = "none"
    presence: bool = False
    familiarity: bool = False

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
        self._lines = CsvLines(file)
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
    """A line of JSON that is no looser than the standard: no NaN, letters of all scripts as they are."""
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
"""By the ending of the output's name, what writes the lines of an output that grows; see `OutputFile`."""


def check_format(path: Path) -> str:
    """The ending of an output's name, in lower case.

    Raises ConfigError: ``unknown-format`` for an ending that is not in `FORMATS`, ``missing-package`` for Parquet
    without its library.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ConfigError(
            f"{path}: the ending of the name sets the format, and {ending or 'no ending'} is none of "
            f"{', '.join(FORMATS)}",
            code="unknown-format",
        )
    if ending == ".parquet":
        pyarrow()
    return ending


def write(
    path: Path, predictions: Iterable[Prediction], columns: Columns | None = None, ids: ImageIds | None = None
) -> Iterator[Prediction]:
    """Write a row for each prediction as it passes, and hand it on.

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
