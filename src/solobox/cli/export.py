"""``solobox export``: write a trained localizer as one file that runs without PyTorch."""

import math
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import Flag, Overwrite, bars, say, say_loading, say_reading
from solobox.cli.options import BoxLayout, ImageFolder, KeepBox, MaxPixels, SkipBad, files_of
from solobox.cli.train import read_checked
from solobox.images.pixel_limit import allow_pixels
from solobox.utils.outputs import check_outputs


def export(
    run: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    check: Path | None = None,
    int8: Annotated[bool, Flag] = False,
    float16: Annotated[bool, Flag] = False,
    max_loss: float = 0.01,
    target: Literal["onnx", "triton", "web"] = "onnx",
    web_runtime: Path | None = None,
    overwrite: Overwrite = False,
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Write a trained localizer as one ONNX file.

    The file takes raw upright pixels of any size and gives boxes in pixels: it resizes and normalizes by itself. It is
    compared with the trained localizer before it is written.

    Parameters
    ----------
    run
        The folder that `solobox train` wrote, or hf:OWNER/NAME, a model on the Hugging Face Hub.
    output
        The file to write, such as model.onnx; for triton a new folder in the model repository, such as models/face; for
        web a new folder, such as site.
    check
        Labelled images to compare on, as for training; by default some training images, where they still exist.
    int8
        Quantize the convolutions to 8 bits: smaller, and faster on many processors. Calibrated on training images of
        --check and measured on the others.
    float16
        Store the weights in 16 bits: half the bytes. Computed in 32 bits, so no faster; boxes hardly move.
        Measured on --check.
    max_loss
        Largest loss of mean IoU by --int8 or --float16; if it is larger, nothing is written.
    target
        onnx: the file. triton: a folder with the file and config.pbtxt for NVIDIA's Triton Inference Server.
        web: a folder for any web server: a page where the browser itself runs the model.
    web_runtime
        For web: the file that `npm pack onnxruntime-web@1.30.0` writes. By default npm is called to fetch it.
    """
    allow_pixels(max_pixels)
    if check is not None:
        say_reading(check)
    if target == "onnx":  # a folder must be new
        inputs = chain([run], files_of(check, images) if check is not None else ())
        check_outputs({"-o": output}, inputs, overwrite=overwrite)
    dataset = (
        read_checked(check, images, keep, skip_bad=skip_bad, layout=layout) if check is not None else None
    )
    say_loading(run)
    from solobox.export import export as write
    from solobox.hub.download import local_model
    from solobox.model.localizer import Localizer

    localizer = Localizer.load(local_model(run, "folder"))
    with bars() as progress:
        result = write(
            localizer,
            output,
            check=dataset,
            int8=int8,
            float16=float16,
            max_loss=max_loss,
            target=target,
            web_runtime=web_runtime,
            progress=progress,
        )
    say(str(result.parity))
    if (accuracy := result.accuracy) is not None:
        kind, note = ("int8", " that it was not calibrated on") if int8 else ("float16", "")
        before, after = accuracy.coverage
        covered = f", within the margins at 0.9 {before:.3f} -> {after:.3f}" if not math.isnan(before) else ""
        say(
            f"{kind}: mean IoU {accuracy.iou[0]:.4f} -> {accuracy.iou[1]:.4f}{covered}, "
            f"on {accuracy.count} images{note}"
        )
    say(f"model: {result.path} ({result.bytes / 1e6:.1f} MB), pixels to {', '.join(result.outputs)}")
