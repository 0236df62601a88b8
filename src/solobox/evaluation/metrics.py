"""The metrics of single-box localization: pure functions on boxes, no images and no model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation import bootstrap
from solobox.evaluation.bootstrap import Interval
from solobox.evaluation.coverage import Coverage, measure_coverage
from solobox.evaluation.familiarity import Familiarity
from solobox.evaluation.presence import THRESHOLD, Presence
from solobox.predict.prediction import Prediction
from solobox.uncertainty.conformal import DEFAULT_LEVEL
from solobox.utils.json_utils import Json, number

SHARES = {"iou50": 0.5, "iou75": 0.75, "iou90": 0.9}
"""The IoU that an image must reach to count in each share."""


@dataclass(frozen=True)
class Metrics:
    """How well predicted boxes match the true ones.

    n: number of images with a true box, unreadable ones included.
    mean_iou: mean intersection over union, in [0, 1].
    iou50, iou75, iou90: share of images with an IoU of at least 0.5, 0.75 and 0.9, in [0, 1].
    edge_mae_px: mean absolute error in pixels over all images and the four edges.
    center_mae_px: mean Euclidean distance in pixels between the true and the predicted centre.
    by_label: the same for the images of each label, by name; the key is the empty string for images that
        have no label where others have one. Empty when no image has a label.

    An image without a predicted box (it could not be read) is a failure: it counts as IoU 0 in `mean_iou`
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
    return {"n": metrics.n, **{k: number(v) for k, v in numbers.items()}}


def measure(truth: npt.ArrayLike, predicted: npt.ArrayLike, labels: Sequence[str] | None = None) -> Metrics:
    """Compare predicted boxes with true ones, pair by pair.

    truth: shape (N, 4), ``x1, y1, x2, y2`` in pixels of the upright image, all finite.
    predicted: the same; a row with a number that is not finite stands for an image without a predicted box
        (see `Metrics` for how it counts).
    labels: one for each row, or None; when all are the empty string there are no labels.

    Raises ValueError when the shapes do not fit or a true box is not finite.
    """
    true, found = _rows(truth), _rows(predicted)
    if true.shape != found.shape:
        raise ValueError(f"{len(true)} true boxes but {len(found)} predicted ones")
    if not np.isfinite(true).all():
        raise ValueError("a true box is not finite; leave images without a box out")
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


def figures(iou: npt.ArrayLike) -> dict[str, Floats]:
    """What the mean IoU and the shares are means of, by their names in `Metrics`: each shape (N,), in [0, 1].

    iou: shape (N,), of the images.
    """
    values = np.asarray(iou, dtype=np.float64)
    reached = {name: (values >= least).astype(np.float64) for name, least in SHARES.items()}
    return {"mean_iou": values, **reached}


def _measure(true: Floats, found: Floats, by_label: Mapping[str, Metrics] | None = None) -> Metrics:
    overlap = ious(true, found)
    has_box = np.isfinite(found).all(axis=1)
    error = found[has_box] - true[has_box]
    center = (error[:, :2] + error[:, 2:]) / 2
    return Metrics(
        n=len(true),
        **{name: _mean(values) for name, values in figures(overlap).items()},
        edge_mae_px=_mean(np.abs(error)),
        center_mae_px=_mean(np.hypot(center[:, 0], center[:, 1])),
        by_label=by_label or {},
    )


def _mean(values: Floats) -> float:
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

    dataset: the images that have a true box, N of them.
    predictions: one for each of `dataset`, in the same order.
    metrics: over those images.
    split: which part of the data it is, for people: ``test``, ``val``, ``train`` or ``all``.
    n_negatives: how many images of that part have no box; no metric of boxes is about them.
    n_unreadable: how many of the N images could not be read.
    iou: shape (N,), float64; 0 for an image that could not be read.
    n_seen: how many of the N images the model was trained on, or had its epoch chosen by.
    negatives: what was predicted for the images without a box.
    intervals: of `mean_iou`, `iou50`, `iou75` and `iou90`, by these names: what their means may be off by, by the
        bootstrap, see `bootstrap.mean_intervals`; whole groups at a time where there are groups.
    n_groups: how many groups the N images come in, an image without one counting as one; 0 where none has one.
    presence: how good the probabilities of presence are; None where the model gives none, or where images with the
        object or without it are missing.
    n_missed, n_false_alarms: images with the object whose presence is below `presence.THRESHOLD`, and images
        without it that reach it; None where the model gives no probability for any image of that kind.
    coverage: how often the margins hold the true box; None where the model gives no margins.
    familiarity: of the N images; None where the model has no figure for it.
    """

    dataset: Dataset
    predictions: tuple[Prediction, ...]
    metrics: Metrics
    split: str
    n_negatives: int
    n_unreadable: int
    iou: Floats
    n_seen: int = 0
    negatives: tuple[Prediction, ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    n_groups: int = 0
    presence: Presence | None = None
    n_missed: int | None = None
    n_false_alarms: int | None = None
    coverage: Coverage | None = None
    familiarity: Familiarity | None = None

    def to_dict(self) -> dict[str, Json]:
        """Give the metrics and the counts as plain JSON values, null for what is not known."""
        counts: dict[str, Json] = {
            "n_negatives": self.n_negatives,
            "n_unreadable": self.n_unreadable,
            "n_seen": self.n_seen,
            "n_groups": self.n_groups,
            "n_missed": self.n_missed,
            "n_false_alarms": self.n_false_alarms,
        }
        trust: dict[str, Json] = {
            "intervals": {name: interval.to_json() for name, interval in self.intervals.items()},
            "coverage": self.coverage.to_dict() if self.coverage else None,
            "presence": self.presence.to_dict() if self.presence else None,
            "familiarity": self.familiarity.to_dict() if self.familiarity else None,
        }
        return {"split": self.split, **counts, **self.metrics.to_dict(), **trust}


def evaluate_predictions(
    dataset: Dataset, predictions: Sequence[Prediction], split: str, *, level: float = DEFAULT_LEVEL
) -> Evaluation:
    """Compare predictions with the boxes of samples.

    dataset: the images of one part of the data. Of those without a box only the presence is measured.
    predictions: one for each of `dataset`, in the same order.
    split: the name of that part.
    level: the probability that the predictions' margins were made for.

    Raises ValueError when their numbers differ.
    """
    if len(dataset) != len(predictions):
        raise ValueError(f"{len(dataset)} samples but {len(predictions)} predictions")
    positives = dataset.positives()
    kept = tuple(p for p, has_box in zip(predictions, dataset.has_box, strict=True) if has_box)
    negatives = tuple(p for p, has_box in zip(predictions, dataset.has_box, strict=True) if not has_box)
    found, lower, upper = (
        np.array([getattr(p, key) for p in kept], dtype=np.float64).reshape(-1, 4)
        for key in ("box", "lower", "upper")
    )
    iou = ious(positives.boxes, found)
    of_each = figures(iou)
    intervals = bootstrap.mean_intervals(np.stack(list(of_each.values()), axis=1), positives.group)
    grouped = any(positives.group)
    there, absent = (np.array([p.presence for p in part], dtype=np.float64) for part in (kept, negatives))
    return Evaluation(
        dataset=positives,
        predictions=kept,
        metrics=measure(positives.boxes, found, positives.label),
        split=split,
        n_negatives=len(negatives),
        n_unreadable=sum(bool(p.error) for p in kept),
        iou=iou,
        negatives=negatives,
        intervals=dict(zip(of_each, intervals, strict=True)),
        n_groups=len(np.unique(bootstrap.units(len(kept), positives.group))) if grouped else 0,
        presence=Presence.of(there, absent),
        n_missed=int((there < THRESHOLD).sum()) if np.isfinite(there).any() else None,
        n_false_alarms=int((absent >= THRESHOLD).sum()) if np.isfinite(absent).any() else None,
        coverage=measure_coverage(
            positives.boxes, found, lower, upper, [p.size for p in kept], positives.group, level=level
        ),
        familiarity=Familiarity.of([p.familiarity for p in kept]),
    )
