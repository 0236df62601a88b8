"""The real images that figures are made from, split by the rule that every reported figure follows.

Rows of a class sorted by file name, their indices shuffled with ``numpy.random.default_rng(42).permutation``, one
generator for the whole set, classes in alphabetical order; the first fifth of each class is the test set. For
kangaroo: the single-box images, the first third.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from solobox import Dataset

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def caltech() -> tuple[Dataset, Dataset]:
    """Airplanes and faces: 987 to train on, 247 to test with."""
    rng = np.random.default_rng(42)
    parts: list[tuple[Dataset, Dataset]] = []
    for name in ("airplane", "face"):
        dataset = Dataset.read(_there(DATA / "caltech" / f"{name}.csv"), skip_bad=True)
        # The one row without a height is left out only now: it has its place in the shuffled order.
        listed = (DATA / "caltech" / f"{name}.csv").read_text().splitlines()[1:]
        names = sorted(line.split(",")[0] for line in listed)
        row_of = {image: row for row, image in enumerate(dataset.names)}
        order = rng.permutation(len(names))
        cut = len(names) // 5
        test, train = (
            [row_of[names[i]] for i in part if names[i] in row_of] for part in (order[:cut], order[cut:])
        )
        parts.append((dataset.select(train), dataset.select(test)))
    return joined(parts[0][0], parts[1][0]), joined(parts[0][1], parts[1][1])


def kangaroo() -> tuple[Dataset, Dataset]:
    """Single-box images: 72 to train on, 35 to test with."""
    dataset = Dataset.read(
        _there(DATA / "kangaroo" / "annots"), images=DATA / "kangaroo" / "images", skip_bad=True
    )
    order = np.argsort(np.array(dataset.names))
    order = order[np.random.default_rng(42).permutation(len(order))]
    cut = len(order) // 3
    return dataset.select(order[cut:]), dataset.select(order[:cut])


def plates() -> tuple[Dataset, Dataset]:
    """Licence plates in the street, split as their file says, 311 to train on and 116 to test with; no named split."""
    dataset = Dataset.read(_there(DATA / "plates" / "plates.csv"), images=DATA / "plates" / "images")
    training, test = (dataset.of_split(name) for name in ("train", "test"))
    return replace(training, split=("",) * len(training)), replace(test, split=("",) * len(test))


def whole(name: str) -> Dataset:
    """All images of a set: ``kangaroo``, ``plates``, or a class of Caltech."""
    if name == "kangaroo":
        return Dataset.read(
            _there(DATA / name / "annots"), images=DATA / name / "images", skip_bad=True
        ).positives()
    if name == "plates":
        return Dataset.read(_there(DATA / name / "plates.csv"), images=DATA / name / "images").positives()
    return Dataset.read(_there(DATA / "caltech" / f"{name}.csv"), skip_bad=True).positives()


def some(dataset: Dataset, count: int, seed: int) -> Dataset:
    """`count` of the rows, drawn at random by `seed`."""
    return dataset.select(np.sort(np.random.default_rng(seed).permutation(len(dataset))[:count]))


def joined(a: Dataset, b: Dataset) -> Dataset:
    """One table after the other."""
    return Dataset(
        (*a.images, *b.images), np.concatenate([a.boxes, b.boxes]), label=(*a.label, *b.label),
        names=(*a.names, *b.names), where=(*a.where, *b.where), notes=replace(a.notes),
    )  # fmt: skip


def _there(path: Path) -> Path:
    if not path.exists():
        sys.exit(f"{path} is not there: these figures need the real images")
    return path
