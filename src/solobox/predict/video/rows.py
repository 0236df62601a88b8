"""A box for each frame of a clip or a camera: predicting it, its rows, and the drawn clip."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TextIO, TypeAlias

import numpy as np

from solobox.errors import ConfigError
from solobox.images.drawing import draw_boxes, predicted
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, Predictor
from solobox.predict.video.clip_writer import ClipWriter, check_clip_name, write_clip
from solobox.predict.video.frames import Clip, Frame
from solobox.predict.video.smoothing import smooth_rows
from solobox.predict.writers import Columns
from solobox.uncertainty.conformal import DEFAULT_LEVEL
from solobox.utils.atomic import replacing
from solobox.utils.text import CsvLines

Row: TypeAlias = tuple[Frame, Prediction]

_STRINGS = ("image", "error")
_PRESENT = 0.5
"""Presence below which smoothing does not trust a box, where the caller sets none."""


def predict_clip(
    model: Predictor,
    clip: Clip,
    frames: Iterable[Frame],
    options: PredictOptions,
    columns: Columns,
    *,
    output: Path | None = None,
    draw: Path | None = None,
    smooth: bool = False,
) -> Iterator[Row]:
    """Predict each frame of a clip; its rows and drawn frames are written as they pass.

    frames: of the clip, perhaps not all of them. columns: of a row, in addition to ``frame`` and ``time_s``.
    output: see `write_rows`. draw: a clip with the boxes drawn. smooth: make boxes steadier, see `smooth_rows`.

    Both files appear under their names when all frames are done. Raises DataError and ConfigError for what cannot be
    decoded, written or predicted.
    """
    # Smoothing needs the boxes that are below the least presence, too.
    rows = predict_frames(model, clip.name, frames, replace(options, min_presence=None))
    if smooth:
        level, least = options.level or DEFAULT_LEVEL, options.min_presence
        rows = smooth_rows(
            rows,
            level=level,
            outer=options.outer is not None,
            min_presence=_PRESENT if least is None else least,
        )
    if options.min_presence is not None:
        model.check(options)
        least_presence = options.min_presence
        rows = ((frame, prediction.if_present(least_presence)) for frame, prediction in rows)
    with ExitStack() as stack:
        if draw is not None:
            rows = _drawn(rows, stack.enter_context(write_clip(draw, clip.rate, clip.time_base)))
        yield from rows if output is None else write_rows(output, rows, columns)


def predict_frames(
    model: Predictor, name: str, frames: Iterable[Frame], options: PredictOptions | None = None
) -> Iterator[Row]:
    """Predict each frame of a clip; one that could not be decoded gets a prediction with its error.

    name: of the clip, which becomes `Prediction.image`. No more frames are in memory than the model reads ahead.
    """
    waiting: deque[Frame] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            if frame.pixels is not None:
                yield frame.pixels

    for prediction in model.stream(pixels(), options):
        while (frame := waiting.popleft()).pixels is None:
            yield frame, Prediction(name, error=frame.error)
        yield frame, replace(prediction, image=name)
    for frame in waiting:
        yield frame, Prediction(name, error=frame.error)


def check_clip_outputs(output: Path | None, draw: Path | None) -> None:
    """Raise ConfigError ``unknown-format`` before anything is done."""
    if output is not None:
        _check_rows_name(output)
    if draw is not None:
        check_clip_name(draw)


def _check_rows_name(path: Path) -> None:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(
            f"{path}: the rows of a clip are written as .csv or .jsonl; give it such a name",
            code="unknown-format",
        )


def write_rows(path: Path, rows: Iterable[Row], columns: Columns) -> Iterator[Row]:
    """Write a row for each frame as it passes, and pass it on.

    CSV, or with the ending ``.jsonl`` one JSON object a line: ``frame`` (from 0), ``time_s`` (seconds since the first
    frame, empty or null where the clip does not say), and the columns of an image. The file appears under its name when
    all rows are written. Raises ConfigError ``unknown-format``.
    """
    _check_rows_name(path)
    with replacing(path) as file:
        writer = FrameRows(file, columns, as_json=path.suffix.lower() == ".jsonl")
        for row in rows:
            writer.put(row)
            yield row


class FrameRows:
    """Writes rows of frames to an open file, the header first; see `write_rows`."""

    def __init__(self, file: TextIO, columns: Columns, *, as_json: bool = False) -> None:
        self._file, self._columns, self._as_json = file, columns, as_json
        self._names = ["frame", "time_s", *columns.names]
        self._lines = CsvLines(file, raw=columns.raw)
        if not as_json:
            self._lines.put(self._names)

    def put(self, row: Row) -> None:
        """Write a row."""
        frame, prediction = row
        time = "" if np.isnan(frame.time) else f"{frame.time:.4f}"
        cells = [str(frame.number), time, *self._columns.cells(prediction)]
        if not self._as_json:
            self._lines.put(cells)
            return
        pairs = zip(self._names, cells, strict=True)
        values = {name: cell if name in _STRINGS else float(cell) if cell else None for name, cell in pairs}
        self._file.write(json.dumps(values | {"frame": frame.number}, ensure_ascii=False) + "\n")


def _drawn(rows: Iterable[Row], writer: ClipWriter) -> Iterator[Row]:
    for frame, prediction in rows:
        if frame.pixels is not None:
            outline = predicted(prediction.box, lower=prediction.lower, upper=prediction.upper)
            writer.add(np.asarray(draw_boxes(frame.pixels, [outline])), frame.time)
        yield frame, prediction
