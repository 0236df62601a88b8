"""``solobox predict``: a box for each image of files, folders, stores, a clip or a camera."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import Bars, Flag, Overwrite, Raw, bars, console, counted, quieten, say, say_left_out
from solobox.cli.options import MaxPixels
from solobox.cli.predict_checks import check_folders, check_only_for_images, check_output, check_pad
from solobox.cli.predict_clip import on_clip
from solobox.errors import ConfigError
from solobox.images.reading import allow_pixels, allowed_pixels
from solobox.predict.inputs import LeftOut, check_named, clip_of, expand
from solobox.predict.job import JobSummary, Part, in_threads, predict_names, run
from solobox.predict.onnx_model import RuntimeName
from solobox.predict.output_file import DRAWN, SHARD_SIZE, OutputFile, is_renamed
from solobox.predict.plan import Plan, input_fingerprint, model_fingerprint
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions, Predictor
from solobox.predict.stores import is_url
from solobox.predict.writers import Columns, CsvWriter, ImageIds
from solobox.utils.outputs import check_outputs

_SHOWN = 10
"""Missing shards that are named, at most."""


def predict(
    model: str | Path,
    inputs: Annotated[list[str], Parameter(name="INPUT", negative="")],
    /,
    *,
    output: Annotated[str | Path | None, Parameter(name=["--output", "-o"])] = None,
    draw: Path | None = None,
    crop: Path | None = None,
    pad: float = 0.0,
    margins: float | None = None,
    outer: float | None = None,
    min_presence: float | None = None,
    resume: Annotated[bool, Flag] = False,
    overwrite: Overwrite = False,
    raw: Raw = False,
    coco_ids: Path | None = None,
    smooth: Annotated[bool, Flag] = False,
    engine: Literal["local", "ray"] = "local",
    runtime: RuntimeName = "onnxruntime",
    max_pixels: MaxPixels = None,
) -> int:
    """Find the box in each image.

    Exits with status 0 when all images were read, 1 when some were not: these have a row with their error.

    Parameters
    ----------
    model
        A run folder of `solobox train`, or an .onnx file of `solobox export`, which needs no PyTorch.
    inputs
        Images, folders (searched with their subfolders), glob patterns, and lists of images (a .txt with a path on
        each line, a .csv, labels in any format of `solobox check`); URLs of all these; or one video, or the number of
        a camera.
    output
        Write the rows to this file: .csv, .jsonl, .parquet, or .json for COCO's results; for a video .csv or .jsonl.
        Without it they are printed as CSV.
    draw
        Write each image with its box and its margins drawn into this folder; for a video: write it into this .mp4.
    crop
        Write each predicted box, cropped from the image at full resolution, into this folder; with --outer the outer
        box.
    pad
        Enlarge each crop by this share of the box's width and height on each side, such as 0.1.
    margins
        Also predict an interval for each edge (x1_lower, x1_upper, ...): all four contain the true box with this
        probability, such as 0.9.
    outer
        Also predict the box that contains the whole object with this probability (x1_outer, ...): for cropping.
    min_presence
        Predict no box for an image whose presence (probability of the object) is lower, such as 0.5.
    resume
        Continue a run that was stopped or killed, with the same -o and options.
    coco_ids
        Annotations in COCO's format: results name the images by their ids there, for evaluation. Without it they
        name them by file.
    smooth
        Smooth the boxes of a video over time; a box with narrow margins has more weight.
    engine
        ray: predict on a Ray cluster, from any storage (s3://...) into a folder of Parquet files (-o), continuing
        where an earlier run stopped.
    runtime
        The runtime of an exported model; some processors are faster with OpenVINO.
    """
    allow_pixels(max_pixels)
    check_pad(pad, crop=crop is not None)
    options = PredictOptions(margins=margins, outer=outer, min_presence=min_presence)
    images_only: dict[str, object] = {"--crop": crop, "--resume": resume, "--coco-ids": coco_ids}
    path = Path(output) if output is not None else None
    if engine == "ray":
        check_only_for_images(
            "--engine ray", images_only | {"--draw": draw, "--smooth": smooth, "--overwrite": overwrite}
        )
        if runtime != "onnxruntime":
            raise ConfigError(
                "--engine ray runs models by ONNX Runtime: leave --runtime out", code="options-conflict"
            )
        return _on_ray(str(model), inputs, None if output is None else str(output), options)
    if (clip := clip_of(inputs)) is not None:
        check_only_for_images("a clip", images_only | {"--max-pixels": max_pixels})
        from solobox.predict.video.rows import check_clip_outputs

        check_clip_outputs(path, draw)
        check_outputs({"-o": path, "--draw": draw}, [Path(model), Path(clip)], overwrite=overwrite)
        predictor = load(Path(model), runtime)
        predictor.check(options)
        columns = _columns(predictor, options, raw=raw)
        return on_clip(predictor, clip, options, columns, path, draw, smooth=smooth)
    if smooth:
        raise ConfigError("--smooth is about time: it goes with a clip or a camera", code="options-conflict")
    check_output(path, resume=resume, ids=coco_ids is not None)
    check_named(inputs)
    left_out = LeftOut()
    images = expand(inputs, left_out)
    folders = {name: folder for name, folder in (("--draw", draw), ("--crop", crop)) if folder is not None}
    others = [Path(model), *([coco_ids] if coco_ids is not None else [])]
    read = chain(others, map(Path, inputs), (Path(image) for image in images if not is_url(image)))
    is_finished = path is not None and resume and is_renamed(path)
    check_outputs({"-o": path}, read, overwrite=overwrite or is_finished)
    check_folders(images, inputs, path, folders, overwrite=overwrite or resume)
    ids = ImageIds.read(coco_ids, images) if coco_ids is not None else ImageIds()
    predictor = load(Path(model), runtime)
    predictor.check(options)
    plan = Plan(
        model=model_fingerprint(Path(model)) if path is not None else "",
        inputs=input_fingerprint(images),
        rows=len(images),
        shard_size=SHARD_SIZE,
        options=options,
        columns=_columns(predictor, options, raw=raw),
        settings={
            "--raw": raw or None,
            "--max-pixels": allowed_pixels(),
            "--draw": str(draw.resolve()) if draw else None,
            "--crop": str(crop.resolve()) if crop else None,
            "--pad": pad,
        },
    )
    writers = _ImageWriters(draw, crop, pad, outer=outer is not None, overwrite=overwrite)
    with bars() as progress:
        if path is None:
            summary = _print(predictor, images, plan, writers, progress)
        else:
            summary = _write(
                OutputFile.open(path, plan, images, ids, resume=resume), predictor, writers, progress
            )
    _report(summary, path, folders, ids, left_out)
    return 1 if summary.errors else 0


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


def _columns(predictor: Predictor, options: PredictOptions, *, raw: bool = False) -> Columns:
    margins: Literal["none", "both", "outer"] = "none"
    if options.level is not None:
        margins = "both" if options.outer is None else "outer"
    return Columns(margins, presence=predictor.has_presence, familiarity=predictor.has_familiarity, raw=raw)


# Images ---------------------------------------------------------------------------------------------


class _ImageWriters:
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


def _write(
    opened: AbstractContextManager[OutputFile], predictor: Predictor, writers: _ImageWriters, progress: Bars
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
                return counted(writers.hook(predictions, first, progress, job.folder), progress)

            return run(job, in_threads(predictor, hook))
    except BaseException:
        if job is not None and job.done:
            console.print(
                f"{job.done:,} of {job.plan.rows:,} rows are kept: the same command with --resume continues",
                highlight=False,
            )
        raise


def _print(
    predictor: Predictor, images: Sequence[str], plan: Plan, writers: _ImageWriters, progress: Bars
) -> JobSummary:
    """Print the rows as a CSV. On a terminal, where the progress bar is, they come at the end."""
    out = sys.stdout
    is_terminal = out.isatty()
    lines = None if is_terminal else CsvWriter(out, plan.columns)
    rows: list[Prediction] = []
    part = Part(0)
    progress.start("predicting", len(images))
    predictions = predict_names(predictor, images, plan.options, {})
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


def _report(
    summary: JobSummary, output: Path | None, folders: dict[str, Path], ids: ImageIds, left_out: LeftOut
) -> None:
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


def _on_ray(model: str, inputs: Sequence[str], output: str | None, options: PredictOptions) -> int:
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
    job, is_old = prepare(output, data, inputs, _columns(predictor, options), options, left_out=left_out)
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
