"""Rows into files: CSV, JSON lines, Parquet, and COCO's results.

Each kind is written as the rows go by, in constant memory. The file appears under its name when all are written; until
then what was there before stays.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from solobox.errors import ConfigError
from solobox.files import replacing, replacing_bytes
from solobox.inference.sinks.coco import ImageIds, result
from solobox.inference.sinks.columns import Columns
from solobox.prediction import Prediction

Put: TypeAlias = Callable[[Prediction], None]

GROUP = 16_384
"""Rows in a row group of a Parquet file: they are held in memory."""


def writing(
    path: Path, columns: Columns | None = None, ids: ImageIds | None = None
) -> AbstractContextManager[Put]:
    """Open a file of the kind that the name's ending says, and give what writes a row into it.

    ids: which images of a COCO file the pictures are, for COCO's results.

    Raises ConfigError for an ending that is not known, and where Parquet's library is missing; DataError, when used,
    for what the disk refuses.
    """
    check_ending(path)
    return ENDINGS[path.suffix.lower()](path, columns or Columns(), ids or ImageIds())


def check_ending(path: Path) -> None:
    """Raise ConfigError unless a file of this name could be written by `writing`."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError(
            f"{path}: the name's ending says what is written, and {ending or 'no ending'} is none of "
            f"{', '.join(ENDINGS)}"
        )
    if ending == ".parquet":
        _pyarrow()


def write(
    path: Path, predictions: Iterable[Prediction], columns: Columns | None = None, ids: ImageIds | None = None
) -> Iterator[Prediction]:
    """Write a row for each of the predictions as they go by, and hand each on; see `writing`."""
    with writing(path, columns, ids) as put:
        for prediction in predictions:
            put(prediction)
            yield prediction


class CsvRows:
    """Rows of a CSV: UTF-8, lines end with a line feed, a text that holds an end of line is in quotes."""

    def __init__(self, file: TextIO, columns: Columns) -> None:
        self._file = file
        self._columns = columns
        # Python's writer quotes those characters alone that it ends a line with, and file names hold both.
        self._writer = csv.writer(self, lineterminator="\r\n")
        self._writer.writerow(columns.names)

    def write(self, line: str) -> None:
        """What the library's writer calls."""
        self._file.write(f"{line[:-2]}\n")

    def put(self, prediction: Prediction) -> None:
        """Write a row."""
        self._writer.writerow(self._columns.cells(prediction))


@contextlib.contextmanager
def _csv(path: Path, columns: Columns, _ids: ImageIds) -> Iterator[Put]:
    with replacing(path) as file:
        yield CsvRows(file, columns).put


@contextlib.contextmanager
def _jsonl(path: Path, columns: Columns, _ids: ImageIds) -> Iterator[Put]:
    with replacing(path) as file:

        def put(prediction: Prediction) -> None:
            file.write(f"{_dumped(_record(prediction, columns))}\n")

        yield put


def _record(prediction: Prediction, columns: Columns) -> dict[str, object]:
    """The row as an object: the names of the CSV's columns, and the picture's width and height; null for none."""
    width, height = (None, None) if prediction.error else prediction.size
    numbers = dict(zip(columns.numbers, columns.values(prediction), strict=True))
    return {
        "image": prediction.image, "width": width, "height": height, **numbers, "error": prediction.error or None
    }  # fmt: skip


@contextlib.contextmanager
def _coco(path: Path, _columns: Columns, ids: ImageIds) -> Iterator[Put]:
    with replacing(path) as file:
        before = "["

        def put(prediction: Prediction) -> None:
            nonlocal before
            entry = result(prediction, ids)
            if entry is not None:
                file.write(f"{before}\n{_dumped(entry)}")
                before = ","

        yield put
        file.write("[]\n" if before == "[" else "\n]\n")


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def _parquet(path: Path, columns: Columns, _ids: ImageIds) -> Iterator[Put]:
    """Columns as in `_record`: texts, 32-bit integers for width and height, 64-bit floating point; null for none."""
    arrow, parquet = _pyarrow()
    kinds = {
        "image": arrow.string(),
        "width": arrow.int32(),
        "height": arrow.int32(),
        "error": arrow.string(),
    }
    names = ["image", "width", "height", *columns.numbers, "error"]
    schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in names])
    rows: list[dict[str, object]] = []
    with replacing_bytes(path) as file, parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def put(prediction: Prediction) -> None:
            rows.append(_record(prediction, columns))
            if len(rows) == GROUP:
                flush()

        yield put
        if rows:
            flush()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow: install Solobox with its [parquet] extra, or name a .csv or .jsonl"
        ) from error
    return pa, pq


ENDINGS: dict[str, Callable[[Path, Columns, ImageIds], AbstractContextManager[Put]]] = {
    ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".json": _coco,
}  # fmt: skip
"""What is written, by the ending of the file's name."""
