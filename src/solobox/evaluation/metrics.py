"""The metrics of single-box localization: pure functions on boxes, no pictures and no model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats
from solobox.prediction import Prediction
from solobox.samples import Samples

Json: TypeAlias = "str | int | float | dict[str, Json] | None"


@dataclass(frozen=True)
class Metrics:
    """How well predicted boxes match the true ones.

    n: number of pictures with a true box, unreadable ones included.
    mean_iou: mean intersection over union, in [0, 1].
    iou50, iou75, iou90: share of pictures with an IoU of at least 0.5, 0.75 and 0.9, in [0, 1].
    edge_mae_px: mean absolute error in pixels over all pictures and the four edges.
    center_mae_px: mean Euclidean distance in pixels between the true and the predicted centre.
    by_label: the same for the pictures of each label, by name; the key is the empty string for pictures that
        have no label where others have one. Empty when no picture has a label.

    A picture without a predicted box (it could not be read) is a failure: it counts as IoU 0 in `mean_iou`
    and in the shares. No distance can be given for it, so the two errors in pixels are over the others. A
    number that is a mean over nothing is NaN here and null in JSON.
    """

    n: int
    mean_iou: float
    iou50: float
    iou75: float
    iou90: float
    edge_mae_px: float
    center_mae_px: float
    by_label: Mapping[str, "Metrics"] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON values: null for NaN, `by_label` as a dictionary of the same (without a `by_label`)."""
        return {**_numbers(self), "by_label": {k: _numbers(v) for k, v in self.by_label.items()}}


def _numbers(metrics: Metrics) -> dict[str, Json]:
    numbers: dict[str, float] = {
        "mean_iou": metrics.mean_iou,
        "iou50": metrics.iou50,
        "iou75": metrics.iou75,
        "iou90": metrics.iou90,
        "edge_mae_px": metrics.edge_mae_px,
        "center_mae_px": metrics.center_mae_px,
    }
    return {"n": metrics.n, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}}


def measure(truth: npt.ArrayLike, predicted: npt.ArrayLike, labels: Sequence[str] | None = None) -> Metrics:
    """Compare predicted boxes with true ones, pair by pair.

    truth: shape (N, 4), ``x1, y1, x2, y2`` in pixels of the upright picture, all finite.
    predicted: the same; a row with a number that is not finite stands for a picture without a predicted box
        (see `Metrics` for how it counts).
    labels: one for each row, or None; when all are the empty string there are no labels.

    Raises ValueError when the shapes do not fit or a true box is not finite.
    """
    true, found = _rows(truth), _rows(predicted)
    if true.shape != found.shape:
        raise ValueError(f"{len(true)} true boxes but {len(found)} predicted ones")
    if not np.isfinite(true).all():
        raise ValueError("a true box is not finite; leave pictures without a box out")
    if labels is not None and len(labels) != len(true):
        raise ValueError(f"{len(true)} boxes but {len(labels)} labels")

    names = np.asarray(labels if labels is not None else [], dtype=object)
    by_label = {
        str(name): _measure(true[names == name], found[names == name])
        for name in (sorted(set(names)) if any(names) else ())
    }
    return _measure(true, found, by_label)


def ious(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Floats:
    """IoU of each pair of boxes, shape (N,); 0 where there is no predicted box."""
    return np.nan_to_num(boxes.iou(_rows(truth), _found_or_nan(_rows(predicted))), nan=0.0)


def _measure(true: Floats, found: Floats, by_label: Mapping[str, Metrics] | None = None) -> Metrics:
    overlap = ious(true, found)
    has_box = np.isfinite(found).all(axis=1)
    error = found[has_box] - true[has_box]
    center = (error[:, :2] + error[:, 2:]) / 2
    return Metrics(
        n=len(true),
        mean_iou=_mean(overlap),
        iou50=_mean(overlap >= 0.5),
        iou75=_mean(overlap >= 0.75),
        iou90=_mean(overlap >= 0.9),
        edge_mae_px=_mean(np.abs(error)),
        center_mae_px=_mean(np.hypot(center[:, 0], center[:, 1])),
        by_label=by_label or {},
    )


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else math.nan


def _rows(array: npt.ArrayLike) -> Floats:
    rows = np.asarray(array, dtype=np.float64)
    if rows.size == 0:
        return np.empty((0, 4))
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"boxes have shape (N, 4), not {rows.shape}")
    return rows


def _found_or_nan(rows: Floats) -> Floats:
    return np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.nan)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions beside the truth for one part of a data set.

    samples: the pictures that have a true box, N of them.
    predictions: one for each of `samples`, in the same order.
    metrics: over those pictures.
    split: which part of the data it is, for people: ``test``, ``val``, ``train`` or ``all``.
    n_negatives: how many pictures of that part have no box and were left out.
    n_unreadable: how many of the N pictures could not be read.
    iou: shape (N,), float64; 0 for a picture that could not be read.
    n_seen: how many of the N pictures the model was trained on, or had its epoch chosen by.
    """

    samples: Samples
    predictions: tuple[Prediction, ...]
    metrics: Metrics
    split: str
    n_negatives: int
    n_unreadable: int
    iou: Floats
    n_seen: int = 0

    def to_dict(self) -> dict[str, Json]:
        """Give the metrics and the counts as plain JSON values."""
        counts: dict[str, Json] = {
            "n_negatives": self.n_negatives,
            "n_unreadable": self.n_unreadable,
            "n_seen": self.n_seen,
        }
        return {"split": self.split, **counts, **self.metrics.to_dict()}


def evaluate_predictions(samples: Samples, predictions: Sequence[Prediction], split: str) -> Evaluation:
    """Compare predictions with the boxes of samples.

    samples: the pictures of one part of the data; those without a box are counted and left out.
    predictions: one for each of `samples`, in the same order.
    split: the name of that part.

    Raises ValueError when their numbers differ.
    """
    if len(samples) != len(predictions):
        raise ValueError(f"{len(samples)} samples but {len(predictions)} predictions")
    positives = samples.positives()
    kept = tuple(p for p, has_box in zip(predictions, samples.has_box, strict=True) if has_box)
    found = np.array([p.box for p in kept], dtype=np.float64).reshape(-1, 4)
    return Evaluation(
        samples=positives,
        predictions=kept,
        metrics=measure(positives.boxes, found, positives.label),
        split=split,
        n_negatives=len(samples) - len(positives),
        n_unreadable=sum(bool(p.error) for p in kept),
        iou=ious(positives.boxes, found),
    )
