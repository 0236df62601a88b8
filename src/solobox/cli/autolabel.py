"""``solobox autolabel``: first boxes without a person."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox import autolabel as labelers
from solobox.cli.console import Overwrite, Raw, bars, say, say_left_out
from solobox.cli.options import MaxPixels
from solobox.images.pixel_limit import allow_pixels
from solobox.predict.inputs import LeftOut, check_named, expand
from solobox.utils.outputs import check_outputs
from solobox.utils.progress import Progress


def autolabel(
    images: Annotated[list[str], Parameter(name="IMAGE", negative="")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    labeler: Annotated[str, Parameter(name="--with")] = "haar:frontalface",
    label: str = "",
    workers: int | None = None,
    overwrite: Overwrite = False,
    raw: Raw = False,
    max_pixels: MaxPixels = None,
) -> int:
    """Find the object in each image with a pretrained detector, and write its box.

    An image with no detection, or with several of similar scores, is written to a second file with the reason and
    all candidates. Check a sample of the boxes before you train on them.

    The exit status is 0 when all images were read, 1 when some were not: these are rejected with their error.

    Parameters
    ----------
    images
        Images, folders (searched with their subfolders), glob patterns, and lists of images as `solobox predict` takes
        them.
    output
        Write image,x1,y1,x2,y2,source,score to this CSV, and the rejected images to OUT.rejected.csv beside it.
    labeler
        haar:frontalface, haar:profileface, haar:catface, haar:fullbody, haar:upperbody, haar:eye or another of
        OpenCV's cascades; hog:people; grabcut (one object on a plain background); or your own function as
        package.module:function.
    label
        Write this in a column label of every row.
    workers
        Threads; by default one per processor.
    """
    allow_pixels(max_pixels)
    if labeler not in labelers.available() and (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)  # for `--with mine:function`, after all that is installed
    function = labelers.find(labeler)
    check_named(images)
    # Each image once: os.path.abspath, because Path.resolve would follow links.
    left_out = LeftOut()
    paths = list({os.path.abspath(name): Path(name) for name in expand(images, left_out)}.values())  # noqa: PTH100
    outputs = {"-o": output, "the rejected images of -o": labelers.rejected_path(output)}
    check_outputs(outputs, chain(map(Path, images), paths), overwrite=overwrite)
    with bars() as progress, closing(labelers.label(paths, function, workers)) as results:
        progress.start("labeling", len(paths))
        report = labelers.write(_counted(results, progress), output, labeler, label, raw=raw)
    say(
        f"{report.out}: {report.n_labelled:,} of {len(paths):,} images have a box; rejected in "
        f"{report.rejected}: {report.n_nothing:,} with nothing found, {report.n_several:,} with several candidates, "
        f"{report.n_failed:,} with an error"
    )
    if report.first_error:
        say(f"the first error: {report.first_error}")
    say_left_out(left_out)
    return 1 if report.n_failed else 0


def _counted(
    results: Iterator[labelers.ImageCandidates], progress: Progress
) -> Iterator[labelers.ImageCandidates]:
    for result in results:
        progress.advance()
        yield result
