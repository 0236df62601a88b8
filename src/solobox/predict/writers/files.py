"""Rows into files: CSV, JSON lines, Parquet, and COCO's results.

Each kind is written as the rows go by, in constant memory. The file appears under its name when all are written; until
then what was there before stays.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TextIO, TypeAlias

from solobox.errors import ConfigError
from solobox.predict.prediction import Prediction
from solobox.predict.writers.coco import ImageIds, result
from solobox.predict.writers.columns import Columns
from solobox.predict.writers.records import pyarrow, record, schema
from solobox.utils.atomic import CsvLines, replacing, replacing_bytes

Put: TypeAlias = Callable[[Prediction], None]

GROUP = 16_384
"""Rows in a row group of a Parquet file: they are held in memory."""


def writing(
    path: Path, columns: Columns | None = None, ids: ImageIds | None = None
) -> AbstractContextManager[Put]:
    """Open a file of the kind that the name's ending says, and give what writes a row into it.

    ids: which images of a COCO file the images are, for COCO's results.

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
        pyarrow()


def write(
    path: Path, predictions: Iterable[Prediction], columns: Columns | None = None, ids: ImageIds | None = None
) -> Iterator[Prediction]:
    """Write a row for each of the predictions as they go by, and hand each on; see `writing`."""
    with writing(path, columns, ids) as put:
        for prediction in predictions:
            put(prediction)
            yield prediction


class CsvRows:
    """Rows of a CSV, the header first; see `CsvLines`."""

    def __init__(self, file: TextIO, columns: Columns) -> None:
        self._columns, self._lines = columns, CsvLines(file)
        self._lines.put(columns.names)

    def put(self, prediction: Prediction) -> None:
        """Write a row."""
        self._lines.put(self._columns.cells(prediction))


@contextlib.contextmanager
def _csv(path: Path, columns: Columns, _ids: ImageIds) -> Iterator[Put]:
    with replacing(path) as file:
        yield CsvRows(file, columns).put


@contextlib.contextmanager
def _jsonl(path: Path, columns: Columns, _ids: ImageIds) -> Iterator[Put]:
    with replacing(path) as file:

        def put(prediction: Prediction) -> None:
            file.write(f"{_dumped(record(prediction, columns))}\n")

        yield put


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
    arrow, parquet = pyarrow()
    kinds = schema(columns)
    rows: list[dict[str, object]] = []
    with replacing_bytes(path) as file, parquet.ParquetWriter(file, kinds) as writer:

        def flush() -> None:
            writer.write_table(arrow.Table.from_pylist(rows, schema=kinds))
            rows.clear()

        def put(prediction: Prediction) -> None:
            rows.append(record(prediction, columns))
            if len(rows) == GROUP:
                flush()

        yield put
        if rows:
            flush()


ENDINGS: dict[str, Callable[[Path, Columns, ImageIds], AbstractContextManager[Put]]] = {
    ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, ".json": _coco,
}  # fmt: skip
"""What is written, by the ending of the file's name."""
