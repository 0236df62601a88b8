"""Faults put into labels on purpose, to see who finds them."""

from dataclasses import replace

import numpy as np

from solobox import Dataset
from solobox.boxes import Floats, clip, iou
from solobox.images.reading import probe

KINDS = ("wrong place", "scaled by 1.5", "one edge moved")

_LEAST = 0.75
"""IoU with the true box that a scaled box may have at most: at the image's border one that grows may not change."""


def faulty(dataset: Dataset, seed: int, share: float = 0.05) -> tuple[Dataset, list[str]]:
    """`share` of the rows for each of `KINDS`, drawn by `seed`, with such a fault; and each row's kind, or "".

    Wrong place: a box of a quarter to half of the image's sides, anywhere with an IoU below 0.3. Scaled by 1.5:
    about its middle, cut to the image; one that has no room to grow shrinks. One edge moved: by a quarter of the
    box, outwards or inwards where the image has room.
    """
    rng = np.random.default_rng([seed, 77])
    count = round(share * len(dataset))
    order = rng.permutation(len(dataset))
    kinds = [""] * len(dataset)
    boxes = dataset.boxes.copy()
    for number, kind in enumerate(KINDS):
        for row in order[number * count : (number + 1) * count].tolist():
            kinds[row] = kind
            size = probe(dataset.images[row]).size
            boxes[row] = {
                "wrong place": elsewhere,
                "scaled by 1.5": scaled,
                "one edge moved": moved_edge,
            }[kind](rng, dataset.boxes[row], size)
    changed = Dataset(
        dataset.images, boxes, dataset.split, dataset.group, dataset.label, dataset.source, dataset.extra,
        dataset.names, dataset.where, replace(dataset.notes),
    )  # fmt: skip
    return changed, kinds


def elsewhere(rng: np.random.Generator, box: Floats, size: tuple[int, int]) -> Floats:
    while True:
        sides = rng.uniform(0.25, 0.5, 2) * size
        corner = rng.uniform(0, 1, 2) * (np.array(size) - sides)
        other = np.concatenate([corner, corner + sides])
        if iou(other, box) < 0.3:
            return other


def scaled(rng: np.random.Generator, box: Floats, size: tuple[int, int]) -> Floats:
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    larger = clip(np.concatenate([middle - 1.5 * half, middle + 1.5 * half]), *size)
    return (
        larger if iou(larger, box) <= _LEAST else np.concatenate([middle - half / 1.5, middle + half / 1.5])
    )


def moved_edge(rng: np.random.Generator, box: Floats, size: tuple[int, int]) -> Floats:
    edge = int(rng.integers(4))
    side = box[edge % 2 + 2] - box[edge % 2]
    outwards = -1 if edge < 2 else 1
    for way in rng.permutation([1, -1]).tolist():
        other = box.copy()
        other[edge] += way * outwards * 0.25 * side
        if (clip(other, *size) == other).all():
            break
    return other
