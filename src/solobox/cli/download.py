"""``solobox download``: a public data set, ready for the other commands."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox import datasets
from solobox.cli.console import bars, say
from solobox.datasets.downloader import LABELS, SKIPPED, UNLABELLED


def download(name: str, folder: Annotated[Path, Parameter(name="DIR")], /, *, url: str | None = None) -> None:
    """Download a public data set, verify it, unpack it, and write its tables.

    Run it again after an interruption to continue. Needs the extra [datasets].

    Parameters
    ----------
    name
        selfie (46,836 selfies without boxes; `solobox autolabel` makes some), caltech101 (101 categories, no official
        split), pet-heads (heads of cats and dogs; boxes in the official trainval part only) or cub200 (birds, with
        the official split). Tested on miniatures in their layout, not on the real archives.
    folder
        A new or empty folder, or one in which the same download was interrupted.
    url
        Download from this folder on another server, which has the archives under the same names.
    """
    dataset = datasets.find(name)
    for line in (
        f"{dataset.name}: {dataset.description}",
        f"from {url or dataset.homepage}; license: {dataset.license}",
    ):
        say(line)
    with bars() as progress:
        result = datasets.download(dataset, folder, url=url, progress=progress)
    for line in _summary(result):
        say(line)


def _summary(result: datasets.Download) -> list[str]:
    folder, counts = result.folder, result.counts
    lines = [f"{folder}: is complete already; nothing was done"] if result.was_complete else []
    tables = {
        LABELS: "rows with a box",
        UNLABELLED: "images without a box",
        SKIPPED: "skipped, with the reasons",
    }
    lines += [
        f"{folder / name}: {counts[name]:,} {text}" for name, text in tables.items() if result.file(name)
    ]
    lines += result.dataset.notes
    if not result.was_complete:
        lines.append(f"{folder / 'archives'} is no longer needed")
    labels = result.file(LABELS)
    if labels is not None:
        lines.append(f"next: solobox check {labels}, then solobox train {labels} -o run")
    else:
        images, boxes = folder / result.dataset.image_folder, folder / "boxes.csv"
        lines.append(f"next: solobox autolabel {images} -o {boxes}, then solobox check {boxes}")
    return lines
