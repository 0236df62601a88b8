"""Rows as values, for the kinds of files that keep numbers as numbers: JSON lines and Parquet."""

from typing import Any

from solobox.errors import ConfigError
from solobox.predict.prediction import Prediction
from solobox.predict.writers.columns import Columns


def record(prediction: Prediction, columns: Columns) -> dict[str, object]:
    """The row as an object: the names of the CSV's columns, and the image's width and height; null for none."""
    width, height = (None, None) if prediction.error else prediction.size
    numbers = dict(zip(columns.numbers, columns.values(prediction), strict=True))
    return {
        "image": prediction.image, "width": width, "height": height, **numbers, "error": prediction.error or None
    }  # fmt: skip


def schema(columns: Columns) -> Any:
    """Arrow's schema of `record`: texts, 32-bit integers for width and height, 64-bit floating point for the others.

    Raises ConfigError where pyarrow is missing.
    """
    arrow, _ = pyarrow()
    kinds = {
        "image": arrow.string(),
        "width": arrow.int32(),
        "height": arrow.int32(),
        "error": arrow.string(),
    }
    names = ["image", "width", "height", *columns.numbers, "error"]
    return arrow.schema([(name, kinds.get(name, arrow.float64())) for name in names])


def pyarrow() -> tuple[Any, Any]:
    """Arrow and its Parquet. Raises ConfigError, which names the extra, where they are missing."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow: install Solobox with its [parquet] extra, or name a .csv or .jsonl"
        ) from error
    return pa, pq
