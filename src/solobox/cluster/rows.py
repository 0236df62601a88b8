"""Predictions as the rows of a Parquet file: the same columns and values as `predict -o boxes.parquet` writes."""

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyarrow import parquet

from solobox.inference.sinks import Columns
from solobox.prediction import Prediction


def schema(columns: Columns) -> pa.Schema:
    """``image``, ``width`` and ``height`` of the upright picture, the numbers of `Columns`, ``error``."""
    numbers = [(name, pa.float64()) for name in columns.names[1:-1]]
    size = [("width", pa.int32()), ("height", pa.int32())]
    return pa.schema([("image", pa.string()), *size, *numbers, ("error", pa.string())])


def table(columns: Columns, predictions: Sequence[Prediction]) -> pa.Table:
    """A row for each prediction, in order; null for what there is none of."""
    rows = []
    for prediction in predictions:
        # Through the texts of the CSV, so that both say the same to the last digit.
        image, *texts, error = columns.cells(prediction)
        size = (None, None) if prediction.error else prediction.size
        rows.append((image, *size, *(float(text) if text else None for text in texts), error or None))
    names = schema(columns).names
    return pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)), schema(columns))


def to_bytes(rows: pa.Table, facts: Mapping[str, str]) -> bytes:
    """A Parquet file of the rows; facts are kept in its footer, where they are read without the rows."""
    file = io.BytesIO()
    parquet.write_table(rows.replace_schema_metadata(dict(facts)), file, compression="zstd")
    return file.getvalue()
