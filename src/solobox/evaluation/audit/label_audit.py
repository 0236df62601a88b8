"""The label audit: which labels disagree with a model that was trained without them, by how much, and in what way.

Labels are compared with out-of-fold predictions, as in confident learning (Northcutt, Jiang & Chuang, 2021, "Confident
Learning: Estimating Uncertainty in Dataset Labels"; for boxes ObjectLab: Tkachenko, Thyagarajan & Mueller, 2023,
"ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection Data"). With one box per image there is nothing
to match, so each label is compared with its prediction edge by edge, in units of the expected error of that prediction.
A label that does not overlap its prediction scores highest; a distance from an uncertain prediction is weak evidence.

All functions are pure functions on arrays; boxes are ``x1, y1, x2, y2`` in pixels of the upright image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import OUTWARDS, Floats
from solobox.data.dataset import Dataset
from solobox.predict.prediction import Prediction
from solobox.uncertainty import conformal

ANNOTATOR_ERROR = 0.01
"""The disagreement between two careful annotators, relative to the side of the box: added in quadrature to the expected
error of each edge, however certain the model is."""

DEVIATIONS = 2.5
"""A label is flagged if the logarithm of its score is more than this many deviations above the median of all labels."""

MIN_THRESHOLD = 7.0
"""Labels with a lower score are never flagged: in clean datasets the distribution of scores has a heavier tail than its
lower half suggests."""

ABSENT, PRESENT = 0.05, 0.95
"""A label with a box is flagged if the presence is at most `ABSENT`, one without a box if it is at least `PRESENT`."""

_EDGES = ("left", "top", "right", "bottom")
_NORMAL_MAD = 0.6745  # median absolute deviation of the standard normal distribution
_MAX_WRONG_PLACE_IOU = 0.3  # below this IoU a label is in the wrong place, unless one box contains the other
_MAX_OTHER_OBJECT_IOU = 0.1  # up to this IoU of two predicted boxes they are two objects
_MIN_CONTAINED = 0.9  # from this share of its area inside another box on, a box is contained in it
_MIN_MERGED_AREA = (
    1.5  # a label from this many times the area of the predicted box on may contain two objects
)
_MIN_MERGED_IOU = 0.75  # from this IoU with the hull of two predicted boxes on, a label contains both
_MIN_SECOND_AREA = 0.2  # smallest area of the second object, relative to the first
_MAX_OTHER_EDGES = 0.4  # largest error of the other edges, relative to the worst one, for "one edge off"
_EPSILON = 1e-3
_MAX_UNFAMILIAR = 0.02  # familiarity up to which the explanation says that the image is unusual


class ErrorKind(StrEnum):
    """The kind of a label error."""

    AGREES = "agrees"
    WRONG_PLACE = "wrong place"
    TOO_BIG = "too big"
    TOO_SMALL = "too small"
    SHIFTED = "shifted"
    EDGE = "one edge off"
    MERGED = "several boxes merged"
    EMPTY = "should be empty"
    MISSING = "missing"
    UNREADABLE = "image unreadable"


@dataclass(frozen=True, slots=True, eq=False)
class AuditFinding:
    """The result of the audit for one label.

    row: of the dataset.
    score: 0 or more, the higher the worse; infinite for an unreadable image. It has no unit and can be compared within
        one audit only, see `disagreement`.
    flagged: whether a person should review the label. kind: `ErrorKind.AGREES` if not flagged.
    iou: of the label and the predicted box; NaN if either is missing.
    label, predicted: shape (4,), float64, the two boxes; NaN if missing.
    second: shape (4,), for `ErrorKind.MERGED` the predicted box of the second object; else NaN.
    why: an explanation in one sentence.
    """

    row: int
    score: float
    flagged: bool
    kind: ErrorKind
    iou: float
    label: Floats
    predicted: Floats
    second: Floats
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """The findings, one per row of the dataset, worst first; boxes with a score of at least `threshold` are flagged."""

    findings: tuple[AuditFinding, ...]
    threshold: float

    @property
    def flagged(self) -> tuple[AuditFinding, ...]:
        """The findings that a person should review, worst first; they come first in `findings`."""
        return tuple(finding for finding in self.findings if finding.flagged)


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """How far N labels are from their predictions.

    z: shape (N, 4), the signed distance of each edge (positive if the label lies further outside than the prediction)
        in units of the expected error of that edge, like a z-score. score: shape (N,).
    """

    z: Floats
    score: Floats


def disagreement(labels: npt.ArrayLike, predicted: npt.ArrayLike, std: npt.ArrayLike) -> Disagreement:
    """Compare labels with out-of-fold predictions.

    labels, predicted: shape (N, 4), pixels. std: shape (N, 4), pixels, the predicted standard deviation of each edge;
        NaN for a head without one, whose errors are relative to the side of the box.

    The expected error of an edge is its predicted standard deviation, recalibrated by one factor per edge over the
    whole dataset (the robust standard deviation of error / std: 1.4826 times the median absolute value), with
    `ANNOTATOR_ERROR` added in quadrature. So neither a systematic error of the standard deviations nor a single one
    close to zero matters. The score is the largest absolute z of the four edges, times ``2 - IoU``: of two labels with
    the same z, the one with less overlap is worse.

    Both are independent of the image size, and the score increases as a label moves away from its prediction.
    """
    truth = np.asarray(labels, dtype=np.float64).reshape(-1, 4)
    model = np.asarray(predicted, dtype=np.float64).reshape(-1, 4)
    deviation = np.asarray(std, dtype=np.float64).reshape(-1, 4)
    if not len(truth):
        return Disagreement(np.zeros((0, 4)), np.zeros(0))
    sides = np.tile(model[:, 2:] - model[:, :2], 2)
    # A regression head can predict a box without area, which would be a scale of zero.
    scale = np.maximum(conformal.scales(model, deviation), _EPSILON * np.tile(truth[:, 2:] - truth[:, :2], 2))
    error = (truth - model) * OUTWARDS
    factor = np.median(np.abs(error) / scale, axis=0) / _NORMAL_MAD
    z = error / np.hypot(np.maximum(factor, _EPSILON) * scale, ANNOTATOR_ERROR * sides)
    return Disagreement(z, np.abs(z).max(axis=1) * (2 - boxes.iou(truth, model)))


def threshold(scores: npt.ArrayLike) -> float:
    """The score from which on a label is flagged, estimated from all scores.

    `DEVIATIONS` deviations above the median, in the logarithm, in which the scores of correct labels are about
    symmetric. The deviation is that of the lower half (from the 15.87th percentile to the median), because wrong labels
    are in the upper half. At least `MIN_THRESHOLD`.
    """
    logs = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-9))
    if not len(logs):
        return MIN_THRESHOLD
    lower, middle = np.quantile(logs, [0.1587, 0.5])
    return max(float(np.exp(middle + DEVIATIONS * (middle - lower))), MIN_THRESHOLD)


def audit_labels(
    dataset: Dataset,
    predictions: Sequence[Prediction],
    second_prediction: Callable[[int], Prediction] | None = None,
) -> Audit:
    """Score every label by its disagreement with the prediction and classify the error; worst first.

    predictions: one per row, out of fold: by a model that was not trained on that row.
    second_prediction: predicts a row again with the first predicted box hidden. It is called only for flagged labels
        that contain the predicted box and much more, to find out whether they contain two objects. None: such labels
        are too big.

    Raises ValueError if the number of predictions differs from the number of rows.
    """
    if len(predictions) != len(dataset):
        raise ValueError(f"{len(dataset)} rows but {len(predictions)} predictions")
    predicted = np.array([one.box for one in predictions], dtype=np.float64).reshape(-1, 4)
    std = np.array([one.std for one in predictions], dtype=np.float64).reshape(-1, 4)
    presence = np.array([one.presence for one in predictions], dtype=np.float64)
    unreadable = np.array([bool(one.error) for one in predictions], dtype=np.bool_)
    labelled = dataset.has_box & ~unreadable
    measured = disagreement(dataset.boxes[labelled], predicted[labelled], std[labelled])
    limit = threshold(measured.score)
    z, box_score = np.full((len(dataset), 4), np.nan), np.zeros(len(dataset))
    z[labelled], box_score[labelled] = measured.z, measured.score
    presence_score = limit * _presence_evidence(presence, dataset.has_box)
    findings = []
    for row, prediction in enumerate(predictions):
        label, model, has_box = dataset.boxes[row], predicted[row], bool(dataset.has_box[row])
        contradicted = float(presence_score[row]) >= limit
        score = math.inf if unreadable[row] else max(float(box_score[row]), float(presence_score[row]))
        second = np.full(4, np.nan)
        if unreadable[row]:
            kind, why = ErrorKind.UNREADABLE, f"the image cannot be read: {prediction.error.rstrip('.')}"
        elif has_box and contradicted:
            kind, why = ErrorKind.EMPTY, f"the model sees no object (presence {_percent(presence[row])})"
        elif contradicted:
            kind = ErrorKind.MISSING
            why = f"the image has no box, but the model sees the object (presence {_percent(presence[row])})"
        elif not has_box:
            kind, why = ErrorKind.AGREES, "the image has no box, and the model is not certain of an object"
        elif box_score[row] < limit:
            kind, why = ErrorKind.AGREES, _describe_agreement(z[row], label, model)
        else:
            kind, why = classify_error(label, model, z[row])
            if second_prediction is not None and _may_contain_two(label, model):
                second = _second_box(label, model, second_prediction(row))
                if not np.isnan(second).any():
                    kind = ErrorKind.MERGED
                    why = "the label contains two objects: the predicted one, and one that is predicted with it hidden"
        if kind not in (ErrorKind.AGREES, ErrorKind.UNREADABLE) and prediction.familiarity <= _MAX_UNFAMILIAR:
            why += "; the image is unlike most others here, so the model may be wrong"
        iou = float(boxes.iou(label, model))
        flagged = kind is not ErrorKind.AGREES
        findings.append(AuditFinding(row, score, flagged, kind, iou, label, model, second, f"{why}."))
    findings.sort(key=lambda finding: (-finding.score, finding.row))
    return Audit(tuple(findings), limit)


def classify_error(label: Floats, model: Floats, z: Floats) -> tuple[ErrorKind, str]:
    """The kind of error of a label, given the predicted box, and an explanation without a full stop.

    label, model: shape (4,), pixels. z: shape (4,), see `Disagreement`.
    """
    sides = np.tile(model[2:] - model[:2], 2)
    # Relative to the mean side of both boxes, so that twice and half the size have the same error.
    error = (label - model) * OUTWARDS / ((sides + np.tile(label[2:] - label[:2], 2)) / 2)
    worst = int(np.argmax(np.abs(error)))
    rest = np.delete(np.abs(error), worst)
    smaller = min(float(boxes.area(label)), float(boxes.area(model)))
    within = float(boxes.area(_intersection(label, model))) >= _MIN_CONTAINED * smaller
    iou, times = float(boxes.iou(label, model)), f"{np.abs(z).max():.1f} times the expected error"
    if iou == 0:
        return (
            ErrorKind.WRONG_PLACE,
            f"the label does not overlap the predicted box: an edge is off by {times}",
        )
    if iou < _MAX_WRONG_PLACE_IOU and not within:
        return (
            ErrorKind.WRONG_PLACE,
            f"the label hardly overlaps the predicted box: an edge is off by {times}",
        )
    if rest.max() <= _MAX_OTHER_EDGES * abs(error[worst]):
        side = "outside" if error[worst] > 0 else "inside"
        distance = f"{abs(label[worst] - model[worst]):.0f} px {side} the predicted one, {times}"
        return ErrorKind.EDGE, f"only the {_EDGES[worst]} edge is off: {distance}"
    # Along an axis, the shift is half the difference of the errors of its two edges, and the growth half their sum.
    moved, grown = (error[2:] - error[:2]) / 2, (error[2:] + error[:2]) / 2
    if within or np.square(grown).sum() >= np.square(moved).sum():
        large = boxes.area(label) > boxes.area(model)
        kind = ErrorKind.TOO_BIG if large else ErrorKind.TOO_SMALL
        if (model[2:] <= model[:2]).any():
            return kind, "the predicted box has no area"
        width, height = (label[2:] - label[:2]) / (model[2:] - model[:2])
        return (
            kind,
            f"the label is {width:.2f} times as wide and {height:.2f} times as high as the predicted box",
        )
    x, y = ((label[2:] + label[:2]) - (model[2:] + model[:2])) / 2
    across = f"{abs(x):.0f} px to the {'right' if x > 0 else 'left'}"
    down = f"{abs(y):.0f} px {'down' if y > 0 else 'up'}"
    return ErrorKind.SHIFTED, f"the label is {across} and {down} from the predicted box, {times}"


def _presence_evidence(presence: Floats, has_box: npt.NDArray[np.bool_]) -> Floats:
    """How strongly presence contradicts a label, (N,): log-odds scaled to 1 at `ABSENT` or `PRESENT`; 0 for NaN."""
    share = np.clip(np.where(np.isnan(presence), 0.5, presence), 1e-9, 1 - 1e-9)
    odds = np.log(share / (1 - share))
    evidence = np.where(
        has_box, odds / math.log(ABSENT / (1 - ABSENT)), odds / math.log(PRESENT / (1 - PRESENT))
    )
    return np.asarray(np.maximum(evidence, 0), dtype=np.float64)


def _describe_agreement(z: Floats, label: Floats, model: Floats) -> str:
    worst = int(np.argmax(np.abs(z)))
    return (
        f"the {_EDGES[worst]} edge is the furthest from the predicted one, {abs(label[worst] - model[worst]):.0f} px "
        f"or {abs(z[worst]):.1f} times the expected error"
    )


def _may_contain_two(label: Floats, model: Floats) -> bool:
    """Whether a label contains the predicted box and is much larger."""
    area = float(boxes.area(model))
    contained = float(boxes.area(_intersection(label, model))) >= _MIN_CONTAINED * area
    return contained and float(boxes.area(label)) >= _MIN_MERGED_AREA * area


def _second_box(label: Floats, model: Floats, prediction: Prediction) -> Floats:
    """The second box of a label around two objects; NaN unless both boxes together explain the label better."""
    other = prediction.box
    hull = np.concatenate([np.minimum(model[:2], other[:2]), np.maximum(model[2:], other[2:])])
    large_enough = not boxes.area(other) < _MIN_SECOND_AREA * boxes.area(model)
    separate = bool(boxes.iou(other, model) <= _MAX_OTHER_OBJECT_IOU)
    explains = float(boxes.iou(hull, label)) > max(_MIN_MERGED_IOU, float(boxes.iou(model, label)))
    present = not prediction.presence <= ABSENT
    return other if large_enough and separate and explains and present else np.full(4, np.nan)


def _intersection(one: Floats, other: Floats) -> Floats:
    return np.concatenate([np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])])


def _percent(share: float) -> str:
    return (
        f"{100 * share:.1f}%" if 0.001 <= share <= 0.999 else ("below 0.1%" if share < 0.5 else "above 99.9%")
    )
