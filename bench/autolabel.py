"""Boxes that labelers find against boxes that people drew: `python bench/autolabel.py [--test]`.

Without --test: the training part of the split, on which cascade and choice were picked. With it: what is shipped,
on the test part. "labelled" is the share of images with a box; the share at IoU >= 0.5 is of these. One thread.
The faces' labels are heads, forehead to chin; a Haar box is a smaller square, so an IoU of about 0.6
is a hit: "missed" counts boxes below 0.2.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from datasets import caltech
from solobox import Dataset
from solobox.autolabel import Candidate, ImageCandidates, choose, find, label
from solobox.autolabel.candidates import by_score
from solobox.boxes import Floats, area, iou
from solobox.images.reading import probe

FACES = (
    "haar:frontalface_default",
    "haar:frontalface_alt",
    "haar:frontalface_alt2",
    "haar:frontalface_alt_tree",
    "grabcut",
)
AIRPLANES = ("grabcut",)
SHIPPED = {"face": ("haar:frontalface", "grabcut"), "airplane": AIRPLANES}


def largest(candidates: Sequence[Candidate]) -> Candidate | None:
    return max(candidates, key=lambda candidate: float(area(candidate.box)), default=None)


def surest(candidates: Sequence[Candidate]) -> Candidate | None:
    return by_score(candidates)[0] if candidates else None


def shipped(candidates: Sequence[Candidate]) -> Candidate | None:
    return choose(candidates)[0]


CHOICES: dict[str, Callable[[Sequence[Candidate]], Candidate | None]] = {
    "largest": largest,
    "surest": surest,
    "surest, rivals rejected": shipped,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="the test part, and only what is shipped")
    test_part = parser.parse_args().test
    cv2.setNumThreads(1)
    training, test = caltech()
    print(
        f"OpenCV {cv2.__version__}; the {'test' if test_part else 'training'} part\n"
        f"{'images':9s} {'labeler':26s} {'choice':26s} {'labelled':>8s} {'mean IoU':>8s} "
        f"{'IoU>=.5':>8s} {'missed':>6s} {'ms':>6s}"
    )
    for name, autolabel in {"face": FACES, "airplane": AIRPLANES}.items():
        part = of(test if test_part else training, name)
        for labeler in SHIPPED[name] if test_part else autolabel:
            started = time.perf_counter()
            found = list(label(part.paths, find(labeler), workers=1))
            seconds = time.perf_counter() - started
            for choice in ["surest, rivals rejected"] if test_part else CHOICES:
                row(name, labeler, choice, score(found, part.boxes, choice), seconds / len(part))
        everywhere = median_box(of(training, name), part)
        row(name, "the training part's median", "-", iou(everywhere, part.boxes), 0)


def of(dataset: Dataset, name: str) -> Dataset:
    return dataset.select(np.array([text == name for text in dataset.label]))


def score(found: Sequence[ImageCandidates], boxes: Floats, choice: str) -> Floats:
    """The IoU of each image's chosen box with the true one; NaN where there is none."""
    chosen = [CHOICES[choice](each.candidates) for each in found]
    return np.array(
        [
            float(iou(one.box, box)) if one is not None else np.nan
            for one, box in zip(chosen, boxes, strict=True)
        ]
    )


def median_box(training: Dataset, part: Dataset) -> Floats:
    """The same fractions of every image: what a labeler has to beat."""

    def sizes(dataset: Dataset) -> Floats:
        return np.array([probe(image).size * 2 for image in dataset.paths], dtype=np.float64)

    middle: Floats = np.median(training.boxes / sizes(training), axis=0)
    return middle * sizes(part)


def row(name: str, labeler: str, choice: str, overlap: Floats, seconds: float) -> None:
    there = overlap[~np.isnan(overlap)]
    print(
        f"{name:9s} {labeler:26s} {choice:26s} {len(there) / len(overlap):8.3f} {there.mean():8.3f} "
        f"{(there >= 0.5).mean():8.3f} {int((there < 0.2).sum()):6d} {seconds * 1000:6.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
