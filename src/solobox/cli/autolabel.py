"""``solobox autolabel``: first boxes without a person."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox import autolabel as labelers
from solobox.cli.console import Bars, bars, console
from solobox.errors import DataError
from solobox.predict.inputs import expand


def autolabel(
    images: Annotated[list[str], Parameter(name="IMAGE", negative="")],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    labeler: Annotated[str, Parameter(name="--with")] = "haar:frontalface",
    label: str = "",
    workers: int | None = None,
) -> int:
    """Find the object in each image with a ready-made detector, and write its box.

    An image where nothing is found, or several things nearly as surely, is rejected in a second file, with the
    reason and all candidates. Check a sample of the boxes before you train on them.

    Leaves with status 0 when all images were read, 1 when some were not: these are rejected with their error.

    Parameters
    ----------
    images
        Images, folders (with all below), glob patterns, and CSV files with a column image.
    output
        Write image,x1,y1,x2,y2,source,score to this CSV, and beside it OUT.rejected.csv.
    labeler
        haar:frontalface, haar:profileface, haar:catface, haar:fullbody, haar:upperbody, haar:eye or another of
        OpenCV's cascades; hog:people; grabcut (one object before a calm background); or a function of your own
        as package.module:function.
    label
        Write this in a column label of every row.
    workers
        Processes; by default as many as there are cores to run on.
    """
    if labeler not in labelers.known():
        _look_here()
    run = labelers.find(labeler)
    paths = _images(images, output)
    with bars() as progress, closing(labelers.label(paths, run, workers)) as found:
        progress.start("labeling", len(paths))
        report = labelers.write(_counted(found, progress), output, labeler, label)
    console.print(
        f"{report.out}: {report.n_labelled:,} of {len(paths):,} images have a box; rejected in "
        f"{report.rejected}: {report.n_nothing:,} with nothing found, {report.n_several:,} with several candidates, "
        f"{report.n_failed:,} with an error",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    if report.first_error:
        console.print(f"the first error: {report.first_error}", highlight=False, markup=False, soft_wrap=True)
    return 1 if report.n_failed else 0


def _look_here() -> None:
    """Let ``--with mine:function`` find ``mine.py`` in this folder, after all that is installed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def _images(inputs: list[str], output: Path) -> list[Path]:
    """All images in the order of the inputs, each once."""
    found: dict[str, Path] = {}
    for item in inputs:
        if Path(item).suffix.lower() in {".csv", ".tsv"}:
            _refuse_to_replace(Path(item), output)
            paths = labelers.listed(Path(item))
        else:
            paths = [Path(path) for path in expand([item])]
        for path in paths:
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 (resolve would follow links)
    return list(found.values())


def _refuse_to_replace(listing: Path, output: Path) -> None:
    for target in (output, labelers.rejected_beside(output)):
        if target.resolve() == listing.resolve():
            raise DataError(f"{target}: is what lists the images; name another file for the boxes")


def _counted(found: Iterator[labelers.Found], progress: Bars) -> Iterator[labelers.Found]:
    for each in found:
        progress.advance()
        yield each
