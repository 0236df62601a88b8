"""``solobox predict``: a box for each image of files, folders, stores, a clip or a camera."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import Flag, Overwrite, Raw, bars, say_loading
from solobox.cli.options import MaxPixels
from solobox.config.choices import RuntimeName
from solobox.errors import ConfigError
from solobox.images.pixel_limit import allow_pixels, allowed_pixels
from solobox.utils.outputs import check_outputs


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
    max_cut: float | None = None,
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
        A run folder of `solobox train`, or an .onnx file of `solobox export`, which needs no PyTorch; or
        hf:OWNER/NAME, a model on the Hugging Face Hub (hf:OWNER/NAME@REVISION).
    inputs
        Images, folders (searched with their subfolders), glob patterns, and lists of images (a .txt with a path on
        each line, a .csv, labels in any format of `solobox check`); URLs of all these; or one video, or the number of
        a camera.
    output
        Write the rows to this file: .csv, .jsonl, .parquet, or .json for COCO's results; for a video .csv or .jsonl.
        Without it they are printed as CSV.
    draw
        Write each image with its box and its margins drawn into this folder; for a video: write it into this
        .mp4, .m4v, .webm or .mkv.
    crop
        Write each predicted box, cropped from the image at full resolution, into this folder; with --outer or --max-cut
        the outer box.
    pad
        Enlarge each crop by this share of the box's width and height on each side, such as 0.1.
    margins
        Also predict an interval for each edge (x1_lower, x1_upper, ...): all four contain the true box with this
        probability, such as 0.9.
    outer
        Also predict the box that contains the whole object with this probability (x1_outer, ...): for cropping.
    max_cut
        The same box for another promise: it cuts off at most this share of the object on average over images, such as
        0.02 (rounded down to 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1 or 0.2).
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
    say_loading(model)
    from solobox.cli import predict_jobs as jobs
    from solobox.cli.predict_checks import check_folders, check_only_for_images, check_output, check_pad
    from solobox.hub.download import Kind, is_hub_name, local_model
    from solobox.predict.inputs import LeftOut, check_named, clip_of, expand
    from solobox.predict.output_file import SHARD_SIZE, OutputFile, is_renamed
    from solobox.predict.plan import Plan, input_fingerprint, model_fingerprint
    from solobox.predict.predictor import PredictOptions
    from solobox.predict.stores import is_url
    from solobox.predict.writers import ImageIds

    check_pad(pad, crop=crop is not None)
    options = PredictOptions(margins=margins, outer=outer, max_cut=max_cut, min_presence=min_presence)
    images_only: dict[str, object] = {"--crop": crop, "--resume": resume, "--coco-ids": coco_ids}
    path = Path(output) if output is not None else None
    kind: Kind = "any" if runtime == "onnxruntime" else "onnx"
    if engine == "ray":
        check_only_for_images(
            "--engine ray", images_only | {"--draw": draw, "--smooth": smooth, "--overwrite": overwrite}
        )
        if runtime != "onnxruntime":
            raise ConfigError(
                "--engine ray runs models by ONNX Runtime: leave --runtime out", code="options-conflict"
            )
        name = str(local_model(model, "onnx") if is_hub_name(model) else model)
        return jobs.on_ray_cluster(name, inputs, None if output is None else str(output), options)
    if (clip := clip_of(inputs)) is not None:
        check_only_for_images("a clip", images_only | {"--max-pixels": max_pixels})
        from solobox.cli.predict_clip import on_clip
        from solobox.predict.video.rows import check_clip_outputs

        check_clip_outputs(path, draw)
        if smooth and max_cut is not None:
            raise ConfigError(
                "--smooth weighs boxes by the probability of their margins, which --max-cut has not: use --outer",
                code="options-conflict",
            )
        local_path = local_model(model, kind)
        check_outputs({"-o": path, "--draw": draw}, [local_path, Path(clip)], overwrite=overwrite)
        predictor = jobs.load(local_path, runtime)
        predictor.check(options)
        columns = jobs.columns_of(predictor, options, raw=raw)
        return on_clip(predictor, clip, options, columns, path, draw, smooth=smooth)
    if smooth:
        raise ConfigError("--smooth is about time: it goes with a clip or a camera", code="options-conflict")
    check_output(path, resume=resume, ids=coco_ids is not None)
    check_named(inputs)
    local_path = local_model(model, kind)
    left_out = LeftOut()
    images = expand(inputs, left_out)
    folders = {name: folder for name, folder in (("--draw", draw), ("--crop", crop)) if folder is not None}
    others = [local_path, *([coco_ids] if coco_ids is not None else [])]
    read = chain(others, map(Path, inputs), (Path(image) for image in images if not is_url(image)))
    is_finished = path is not None and resume and is_renamed(path)
    check_outputs({"-o": path}, read, overwrite=overwrite or is_finished)
    check_folders(images, inputs, path, folders, overwrite=overwrite or resume)
    ids = ImageIds.read(coco_ids, images) if coco_ids is not None else ImageIds()
    predictor = jobs.load(local_path, runtime)
    predictor.check(options)
    plan = Plan(
        model=model_fingerprint(local_path) if path is not None else "",
        inputs=input_fingerprint(images),
        rows=len(images),
        shard_size=SHARD_SIZE,
        options=options,
        columns=jobs.columns_of(predictor, options, raw=raw),
        settings={
            "--raw": raw or None,
            "--max-pixels": allowed_pixels(),
            "--draw": str(draw.resolve()) if draw else None,
            "--crop": str(crop.resolve()) if crop else None,
            "--pad": pad,
        },
    )
    writers = jobs.ImageWriters(draw, crop, pad, outer=options.is_one_sided, overwrite=overwrite)
    drift = jobs.DriftWatch(predictor)
    with bars() as progress:
        if path is None:
            summary = jobs.print_rows(predictor, images, plan, writers, drift, progress)
        else:
            summary = jobs.write_rows(
                OutputFile.open(path, plan, images, ids, resume=resume), predictor, writers, drift, progress
            )
    jobs.report(summary, path, folders, ids, left_out)
    drift.report(images)
    return 1 if summary.errors else 0
