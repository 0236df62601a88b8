"""What `solobox predict` does with a model: images, or a Ray cluster; imported once its first line is out."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from solobox.cli.console import Bars, bars, console, counted, quieten, say, say_left_out
from solobox.config.choices import RuntimeName
from solobox.errors import ConfigError
from solobox.predict.inputs import LeftOut
from solobox.predict.job import JobSummary, Part, in_threads, predict_names, run
from solobox.predict.output_file import DRAWN, OutputFile
from solobox.predict.plan import Plan
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, Predictor
from solobox.predict.writers import Columns, CsvWriter, ImageIds
from solobox.uncertainty.drift import DriftDetector, DriftSpan

_SHOWN = 10
"""Missing shards that are named, at most."""
_SPANS = 3
"""Spans of drift that are named, at most."""


def load(path: Path, runtime: RuntimeName = "onnxruntime") -> Predictor:
    """The model in a run folder, or in an ``.onnx`` file, which needs no PyTorch. runtime: of an ``.onnx`` file.

    Raises ConfigError for anything else.
    """
    if path.suffix.lower() == ".onnx" or path.is_file():
        from solobox.predict.onnx_model import OnnxModel

        return OnnxModel.load(path, runtime=runtime)
    if runtime != "onnxruntime":
        raise ConfigError(
            f"--runtime {runtime} runs an exported model: `solobox export {path} -o model.onnx` first",
            code="options-conflict",
        )
    quieten()
    from solobox.model.localizer import Localizer

    return Localizer.load(path)


def columns_of(predictor: Predictor, options: PredictOptions, *, raw: bool = False) -> Columns:
    """The columns of the rows: those that the options ask for and the model has."""
    margins: Literal["none", "both", "outer"] = "none"
    if options.is_one_sided:
        margins = "outer"
    elif options.margins is not None:
        margins = "both"
    return Columns(margins, presence=predictor.has_presence, familiarity=predictor.has_familiarity, raw=raw)


# Images ---------------------------------------------------------------------------------------------


class ImageWriters:
    """Draws and crops images as their predictions pass."""

    def __init__(
        self, draw: Path | None, crop: Path | None, pad: float, *, outer: bool, overwrite: bool
    ) -> None:
        self._draw, self._crop, self._pad, self._outer = draw, crop, pad, outer
        self._overwrite = overwrite

    def hook(
        self, predictions: Iterator[Prediction], first: int, progress: Bars, journals: Path | None = None
    ) -> Iterator[Prediction]:
        """Pass each prediction on once its images are written.

        first: the number of the first row. journals: the folder that stores the names of the images.
        """
        if self._draw is None and self._crop is None:
            return predictions
        from solobox.predict.image_writers import (
            CropWriter,
            DrawingWriter,
            ImageNames,
            ImageWriter,
            write_images,
        )

        def names(folder: Path, file: str) -> ImageNames:
            journal = journals / file if journals is not None else None
            return ImageNames(folder, journal, overwrite=self._overwrite)

        image_writers: list[ImageWriter] = []
        if self._draw is not None:
            image_writers.append(DrawingWriter(names(self._draw, DRAWN[0])))
        if self._crop is not None:
            image_writers.append(CropWriter(names(self._crop, DRAWN[1]), self._pad, self._outer))
        return write_images(predictions, image_writers, progress.say, first=first)


class DriftWatch:
    """Notes where the images stop looking like the training images, as their predictions pass in order."""

    def __init__(self, predictor: Predictor) -> None:
        n_reference = predictor.n_reference
        self._detector = DriftDetector(n_reference) if n_reference is not None else None
        self._skipped = 0
        self._spans: list[DriftSpan] = []

    def hook(self, predictions: Iterator[Prediction], first: int) -> Iterator[Prediction]:
        """Pass each prediction on. first: the number of the first row."""
        detector = self._detector
        if detector is None:
            yield from predictions
            return
        self._skipped = first - detector.count  # a resumed run begins with these
        for prediction in predictions:
            is_new = detector.add(prediction.familiarity)
            if detector.span is not None:
                self._spans[len(self._spans) - (not is_new) :] = [detector.span]
            yield prediction

    @property
    def spans(self) -> list[DriftSpan]:
        """Where it was, by the numbers of rows, from 1."""
        skipped = self._skipped
        return [DriftSpan(span.first + skipped, span.last and span.last + skipped) for span in self._spans]

    def report(self, images: Sequence[str]) -> None:
        """Say where it was, if anywhere."""
        spans = self.spans
        if not spans:
            return
        texts = []
        for span in spans[:_SPANS]:
            first, last = span.first, span.last
            name = Path(images[first - 1]).name
            texts.append(
                f"from about image {first:,} ({name}) {'on' if last is None else f'to about {last:,}'}"
            )
        more = f", and in {len(spans) - _SPANS} more places" if len(spans) > _SPANS else ""
        say(
            f"the images are unlike the training images {', '.join(texts)}{more} (of {len(images):,}): look at their "
            "boxes, label some of them and train again"
        )


def write_rows(
    opened: AbstractContextManager[OutputFile],
    predictor: Predictor,
    writers: ImageWriters,
    drift: DriftWatch,
    progress: Bars,
) -> JobSummary:
    """Do the job of an output file. Where it stops before the end, a line says how to continue."""
    job = None
    try:
        with opened as job:
            total = job.plan.rows
            if job.done:
                console.print(f"continuing after {job.done:,} of {total:,} images", highlight=False)
            progress.start("predicting", total - job.done)

            def hook(predictions: Iterator[Prediction], first: int) -> Iterator[Prediction]:
                drawn = writers.hook(drift.hook(predictions, first), first, progress, job.folder)
                return counted(drawn, progress)

            return run(job, in_threads(predictor, hook))
    except BaseException:
        if job is not None and job.done:
            console.print(
                f"{job.done:,} of {job.plan.rows:,} rows are kept: the same command with --resume continues",
                highlight=False,
            )
        raise


def print_rows(
    predictor: Predictor,
    images: Sequence[str],
    plan: Plan,
    writers: ImageWriters,
    drift: DriftWatch,
    progress: Bars,
) -> JobSummary:
    """Print the rows as a CSV. On a terminal, where the progress bar is, they come at the end."""
    out = sys.stdout
    is_terminal = out.isatty()
    lines = None if is_terminal else CsvWriter(out, plan.columns)
    rows: list[Prediction] = []
    part = Part(0)
    progress.start("predicting", len(images))
    predictions = drift.hook(predict_names(predictor, images, plan.options, {}), 0)
    for prediction in counted(writers.hook(predictions, 0, progress), progress):
        one = Part.of([prediction])
        part = Part(part.rows + 1, part.errors + one.errors, part.absent + one.absent)
        if lines is None:
            rows.append(prediction)
        else:
            lines.put(prediction)
    if lines is None:
        lines = CsvWriter(out, plan.columns)
        for prediction in rows:
            lines.put(prediction)
    return JobSummary(part.rows, part.errors, part.absent)


def report(
    summary: JobSummary, output: Path | None, folders: dict[str, Path], ids: ImageIds, left_out: LeftOut
) -> None:
    """Say what was written where, and what could not be read."""
    kinds = {"--draw": "drawn images", "--crop": "crops"}
    for path, what in [(output, "boxes"), *((folder, kinds[option]) for option, folder in folders.items())]:
        if path is not None:
            say(f"{what}: {path}")
    where = "; their rows say why"
    if output is not None and output.suffix.lower() == ".json":
        where = ""
        if missing := summary.errors + summary.absent:
            say(
                f"{missing:,} of {summary.rows:,} images have no entry: {summary.absent:,} without the object, "
                f"{summary.errors:,} that could not be read"
            )
        if ids.categories > 1:
            say(
                f"every box has category {ids.category}, the first of {ids.categories}: evaluate without categories "
                "(useCats=0)"
            )
    if summary.errors:
        say(f"{summary.errors:,} of {summary.rows:,} images could not be read{where}")
    say_left_out(left_out)


# A Ray cluster --------------------------------------------------------------------------------------


def on_ray_cluster(model: str, inputs: Sequence[str], output: str | None, options: PredictOptions) -> int:
    """Predict shard by shard into a folder of Parquet files. model, inputs, output: in any store."""
    if output is None:
        raise ConfigError(
            "--engine ray writes a folder of Parquet files: name it with -o FOLDER", code="output-missing"
        )
    for package in ("ray", "fsspec", "pyarrow"):
        if find_spec(package) is None:
            raise ConfigError(
                f"--engine ray needs {package}: install Solobox with its [ray] extra", code="missing-package"
            )
    from solobox.ray.engine import connected, on_ray
    from solobox.ray.folder_job import load_model, prepare, read_model

    data = read_model(model)
    predictor = load_model(data)
    predictor.check(options)
    say("listing the images" if len(inputs) != 1 else f"listing the images of {inputs[0]}")
    left_out = LeftOut()
    job, is_old = prepare(output, data, inputs, columns_of(predictor, options), options, left_out=left_out)
    say(
        f"continuing the run of {job.started}: {job.plan.rows:,} images" if is_old
        else f"{job.plan.rows:,} images in {job.plan.shards:,} shards"
    )  # fmt: skip
    with connected(), bars() as progress:
        summary = run(job, on_ray(load_model), progress)
    say(f"boxes: {job.folder.url}")
    if summary.errors:
        say(f"{summary.errors:,} of {summary.rows:,} images could not be read; their rows say why")
    say_left_out(left_out)
    for part, why in list(summary.failures.items())[:_SHOWN]:
        say(f"{part} is missing: {why}")
    if summary.failures:
        say(
            f"{len(summary.failures):,} of {job.plan.shards:,} shards are missing, and all others are done: run the "
            "same command again to try these"
        )
    return 1 if summary.errors or summary.failures else 0
