"""What the report says about a training run, and the statistics it computes from an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from solobox import boxes
from solobox.boxes import Floats
from solobox.evaluation.coverage import object_sides
from solobox.evaluation.metrics import Evaluation


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Plain facts about the training run, for the report.

    name: what the run is called, for example the name of its folder.
    recipe: every setting of the run, by name.
    history: one row for each epoch, with the keys `epoch`, `train_loss`, `val_iou` and `seconds` where known.
    backbone: the name of the backbone.
    seed: of all randomness.
    data: where the labelled images came from.
    command: the command line that repeats the run.
    versions: of the libraries that matter, by name.
    counts: number of images by what became of them (`train`, `val`, `test`, `negatives`, `skipped`).
    seconds: time spent, by stage, in order.
    best_epoch: the epoch whose weights were kept, or None.
    """

    name: str
    recipe: Mapping[str, object]
    history: Sequence[Mapping[str, float]]
    backbone: str
    seed: int
    data: str
    command: str
    versions: Mapping[str, str]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    best_epoch: int | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """The M images of an evaluation that have both a true and a predicted box.

    index: shape (M,), int: their rows in the evaluation.
    iou: shape (M,).
    truth, predicted: shape (M, 4), pixels.
    size: shape (M, 2), float64: width and height of the images in pixels.
    """

    index: np.ndarray[tuple[int], np.dtype[np.intp]]
    iou: Floats
    truth: Floats
    predicted: Floats
    size: Floats

    @property
    def fractions(self) -> Floats:
        """The true boxes as fractions of their images, shape (M, 4)."""
        return boxes.scale(self.truth, 1 / self.size[:, 0], 1 / self.size[:, 1])

    @property
    def object_side(self) -> Floats:
        """The object's side as a fraction of the image's: square root of the share of the area, (M,)."""
        return object_sides(self.truth, self.size)


def measured(evaluation: Evaluation) -> Measured:
    """Pick the images for which distances and sizes are known."""
    found = np.array([p.box for p in evaluation.predictions], dtype=np.float64).reshape(-1, 4)
    size = np.array([p.size for p in evaluation.predictions], dtype=np.float64).reshape(-1, 2)
    index = np.flatnonzero(np.isfinite(found).all(axis=1) & (size > 0).all(axis=1))
    truth = np.asarray(evaluation.dataset.boxes, dtype=np.float64).reshape(-1, 4)
    return Measured(index, evaluation.iou[index], truth[index], found[index], size[index])


def edge_errors(truth: Floats, predicted: Floats) -> Floats:
    """Signed error of each edge in percent of the true box's side, shape (M, 4): left, top, right, bottom.

    Left and right are measured in widths of the box, top and bottom in heights. Positive: the predicted edge
    lies outside the true box; negative: inside it.
    """
    width, height = truth[:, 2] - truth[:, 0], truth[:, 3] - truth[:, 1]
    side = np.stack([width, height, width, height], axis=1)
    outwards = np.array([-1.0, -1.0, 1.0, 1.0])
    return np.asarray(100 * (predicted - truth) * outwards / side, dtype=np.float64)


def fixed_box(fractions: Floats) -> Floats:
    """Give the one box that is drawn without looking: the median of each edge, shape (4,), fractions."""
    return np.median(fractions, axis=0)


def coverage(fractions: Floats, cells: int = 32) -> Floats:
    """Share of the boxes that cover the middle of each cell of a square grid, (cells, cells), row by row."""
    middle = (np.arange(cells) + 0.5) / cells
    x = (fractions[:, 0, None] <= middle) & (middle < fractions[:, 2, None])
    y = (fractions[:, 1, None] <= middle) & (middle < fractions[:, 3, None])
    return y.astype(np.float64).T @ x.astype(np.float64) / len(fractions)


def running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Median of y over a window that slides along x: two arrays of the same length, empty for few points."""
    n = len(x)
    window = max(7, n // 8)
    if n < 2 * window:
        return np.empty(0), np.empty(0)
    order = np.argsort(x, kind="stable")
    view = np.lib.stride_tricks.sliding_window_view
    return np.median(view(x[order], window), axis=1), np.median(view(y[order], window), axis=1)


def extremes(iou: Floats, best: int = 6, worst: int = 20) -> tuple[list[int], list[int]]:
    """Choose the images to show: positions of the best (best first) and of the worst (worst first).

    No image is in both; a small evaluation has fewer best ones, so that the failures come first.
    """
    order = np.argsort(iou, kind="stable")
    best = min(best, len(order) // 4)
    worst = min(worst, len(order) - best)
    return [int(i) for i in order[::-1][:best]], [int(i) for i in order[:worst]]
