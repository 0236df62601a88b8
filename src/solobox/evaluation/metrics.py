"""The metrics of single-box localization: pure functions on boxes, without images or a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation import bootstrap
from solobox.evaluation.bootstrap import ConfidenceInterval
from solobox.evaluation.coverage import Coverage, measure_coverage
from solobox.evaluation.presence_metrics import THRESHOLD, PresenceMetrics
from solobox.predict.prediction import Prediction
from solobox.uncertainty.conformal import DEFAULT_LEVEL
from solobox.uncertainty.familiarity import shift_p_value
from solobox.utils.json_utils import Json, number

IOU_THRESHOLDS = {"iou50": 0.5, "iou75": 0.75, "iou90": 0.9}
"""The IoU that an image must reach to count in each share."""

UNFAMILIAR = 0.01
"""An image with at most this familiarity is out of distribution: only one in a hundred held-out training images is."""

SHIFT_LEVEL = 0.01
"""Images as a whole are unlike the training images if `shift_p_value` is at most this: one false alarm in 100 sets."""


@dataclass(frozen=True)
class BoxMetrics:
    """How well predicted boxes match the true ones.

    n: number of images with a true box, including those that could not be read.
    mean_iou: mean intersection over union, in [0, 1].
    iou50, iou75, iou90: share of images with an IoU of at least 0.5, 0.75 and 0.9, in [0, 1].
    edge_mae_px: mean absolute error in pixels over all images and the four edges.
    center_mae_px: mean Euclidean distance in pixels between the true and the predicted centers.
    by_label: the metrics of each label, by name; images without a label have the key ``""``. Empty if no image has a
        label.

    An image without a predicted box (it could not be read) counts as IoU 0 in `mean_iou` and the shares, and is left
    out of the two errors in pixels. The mean over no images is NaN here and null in JSON.
    """

    n: int
    mean_iou: float
    iou50: float
    iou75: float
    iou90: float
    edge_mae_px: float
    center_mae_px: float
    by_label: Mapping[str, "BoxMetrics"] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """The metrics as plain JSON values: None for NaN; the metrics of a label have no `by_label`."""
        return {
            **_flat_dict(self),
            "by_label": {name: _flat_dict(one) for name, one in self.by_label.items()},
        }


def _flat_dict(metrics: BoxMetrics) -> dict[str, Json]:
    names = ("mean_iou", *IOU_THRESHOLDS, "edge_mae_px", "center_mae_px")
    return {"n": metrics.n, **{name: number(getattr(metrics, name)) for name in names}}


def measure(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, labels: Sequence[str] | None = None
) -> BoxMetrics:
    """Compare predicted boxes with true boxes, row by row.

    truth: shape (N, 4), ``x1, y1, x2, y2`` in pixels of the upright image, all finite.
    predicted: the same; a row with a value that is not finite stands for an image without a predicted box.
    labels: one for each row, or None. There are no labels if all are the empty string.

    Raises ValueError if the shapes do not match or a true box is not finite.
    """
    true_boxes, predicted_boxes = _as_boxes(truth), _as_boxes(predicted)
    if true_boxes.shape != predicted_boxes.shape:
        raise ValueError(f"{len(true_boxes)} true boxes but {len(predicted_boxes)} predicted boxes")
    if not np.isfinite(true_boxes).all():
        raise ValueError("a true box is not finite; leave out images without a box")
    if labels is not None and len(labels) != len(true_boxes):
        raise ValueError(f"{len(true_boxes)} boxes but {len(labels)} labels")

    names = np.asarray(labels if labels is not None else [], dtype=object)
    by_label = {
        str(name): _measure(true_boxes[names == name], predicted_boxes[names == name])
        for name in (sorted(set(names)) if any(names) else ())
    }
    return _measure(true_boxes, predicted_boxes, by_label)


def ious(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Floats:
    """IoU of each pair of boxes, shape (N,); 0 for a predicted box that is not finite."""
    rows = _as_boxes(predicted)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.nan)
    return np.nan_to_num(boxes.iou(_as_boxes(truth), rows), nan=0.0)


def per_image_metrics(iou: npt.ArrayLike) -> dict[str, Floats]:
    """The values per image whose means are `mean_iou`, `iou50`, `iou75` and `iou90`: shape (N,) each, in [0, 1].

    iou: shape (N,).
    """
    values = np.asarray(iou, dtype=np.float64)
    reached = {name: (values >= least).astype(np.float64) for name, least in IOU_THRESHOLDS.items()}
    return {"mean_iou": values, **reached}


def _measure(
    truth: Floats, predicted: Floats, by_label: Mapping[str, BoxMetrics] | None = None
) -> BoxMetrics:
    has_box = np.isfinite(predicted).all(axis=1)
    error = predicted[has_box] - truth[has_box]
    center = (error[:, :2] + error[:, 2:]) / 2
    return BoxMetrics(
        n=len(truth),
        **{name: _mean(values) for name, values in per_image_metrics(ious(truth, predicted)).items()},
        edge_mae_px=_mean(np.abs(error)),
        center_mae_px=_mean(np.hypot(center[:, 0], center[:, 1])),
        by_label=by_label or {},
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else math.nan


def _as_boxes(array: npt.ArrayLike) -> Floats:
    rows = np.asarray(array, dtype=np.float64)
    if rows.size == 0:
        return np.empty((0, 4))
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise ValueError(f"boxes have shape (N, 4), not {rows.shape}")
    return rows


@dataclass(frozen=True, slots=True)
class FamiliaritySummary:
    """The familiarity of a set of images, see `Prediction.familiarity`.

    n: images that have a familiarity, at least one.
    median: their median, in (0, 1]; about 0.5 for images like the training images.
    share_unfamiliar: share of them at or below `UNFAMILIAR`, in [0, 1]; about 0.01 for images like the training images.
        None if the model was calibrated on too few images for such a value.
    p_value: of the hypothesis that all of them are like the training images, see `shift_p_value`; None if the number of
        the calibration images is unknown.
    """

    n: int
    median: float
    share_unfamiliar: float | None
    p_value: float | None = None

    @classmethod
    def from_values(
        cls,
        familiarity: npt.ArrayLike,
        *,
        n_reference: int | None = None,
        n_distances: int | None = None,
        groups: Sequence[str] | None = None,
    ) -> "FamiliaritySummary | None":
        """Summarize the familiarity of N images, shape (N,). NaN is left out; None if nothing remains.

        n_reference: the images that the model's familiarity was calibrated on, or groups of them. n_distances: the
            images, by default as many. groups: N names, as in `Dataset`.
        """
        values = np.asarray(familiarity, dtype=np.float64).reshape(-1)
        finite = np.isfinite(values)
        names = [name for name, ok in zip(groups or [""] * len(values), finite.tolist(), strict=True) if ok]
        values = values[finite]
        if not len(values):
            return None
        share, p_value = float((values <= UNFAMILIAR).mean()), None
        if n_reference is not None:
            n_groups = len({name or row for row, name in enumerate(names)})
            p_value = shift_p_value(values, n_reference, n_groups=n_groups)
        n_distances = n_reference if n_distances is None else n_distances
        possible = n_distances is None or 1 / (n_distances + 1) <= UNFAMILIAR
        return cls(len(values), float(np.median(values)), share if possible else None, p_value)

    @property
    def differs(self) -> bool:
        """Whether the images as a whole are significantly unlike the training images, at `SHIFT_LEVEL`."""
        return self.p_value is not None and self.p_value <= SHIFT_LEVEL

    def to_dict(self) -> dict[str, Json]:
        """The fields as plain JSON values."""
        return {
            "n": self.n,
            "median": self.median,
            "share_unfamiliar": self.share_unfamiliar,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions and metrics for one split of a dataset.

    dataset: the N images of the split that have a true box.
    predictions: one for each image of `dataset`, in the same order.
    metrics: of the boxes.
    split: name of the split: ``test``, ``val``, ``train`` or ``all``.
    n_negatives: images of the split without a box; box metrics leave them out.
    n_unreadable: how many of the N images could not be read.
    iou: shape (N,), float64; 0 for an image that could not be read.
    n_seen_in_training: how many of the N images were in the model's training or validation split.
    negatives: the predictions for the images without a box.
    intervals: bootstrap confidence intervals of `mean_iou`, `iou50`, `iou75` and `iou90`, by name, see
        `bootstrap.mean_intervals`; whole groups are resampled.
    n_groups: number of groups of the N images; an image without a group counts as one. 0 if no image has a group.
    presence: metrics of the presence probability; None if the model gives none, or without images with the object, or
        without images without it.
    n_missed, n_false_alarms: images with the object and a presence below `presence.THRESHOLD`, and images without it at
        or above; None if no image of that kind has a presence probability.
    coverage: of the margins; None if the model gives no margins.
    familiarity: of the N images; None if the model gives none.
    """

    dataset: Dataset
    predictions: tuple[Prediction, ...]
    metrics: BoxMetrics
    split: str
    n_negatives: int
    n_unreadable: int
    iou: Floats
    n_seen_in_training: int = 0
    negatives: tuple[Prediction, ...] = ()
    intervals: Mapping[str, ConfidenceInterval] = field(default_factory=dict)
    n_groups: int = 0
    presence: PresenceMetrics | None = None
    n_missed: int | None = None
    n_false_alarms: int | None = None
    coverage: Coverage | None = None
    familiarity: FamiliaritySummary | None = None

    def to_dict(self) -> dict[str, Json]:
        """The metrics and counts as plain JSON values, None for what the model does not give."""
        counts: dict[str, Json] = {
            "n_negatives": self.n_negatives,
            "n_unreadable": self.n_unreadable,
            "n_seen_in_training": self.n_seen_in_training,
            "n_groups": self.n_groups,
            "n_missed": self.n_missed,
            "n_false_alarms": self.n_false_alarms,
        }
        uncertainty: dict[str, Json] = {
            "intervals": {name: interval.to_json() for name, interval in self.intervals.items()},
            "coverage": self.coverage.to_dict() if self.coverage else None,
            "presence": self.presence.to_dict() if self.presence else None,
            "familiarity": self.familiarity.to_dict() if self.familiarity else None,
        }
        return {"split": self.split, **counts, **self.metrics.to_dict(), **uncertainty}


def evaluate_predictions(
    dataset: Dataset,
    predictions: Sequence[Prediction],
    split: str,
    *,
    level: float = DEFAULT_LEVEL,
    n_reference: int | None = None,
    n_distances: int | None = None,
) -> Evaluation:
    """Compare predictions with the true boxes of a dataset.

    dataset: the images of one split. Images without a box count for the presence metrics only.
    predictions: one for each image, in the same order.
    split: name of the split.
    level: the nominal coverage of the predictions' margins.
    n_reference, n_distances: see `FamiliaritySummary.from_values`.

    Raises ValueError if the number of predictions differs from the number of images.
    """
    if len(dataset) != len(predictions):
        raise ValueError(f"{len(dataset)} images but {len(predictions)} predictions")
    labelled = dataset.positives()
    positives = tuple(p for p, has_box in zip(predictions, dataset.has_box, strict=True) if has_box)
    negatives = tuple(p for p, has_box in zip(predictions, dataset.has_box, strict=True) if not has_box)
    predicted, lower, upper = (
        np.array([getattr(p, name) for p in positives], dtype=np.float64).reshape(-1, 4)
        for name in ("box", "lower", "upper")
    )
    iou = ious(labelled.boxes, predicted)
    values = per_image_metrics(iou)
    intervals = bootstrap.mean_intervals(np.stack(list(values.values()), axis=1), labelled.group)
    grouped = any(labelled.group)
    positive, negative = (
        np.array([p.presence for p in some], dtype=np.float64) for some in (positives, negatives)
    )
    return Evaluation(
        dataset=labelled,
        predictions=positives,
        metrics=measure(labelled.boxes, predicted, labelled.label),
        split=split,
        n_negatives=len(negatives),
        n_unreadable=sum(bool(p.error) for p in positives),
        iou=iou,
        negatives=negatives,
        intervals=dict(zip(values, intervals, strict=True)),
        n_groups=len(np.unique(bootstrap.units(len(positives), labelled.group))) if grouped else 0,
        presence=PresenceMetrics.from_probabilities(positive, negative),
        n_missed=int((positive < THRESHOLD).sum()) if np.isfinite(positive).any() else None,
        n_false_alarms=int((negative >= THRESHOLD).sum()) if np.isfinite(negative).any() else None,
        coverage=measure_coverage(
            labelled.boxes, predicted, lower, upper, [p.size for p in positives], labelled.group, level=level
        ),
        familiarity=FamiliaritySummary.from_values(
            [p.familiarity for p in positives],
            n_reference=n_reference,
            n_distances=n_distances,
            groups=labelled.group,
        ),
    )
