"""``solobox download``: a public data set, ready for the other commands."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox import datasets
from solobox.cli.console import bars, console
from solobox.datasets.fetching import LABELS, LEFT_OUT, UNLABELLED


def download(name: str, folder: Annotated[Path, Parameter(name="DIR")], /, *, url: str | None = None) -> None:
    """Download a public data set, check it, unpack it, and write its table.

    Broken off, it goes on where it was; complete, it does nothing. The sets:

    - selfie: 46,836 selfies, without boxes (`solobox autolabel` finds some)
    - caltech101: 101 kinds of thing, no official split (needs the extra [datasets])
    - pet-heads: heads of cats and dogs, boxes in the official trainval part only
    - cub200: birds, with the official split

    The owners' servers could not be reached where this was written: it was tested on miniatures in their
    layout, not on the real archives.

    Parameters
    ----------
    name
        One of the sets above.
    folder
        A new or empty folder, or one in which the same fetch was broken off.
    url
        Load from this folder on another server, which has the archives under their own names.
    """
    dataset = datasets.find(name)
    for line in (f"{dataset.name}: {dataset.what}", f"from {url or dataset.page}; terms: {dataset.terms}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    with bars() as progress:
        fetched = datasets.fetch(dataset, folder, url=url, progress=progress)
    for line in _closing(fetched):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _closing(fetched: datasets.Fetched) -> list[str]:
    folder, counts = fetched.folder, fetched.counts
    lines = [f"{folder}: is complete already; nothing was done"] if fetched.already else []
    what = {
        LABELS: "rows with a box",
        UNLABELLED: "images without a box",
        LEFT_OUT: "left out, with the reasons",
    }
    lines += [
        f"{folder / name}: {counts[name]:,} {text}" for name, text in what.items() if fetched.file(name)
    ]
    lines += fetched.dataset.remarks
    if not fetched.already:
        lines.append(f"{folder / 'archives'} is no longer needed")
    labels = fetched.file(LABELS)
    if labels is not None:
        lines.append(f"next: solobox check {labels}, then solobox train {labels} -o run")
    else:
        images = folder / fetched.dataset.images
        lines.append(
            f"next: solobox autolabel {images} -o {folder / 'boxes.csv'}, then solobox check {folder / 'boxes.csv'}"
        )
    return lines
