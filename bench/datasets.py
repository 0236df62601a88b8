"""The real pictures that figures are made from, split by the rule that every reported figure follows.

Rows of a class sorted by file name, their indices shuffled with ``numpy.random.default_rng(42).permutation``, one
generator for the whole set, classes in alphabetical order; the first fifth of each class is the test set. For
kangaroo: the single-box pictures, the first third.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from solobox import Samples

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def caltech() -> tuple[Samples, Samples]:
    """Airplanes and faces: 987 to train on, 247 to test with."""
    rng = np.random.default_rng(42)
    parts: list[tuple[Samples, Samples]] = []
    for name in ("airplane", "face"):
        samples = Samples.read(_there(DATA / "caltech" / f"{name}.csv"), skip_bad=True)
        # The one row without a height is left out only now: it has its place in the shuffled order.
        listed = (DATA / "caltech" / f"{name}.csv").read_text().splitlines()[1:]
        names = sorted(line.split(",")[0] for line in listed)
        row_of = {image: row for row, image in enumerate(samples.names)}
        order = rng.permutation(len(names))
        cut = len(names) // 5
        test, train = (
            [row_of[names[i]] for i in part if names[i] in row_of] for part in (order[:cut], order[cut:])
        )
        parts.append((samples.select(train), samples.select(test)))
    return joined(parts[0][0], parts[1][0]), joined(parts[0][1], parts[1][1])


def kangaroo() -> tuple[Samples, Samples]:
    """Single-box pictures: 72 to train on, 35 to test with."""
    samples = Samples.read(
        _there(DATA / "kangaroo" / "annots"), images=DATA / "kangaroo" / "images", skip_bad=True
    )
    order = np.argsort(np.array(samples.names))
    order = order[np.random.default_rng(42).permutation(len(order))]
    cut = len(order) // 3
    return samples.select(order[cut:]), samples.select(order[:cut])


def some(samples: Samples, count: int, seed: int) -> Samples:
    """`count` of the rows, drawn at random by `seed`."""
    return samples.select(np.sort(np.random.default_rng(seed).permutation(len(samples))[:count]))


def joined(a: Samples, b: Samples) -> Samples:
    """One table after the other."""
    return Samples(
        (*a.images, *b.images), np.concatenate([a.boxes, b.boxes]), label=(*a.label, *b.label),
        names=(*a.names, *b.names), where=(*a.where, *b.where), notes=replace(a.notes),
    )  # fmt: skip


def _there(path: Path) -> Path:
    if not path.exists():
        sys.exit(f"{path} is not there: these figures need the real pictures")
    return path
