"""The label audit: which labels a model that never saw them disagrees with, how badly, and in what way.

Labels are held against predictions of models that were trained without them (out of fold), as confident learning does
(Northcutt, Jiang & Chuang, 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"; for boxes ObjectLab:
Tkachenko, Thyagarajan & Mueller, 2023, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection
Data"). Where every image has one box there is nothing to match, so each label is held against its own prediction,
edge by edge, in units of what that model may be wrong by: a label that shares nothing with the prediction is then the
worst of all, and one that is far from an unsure prediction is no evidence.

All here is a pure function of arrays; boxes are ``x1, y1, x2, y2`` in pixels of the upright image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.predict.prediction import Prediction
from solobox.uncertainty import conformal

FLOOR = 0.01
"""What is added to the unit of an edge's disagreement, in sides of the predicted box (as errors add up): about what one
careful person differs by from another, however sure a model is."""

DEVIATIONS = 2.5
"""How far above the middle of all labels, in deviations of the logarithm of their scores, a label is flagged."""

LEAST = 7.0
"""A label whose score is less is not flagged, however near all the others are to their predictions: where labels are
clean the tail of honest disagreement is longer than their middle tells."""

ABSENT, PRESENT = 0.05, 0.95
"""Probabilities of the object being there at all, up to which, and from which on, a label that says otherwise is
flagged."""

_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])
_EDGES = ("left", "top", "right", "bottom")
_NORMAL = 0.6745  # the median of the absolute value of a normal variable of deviation 1
_APART = 0.3  # IoU below which a label is in a wrong place, unless one box is in the other
_ELSEWHERE = 0.1  # IoU of a second box with the first, up to which it is another object
_INSIDE = 0.9  # share of the smaller box in the larger one, from which on it lies within
_ROOM = 1.5  # area of a label, in areas of the model's box, from which on it may hold two objects
_MERGED = 0.75  # IoU of a label with the hull of two boxes, from which on it is both
_ALIKE = 0.2  # a second object's least share of the first one's area
_ALONE = 0.4  # of one edge's error, what the others may be at most for it to be that edge alone
_TINY = 1e-3
_STRANGE = 0.02  # familiarity up to which it is said that the image is like no other


class Kind(StrEnum):
    """What is the matter with a label."""

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
class Finding:
    """One label and what the audit says of it.

    row: of the samples.
    score: 0 or more, the higher the worse; infinite where the image cannot be read. It has no unit but means the
        same in one audit: see `disagreement`.
    flagged: whether a person should look. kind: `Kind.AGREES` where not flagged.
    iou: of label and model's box; NaN where either is missing.
    label, model: shape (4,), float64; NaN where there is none.
    second: shape (4,): of several boxes merged, what was found beside the model's box; else NaN.
    why: one sentence.
    """

    row: int
    score: float
    flagged: bool
    kind: Kind
    iou: float
    label: Floats
    model: Floats
    second: Floats
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """All findings, one for each row of the samples, worst first; `threshold` is the score that flags a box."""

    findings: tuple[Finding, ...]
    threshold: float

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """Those that a person should look at, worst first. They are the first of all."""
        return tuple(finding for finding in self.findings if finding.flagged)


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """How far N labels are from their predictions.

    units: shape (N, 4): each edge's error outwards (positive where the label reaches further out than the
        prediction) in units of what is usual for a prediction that is as unsure as this one. score: shape (N,).
    """

    units: Floats
    score: Floats


def disagreement(labels: npt.ArrayLike, predicted: npt.ArrayLike, std: npt.ArrayLike) -> Disagreement:
    """Hold labels against out-of-fold predictions.

    labels, predicted: shape (N, 4), pixels. std: shape (N, 4), pixels, each edge's standard deviation as the model
    has it; NaN for a head that has none, for which errors count in sides of the box.

    The unit of an edge is its spread, once the spreads of that edge were multiplied over the whole set by what makes
    them true (the robust deviation of error through std: 1.4826 times the median of the absolute values), and
    `FLOOR` of the box's side added in squares. So a spread that is too small or too large as a whole does no harm, and
    neither does a single one that is nearly nothing. The score is the worst edge's, times ``2 - IoU``: of two labels
    that are as many units off, the one that shares less with the prediction is worse, and the one that shares nothing
    is the worst.

    Neither depends on the size of the images, and the score grows with the distance of a label that moves away.
    """
    truth = np.asarray(labels, dtype=np.float64).reshape(-1, 4)
    found = np.asarray(predicted, dtype=np.float64).reshape(-1, 4)
    own = np.asarray(std, dtype=np.float64).reshape(-1, 4)
    if not len(truth):
        return Disagreement(np.zeros((0, 4)), np.zeros(0))
    sides = np.tile(found[:, 2:] - found[:, :2], 2)
    # a regression head may give a box of no size, which would be no unit at all
    scale = np.maximum(conformal.scales(found, own), _TINY * np.tile(truth[:, 2:] - truth[:, :2], 2))
    error = (truth - found) * _OUTWARDS
    usual = np.median(np.abs(error) / scale, axis=0) / _NORMAL
    units = error / np.hypot(np.maximum(usual, _TINY) * scale, FLOOR * sides)
    return Disagreement(units, np.abs(units).max(axis=1) * (2 - boxes.iou(truth, found)))


def threshold(scores: npt.ArrayLike) -> float:
    """The score from which on a label is flagged, made from all scores.

    `DEVIATIONS` deviations above the median, both of the logarithm, on which scores of right labels are spread about
    evenly. The deviation is that of the lower half alone (from the 15.87th percentile to the median), since the upper
    one is where wrong labels are. At least `LEAST`.
    """
    logs = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-9))
    if not len(logs):
        return LEAST
    lower, middle = np.quantile(logs, [0.1587, 0.5])
    return max(float(np.exp(middle + DEVIATIONS * (middle - lower))), LEAST)


def audit(
    dataset: Dataset,
    predictions: Sequence[Prediction],
    second_look: Callable[[int], Prediction] | None = None,
) -> Audit:
    """Say of every label how badly it disagrees with its prediction, and in what way; worst first.

    predictions: one for each row of the samples, of models that did not learn from that row.
    second_look: of a row, what its model finds once the box that it found first is hidden. It is asked of flagged
        labels alone that hold the model's box and much more, and tells whether they are around two objects. None: such
        labels are too big.

    ``ValueError`` where there are not as many predictions as rows.
    """
    if len(predictions) != len(dataset):
        raise ValueError(f"{len(dataset)} rows go with as many predictions, not {len(predictions)}")
    found = np.array([one.box for one in predictions], dtype=np.float64).reshape(-1, 4)
    std = np.array([one.std for one in predictions], dtype=np.float64).reshape(-1, 4)
    presence = np.array([one.presence for one in predictions], dtype=np.float64)
    broken = np.array([bool(one.error) for one in predictions], dtype=np.bool_)
    labelled = dataset.has_box & ~broken
    held = disagreement(dataset.boxes[labelled], found[labelled], std[labelled])
    limit = threshold(held.score)
    units, score = np.full((len(dataset), 4), np.nan), np.zeros(len(dataset))
    units[labelled], score[labelled] = held.units, held.score
    surprise = limit * _surprise(presence, dataset.has_box)
    findings = []
    for row, prediction in enumerate(predictions):
        label, model = dataset.boxes[row], found[row]
        unread, told = bool(broken[row]), float(surprise[row])
        of_box, absent = float(score[row]), bool(dataset.has_box[row]) and told >= limit
        value = math.inf if unread else max(of_box, told)
        second = np.full(4, np.nan)
        if unread:
            kind, why = Kind.UNREADABLE, f"the image cannot be read: {prediction.error}"
        elif absent:
            kind, why = Kind.EMPTY, f"the model sees no object here (probability {_percent(presence[row])})"
        elif not dataset.has_box[row]:
            kind, why = _of_empty(prediction, sure=told >= limit)
        elif of_box < limit:
            kind, why = Kind.AGREES, _agrees(units[row], label, model)
        else:
            kind, why = describe(label, model, units[row])
            if second_look is not None and _has_room_for_two(label, model):
                second = _second(label, model, second_look(row))
                if not np.isnan(second).any():
                    kind = Kind.MERGED
                    why = "the label is around two boxes: the model's, and one that it finds once that is hidden"
        if kind not in (Kind.AGREES, Kind.UNREADABLE) and prediction.familiarity <= _STRANGE:
            why += "; the image is like few others here, so the model may be the one that is wrong"
        overlap = float(boxes.iou(label, model))
        findings.append(
            Finding(row, value, kind is not Kind.AGREES, kind, overlap, label, model, second, f"{why}.")
        )
    findings.sort(key=lambda finding: (-finding.score, finding.row))
    return Audit(tuple(findings), limit)


def describe(label: Floats, model: Floats, units: Floats) -> tuple[Kind, str]:
    """In what way a label differs from the model's box, each shape (4,), and a sentence without its full stop.

    units: shape (4,), each edge's error outwards, as of `Disagreement`.
    """
    sides = np.tile(model[2:] - model[:2], 2)
    # in sides of the mean of the two boxes, so that twice as large and half as large are as far
    error = (label - model) * _OUTWARDS / ((sides + np.tile(label[2:] - label[:2], 2)) / 2)
    worst = int(np.argmax(np.abs(error)))
    rest = np.delete(np.abs(error), worst)
    inside = np.concatenate([np.maximum(label[:2], model[:2]), np.minimum(label[2:], model[2:])])
    smaller = min(float(boxes.area(label)), float(boxes.area(model)))
    within = float(boxes.area(inside)) >= _INSIDE * smaller
    overlap, unsure = float(boxes.iou(label, model)), f"{np.abs(units).max():.1f} times the usual difference"
    if overlap == 0:
        return Kind.WRONG_PLACE, f"the label shares nothing with the model's box: an edge is off by {unsure}"
    if overlap < _APART and not within:
        return Kind.WRONG_PLACE, f"the label shares little with the model's box: an edge is off by {unsure}"
    if rest.max() <= _ALONE * abs(error[worst]):
        way = "out" if error[worst] > 0 else "in"
        far = f"{abs(label[worst] - model[worst]):.0f} px further {way} than the model's, {unsure}"
        return Kind.EDGE, f"the {_EDGES[worst]} edge alone is off: {far}"
    # an axis has moved by half the difference of its two edges' errors, and grown by half their sum
    moved, grown = (error[2:] - error[:2]) / 2, (error[2:] + error[:2]) / 2
    if within or np.square(grown).sum() >= np.square(moved).sum():
        large = boxes.area(label) > boxes.area(model)
        kind = Kind.TOO_BIG if large else Kind.TOO_SMALL
        if (model[2:] <= model[:2]).any():
            return kind, "the model's box has no area"
        width, height = (label[2:] - label[:2]) / (model[2:] - model[:2])
        sized = f"{width:.2f} times as wide and {height:.2f} times as high as the model's box"
        return kind, f"the label is {sized}"
    x, y = ((label[2:] + label[:2]) - (model[2:] + model[:2])) / 2
    across = f"{abs(x):.0f} px to the {'right' if x > 0 else 'left'}"
    down = f"{abs(y):.0f} px {'down' if y > 0 else 'up'}"
    return Kind.SHIFTED, f"the label lies {across} and {down} from the model's box, {unsure}"


def _surprise(presence: Floats, has_box: npt.NDArray[np.bool_]) -> Floats:
    """How strongly presence speaks against a label, (N,): 1 at `ABSENT` or `PRESENT`, by log-odds; 0 if unknown."""
    share = np.clip(np.where(np.isnan(presence), 0.5, presence), 1e-9, 1 - 1e-9)
    odds = np.log(share / (1 - share))
    against = np.where(
        has_box, odds / math.log(ABSENT / (1 - ABSENT)), odds / math.log(PRESENT / (1 - PRESENT))
    )
    return np.asarray(np.maximum(against, 0), dtype=np.float64)


def _of_empty(prediction: Prediction, *, sure: bool) -> tuple[Kind, str]:
    if not sure:
        return Kind.AGREES, "the image is listed as empty, and the model is not sure of an object"
    return (
        Kind.MISSING,
        f"the image is listed as empty, and the model sees the object (probability {_percent(prediction.presence)})",
    )


def _agrees(units: Floats, label: Floats, model: Floats) -> str:
    worst = int(np.argmax(np.abs(units)))
    return (
        f"the {_EDGES[worst]} edge is the furthest from the model's, {abs(label[worst] - model[worst]):.0f} px or "
        f"{abs(units[worst]):.1f} times the usual difference"
    )


def _has_room_for_two(label: Floats, model: Floats) -> bool:
    """Whether a label holds the model's box and much more."""
    inside = np.concatenate([np.maximum(label[:2], model[:2]), np.minimum(label[2:], model[2:])])
    own = float(boxes.area(model))
    return float(boxes.area(inside)) >= _INSIDE * own and float(boxes.area(label)) >= _ROOM * own


def _second(label: Floats, model: Floats, again: Prediction) -> Floats:
    """The other box of a label around two, or NaN: what was found must be elsewhere, alike in size, and complete it."""
    other = again.box
    hull = np.concatenate([np.minimum(model[:2], other[:2]), np.maximum(model[2:], other[2:])])
    small = bool(boxes.area(other) < _ALIKE * boxes.area(model))
    elsewhere = bool(boxes.iou(other, model) <= _ELSEWHERE)
    overlap = float(boxes.iou(hull, label))
    is_both = elsewhere and not small and overlap > max(_MERGED, float(boxes.iou(model, label)))
    return other if is_both and not again.presence <= ABSENT else np.full(4, np.nan)


def _percent(share: float) -> str:
    return (
        f"{100 * share:.1f}%" if 0.001 <= share <= 0.999 else ("below 0.1%" if share < 0.5 else "above 99.9%")
    )
