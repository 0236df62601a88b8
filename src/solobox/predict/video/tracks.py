"""A box for each image of a clip: predicting along it, and its rows in a file."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeAlias

import numpy as np

from solobox.errors import ConfigError
from solobox.predict.prediction import Prediction
from solobox.predict.video.frames import Frame
from solobox.predict.writers import Columns
from solobox.utils.atomic import CsvLines, replacing

Row: TypeAlias = tuple[Frame, Prediction]

_TEXT = ("image", "error")


class Predictor(Protocol):
    """What gives boxes, in order and in constant memory: a `Localizer`, or an exported model."""

    def stream(
        self, inputs: Iterable[Any], *, level: float | None = None, outer: bool = False
    ) -> Iterator[Prediction]:
        """One prediction for each image, (h, w, 3) uint8 RGB."""
        ...


def along(
    model: Predictor, name: str, frames: Iterable[Frame], *, level: float | None = None, outer: bool = False
) -> Iterator[Row]:
    """Predict each image of a clip; one that could not be decoded gets a prediction with its error.

    name: of the clip, which becomes `Prediction.image`. level, outer: as `Localizer.predict` takes them. No more
    frames are held than the model takes ahead.
    """
    waiting: deque[Frame] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            if frame.pixels is not None:
                yield frame.pixels

    for prediction in model.stream(pixels(), level=level, outer=outer):
        while (frame := waiting.popleft()).pixels is None:
            yield frame, Prediction(name, error=frame.error)
        yield frame, replace(prediction, image=name)
    for frame in waiting:
        yield frame, Prediction(name, error=frame.error)


def check_track_name(path: Path) -> None:
    """Raise ConfigError where rows are not written under a name with that ending."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(f"{path}: the rows of a clip are written as .csv or .jsonl; give it such a name")


def write_track(path: Path, rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Write a row for each image as they go by, and hand each on.

    CSV, or with the ending ``.jsonl`` one JSON object a line: ``frame`` (from 0), ``time_s`` (seconds since the first
    one, empty or null where the clip does not say), and what `Columns` gives for an image. The file appears under
    its name when all are written.
    """
    check_track_name(path)
    with replacing(path) as file:
        write = Rows(file, columns, as_json=path.suffix.lower() == ".jsonl")
        for row in rows:
            write(row)
            yield row


class Rows:
    """Writes rows to an open file, the header first; see `write_track`."""

    def __init__(self, file: TextIO, columns: Columns, *, as_json: bool = False) -> None:
        self._file, self._columns, self._as_json = file, columns, as_json
        self._names = ["frame", "time_s", *columns.names]
        self._lines = CsvLines(file)
        if not as_json:
            self._lines.put(self._names)

    def __call__(self, row: Row) -> None:
        """Write one."""
        frame, prediction = row
        time = "" if np.isnan(frame.time) else f"{frame.time:.4f}"
        cells = [str(frame.number), time, *self._columns.cells(prediction)]
        if not self._as_json:
            self._lines.put(cells)
            return
        pairs = zip(self._names, cells, strict=True)
        values = {name: cell if name in _TEXT else float(cell) if cell else None for name, cell in pairs}
        self._file.write(json.dumps(values | {"frame": frame.number}, ensure_ascii=False) + "\n")
