"""The statistics that the report computes from an evaluation."""

from dataclasses import dataclass

import numpy as np

from solobox import boxes
from solobox.boxes import OUTWARDS, Floats, object_sides
from solobox.evaluation.metrics import Evaluation


@dataclass(frozen=True, eq=False)
class MatchedBoxes:
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
    def normalized(self) -> Floats:
        """The true boxes in units of the image width and height, shape (M, 4)."""
        return boxes.scale(self.truth, 1 / self.size[:, 0], 1 / self.size[:, 1])

    @property
    def object_side(self) -> Floats:
        """The relative object sizes, see `object_sides`, shape (M,)."""
        return object_sides(self.truth, self.size)


def matched_boxes(evaluation: Evaluation) -> MatchedBoxes:
    """Select the images whose prediction has a box and an image size."""
    predicted = np.array([p.box for p in evaluation.predictions], dtype=np.float64).reshape(-1, 4)
    size = np.array([p.size for p in evaluation.predictions], dtype=np.float64).reshape(-1, 2)
    index = np.flatnonzero(np.isfinite(predicted).all(axis=1) & (size > 0).all(axis=1))
    truth = np.asarray(evaluation.dataset.boxes, dtype=np.float64).reshape(-1, 4)
    return MatchedBoxes(index, evaluation.iou[index], truth[index], predicted[index], size[index])


def edge_errors(truth: Floats, predicted: Floats) -> Floats:
    """Signed error of each edge in percent of the true box's side, shape (M, 4): left, top, right, bottom.

    Left and right are relative to the width of the true box, top and bottom to its height. Positive: the predicted edge
    lies outside the true box. Negative: inside.
    """
    width, height = truth[:, 2] - truth[:, 0], truth[:, 3] - truth[:, 1]
    side = np.stack([width, height, width, height], axis=1)
    return np.asarray(100 * (predicted - truth) * OUTWARDS / side, dtype=np.float64)


def median_box(normalized: Floats) -> Floats:
    """The median of each edge over normalized boxes (M, 4): the baseline that ignores the image, shape (4,)."""
    return np.median(normalized, axis=0)


def box_heatmap(normalized: Floats, cells: int = 32) -> Floats:
    """Share of the normalized boxes that contain the center of each cell of a square grid, (cells, cells)."""
    center = (np.arange(cells) + 0.5) / cells
    x = (normalized[:, 0, None] <= center) & (center < normalized[:, 2, None])
    y = (normalized[:, 1, None] <= center) & (center < normalized[:, 3, None])
    return y.astype(np.float64).T @ x.astype(np.float64) / len(normalized)


def running_median(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The medians of x and of y in a window that slides along x: two arrays of one length, empty for few points."""
    n = len(x)
    window = max(7, n // 8)
    if n < 2 * window:
        return np.empty(0), np.empty(0)
    order = np.argsort(x, kind="stable")
    view = np.lib.stride_tricks.sliding_window_view
    return np.median(view(x[order], window), axis=1), np.median(view(y[order], window), axis=1)


def extremes(iou: Floats, best: int = 6, worst: int = 20) -> tuple[list[int], list[int]]:
    """Rows of the best images (best first) and of the worst (worst first).

    No image is in both. With few images the best ones are fewer, so that the failures are shown.
    """
    order = np.argsort(iou, kind="stable")
    best = min(best, len(order) // 4)
    worst = min(worst, len(order) - best)
    return [int(i) for i in order[::-1][:best]], [int(i) for i in order[:worst]]
