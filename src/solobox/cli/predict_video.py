"""``solobox predict`` on a clip or a camera: a box for each of its images."""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from solobox.cli.console import bars, console
from solobox.cli.predict_rows import watched
from solobox.errors import ConfigError, DataError
from solobox.images.drawing import draw_boxes, predicted
from solobox.predict.video.frames import Clip, Frame, is_camera, is_video, opened
from solobox.predict.video.smoothing import smoothed
from solobox.predict.video.tracks import Predictor, Row, Rows, along, check_track_name, write_track
from solobox.predict.video.writer import ClipWriter, check_clip_name, writing_clip
from solobox.predict.writers import Columns
from solobox.uncertainty.conformal import DEFAULT_LEVEL

__all__ = ["check_places", "is_video", "only_video", "predict_video"]

_PRESENT = 0.5
"""Presence below which smoothing does not believe a box, where nothing else was asked for."""


def predict_video(
    model: Predictor,
    source: str,
    *,
    columns: Columns,
    output: Path | None = None,
    draw: Path | None = None,
    margins: float | None = None,
    outer: float | None = None,
    min_presence: float | None = None,
    smooth: bool = False,
) -> int:
    """Find the box in each image of a clip, or of a camera until Ctrl-C.

    model: a `Localizer` or an exported model. source: a path, or the number of a camera (see `is_video`).
    columns: what a row says beside ``frame`` and ``time_s``. output: a .csv or .jsonl; without it the rows are printed
    as they come. draw: a clip with the boxes drawn. margins, outer, min_presence: as ``solobox predict``.
    smooth: make boxes steadier over time (see `solobox.predict.video.smoothing`).

    Gives the command's status: 0, or 1 when some images could not be decoded: these have a row with their error.
    Raises DataError and ConfigError for what cannot be read, written or done.
    """
    check_places(source, output, draw)
    level = outer if margins is None else margins
    one_sided = outer is not None
    failed = count = 0
    printed = sys.stdout  # the progress bar puts something else in its place
    with ExitStack() as stack:
        clip = stack.enter_context(opened(source))
        frames = clip.frames()
        if is_camera(source):
            frames = stack.enter_context(_until_stopped(frames))
        rows = along(model, source, frames, level=level, outer=one_sided)
        if smooth:
            least = _PRESENT if min_presence is None else min_presence
            rows = smoothed(rows, level=level or DEFAULT_LEVEL, outer=one_sided, min_presence=least)
        if min_presence is not None:
            rows = ((frame, prediction.if_present(min_presence)) for frame, prediction in rows)
        if draw is not None:
            rows = _drawn(rows, stack.enter_context(writing_clip(draw, clip.rate, clip.time_base)))
        if output is not None:
            rows = write_track(output, rows, columns)
        write = Rows(printed, columns) if output is None else None
        # On a terminal the rows themselves are what moves.
        counted = rows if write is not None and printed.isatty() else _counted(rows, clip)
        for row in counted:
            count += 1
            failed += bool(row[1].error)
            if write is not None:
                write(row)
                printed.flush()
    for place, what in ((output, "boxes"), (draw, "drawn clip")):
        if place is not None:
            console.print(f"{what}: {place}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} of {count} images could not be decoded; their rows say why")
    return 1 if failed else 0


def only_video(inputs: Sequence[str]) -> str | None:
    """The clip or camera that a command was given, None where it was given images.

    A number that is the name of a file or folder here is that, and no camera. Raises ConfigError where a clip or
    camera stands beside something else.
    """
    clips = [text for text in inputs if is_video(text) and not (is_camera(text) and Path(text).exists())]
    if clips and len(inputs) > 1:
        raise ConfigError(f"{clips[0]} is a clip or a camera: give one alone, without images or other clips")
    return clips[0] if clips else None


def check_places(source: str, output: Path | None, draw: Path | None) -> None:
    """Raise before anything is done: ConfigError for names that are not written, DataError for one file twice."""
    if output is not None:
        check_track_name(output)
    if draw is not None:
        check_clip_name(draw)
        if not is_camera(source) and draw.resolve() == Path(source).resolve():
            raise DataError(f"--draw {draw} is the clip itself: give the drawn one a name of its own")


def _counted(rows: Iterable[Row], clip: Clip) -> Iterator[Row]:
    """Show a progress bar with the rate while the rows go by."""
    with bars() as progress:
        progress.start("predicting", clip.count or None)
        yield from watched(rows, progress)


def _drawn(rows: Iterable[Row], writer: ClipWriter) -> Iterator[Row]:
    for frame, prediction in rows:
        if frame.pixels is not None:
            outline = predicted(prediction.box, lower=prediction.lower, upper=prediction.upper)
            writer.add(np.asarray(draw_boxes(frame.pixels, [outline])), frame.time)
        yield frame, prediction


@contextmanager
def _until_stopped(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """The frames until Ctrl-C (or SIGTERM), which ends them as if the clip were over; a second one breaks off."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    old = {number: signal.getsignal(number) for number in numbers}

    def stop(*_: object) -> None:
        stopped.set()
        for one, handler in old.items():
            signal.signal(one, handler)

    def going() -> Iterator[Frame]:
        for frame in frames:
            yield frame
            if stopped.is_set():
                return

    for number in numbers:
        signal.signal(number, stop)
    if numbers:
        console.print("Ctrl-C ends it and writes what there is")
    try:
        yield going()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
