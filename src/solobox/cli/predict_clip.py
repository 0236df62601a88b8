"""``solobox predict`` on a clip or a camera: a row for each frame."""

import sys
from contextlib import ExitStack
from pathlib import Path

from solobox.cli.console import bars, console, counted, say
from solobox.predict.inputs import is_camera
from solobox.predict.predictor import PredictOptions, Predictor
from solobox.predict.writers import Columns


def on_clip(
    predictor: Predictor,
    source: str,
    options: PredictOptions,
    columns: Columns,
    output: Path | None,
    draw: Path | None,
    *,
    smooth: bool,
) -> int:
    """Predict each frame of a clip, or of a camera until Ctrl-C; without an output rows are printed as they come."""
    from solobox.predict.video.frames import open_clip, until_interrupted
    from solobox.predict.video.rows import FrameRows, predict_clip

    errors = count = 0
    out = sys.stdout  # the progress bar replaces it
    with ExitStack() as stack:
        clip = stack.enter_context(open_clip(source))
        frames = clip.frames()
        if is_camera(source):
            frames = stack.enter_context(until_interrupted(frames))
            console.print("Ctrl-C ends the recording and finishes the files")
        rows = predict_clip(
            predictor, clip, frames, options, columns, output=output, draw=draw, smooth=smooth
        )
        printed = FrameRows(out, columns) if output is None else None
        if printed is None or not out.isatty():  # on a terminal the rows themselves show the progress
            progress = stack.enter_context(bars())
            progress.start("predicting", clip.count or None)
            rows = counted(rows, progress)
        for row in rows:
            count += 1
            errors += bool(row[1].error)
            if printed is not None:
                printed.put(row)
                out.flush()
    for path, what in ((output, "boxes"), (draw, "drawn clip")):
        if path is not None:
            say(f"{what}: {path}")
    if errors:
        say(f"{errors} of {count} images could not be decoded; their rows say why")
    return 1 if errors else 0
