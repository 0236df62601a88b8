"""``solobox export``: a trained localizer as one file that runs without PyTorch."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import console, quieten
from solobox.cli.train import read_checked


def export(
    run: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    check: Path | None = None,
    int8: Annotated[bool, Parameter(negative="")] = False,
    max_loss: float = 0.01,
    target: Literal["onnx", "triton"] = "onnx",
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a trained localizer as one ONNX file.

    It takes raw upright pixels of any size and gives boxes in pixels: resizing and normalisation are in it, so that
    nothing can be got wrong. It is compared with the trained localizer before it is written.

    Parameters
    ----------
    run
        The folder that `solobox train` left.
    output
        The file to write, such as model.onnx; for triton a new folder in its model repository, such as models/face.
    check
        Labelled images to compare on, as for training; without it some of the training images, where they still are.
    int8
        Convolutions in 8-bit integers: smaller, and on many processors faster. Calibrated on the training images
        of --check and measured on its others.
    max_loss
        How much of the mean IoU int8 may cost; where it costs more, nothing is written.
    target
        onnx: the file. triton: a folder with it and its config.pbtxt, for NVIDIA's Triton
        Inference Server.
    images
        The folder that image names of --check are relative to, instead of the file's own.
    keep
        Of an image with several boxes take this one; without it such images are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    """
    dataset = read_checked(check, images, keep, skip_bad=skip_bad) if check is not None else None
    # Heavy to load: bad data is told of before.
    from solobox.export import export as write
    from solobox.model.localizer import Localizer

    quieten()
    localizer = Localizer.load(run)
    with console.status("exporting"):
        made = write(localizer, output, check=dataset, int8=int8, max_loss=max_loss, target=target)
    console.print(str(made.parity), highlight=False, markup=False)
    if made.accuracy is not None:
        a = made.accuracy
        console.print(
            f"int8: mean IoU {a.iou[0]:.4f} -> {a.iou[1]:.4f}, within the margins at 0.9 {a.coverage[0]:.3f} -> "
            f"{a.coverage[1]:.3f}, on {a.count} images that it was not calibrated on",
            highlight=False,
            markup=False,
        )
    console.print(
        f"model: {made.path} ({made.bytes / 1e6:.1f} MB), pixels to {', '.join(made.outputs)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
