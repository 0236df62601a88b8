"""Predictions as the rows of a Parquet file: the same columns and values as `predict -o boxes.parquet` writes."""

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyarrow import parquet

from solobox.predict.prediction import Prediction
from solobox.predict.writers import Columns
from solobox.predict.writers.records import record, schema


def table(columns: Columns, predictions: Sequence[Prediction]) -> pa.Table:
    """A row for each prediction, in order; null for what there is none of."""
    return pa.Table.from_pylist([record(each, columns) for each in predictions], schema=schema(columns))


def to_bytes(rows: pa.Table, facts: Mapping[str, str]) -> bytes:
    """A Parquet file of the rows; facts are kept in its footer, where they are read without the rows."""
    file = io.BytesIO()
    parquet.write_table(rows.replace_schema_metadata(dict(facts)), file, compression="zstd")
    return file.getvalue()
