"""Metrics of the presence probability: how well it separates images with and without the object, and its calibration.

All functions are pure functions on arrays.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.utils.json_utils import Json, number

BINS = 15
"""Bins of equal width between 0 and 1, as many as in Guo et al. (2017); see `reliability`."""

THRESHOLD = 0.5
"""An image with at least this presence counts as one with the object."""


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBins:
    """Images sorted by probability into B bins of equal width.

    edges: shape (B + 1,), from 0 to 1; a bin includes its lower edge, the last bin also its upper edge.
    counts: shape (B,), int64, images per bin.
    probability: shape (B,), the mean probability per bin; NaN for an empty bin.
    share: shape (B,), the share of images per bin that contain the object; NaN for an empty bin.
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    probability: Floats
    share: Floats


@dataclass(frozen=True, slots=True, eq=False)
class PresenceMetrics:
    """How good the presence probabilities are, measured on images with and without the object.

    n_positives, n_negatives: images with and without the object that have a probability, each at least one.
    auroc: area under the ROC curve, in [0, 1].
    ece: expected calibration error, in [0, 1]. brier: Brier score, in [0, 1]. 0 is perfect for both.
    reliability: the bins that the calibration error is computed from.
    """

    n_positives: int
    n_negatives: int
    auroc: float
    ece: float
    brier: float
    reliability: ReliabilityBins

    @classmethod
    def from_probabilities(
        cls, positives: npt.ArrayLike, negatives: npt.ArrayLike
    ) -> "PresenceMetrics | None":
        """Measure the probabilities of images with the object, shape (P,), and without it, shape (Q,).

        NaN is left out. None if no probability remains on one of the two sides.
        """
        positive, negative = _finite(positives), _finite(negatives)
        if not len(positive) or not len(negative):
            return None
        probability = np.concatenate([positive, negative])
        truth = np.arange(len(probability)) < len(positive)
        bins = reliability(probability, truth)
        return cls(
            n_positives=len(positive),
            n_negatives=len(negative),
            auroc=auroc(positive, negative),
            ece=calibration_error(bins),
            brier=brier(probability, truth),
            reliability=bins,
        )

    def to_dict(self) -> dict[str, Json]:
        """The fields as plain JSON values; bins without images are left out."""
        bins = self.reliability
        rows: list[Json] = [
            {
                "from": float(bins.edges[row]),
                "to": float(bins.edges[row + 1]),
                "n": int(bins.counts[row]),
                "probability": number(bins.probability[row]),
                "share": number(bins.share[row]),
            }
            for row in np.flatnonzero(bins.counts).tolist()
        ]
        return {
            "n_positives": self.n_positives,
            "n_negatives": self.n_negatives,
            "auroc": self.auroc,
            "ece": self.ece,
            "brier": self.brier,
            "bins": rows,
        }


def auroc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> float:
    """The area under the receiver operating characteristic, in [0, 1], computed as a rank statistic.

    positives: shape (P,), scores of images with the object. negatives: shape (Q,), of images without it.

    It equals the share of the P times Q pairs in which the positive has the higher score, ties counting half (Mann &
    Whitney, 1947; Hanley & McNeil, 1982, "The Meaning and Use of the Area under a Receiver Operating Characteristic
    (ROC) Curve"). NaN if there are no positives or no negatives.
    """
    positive, negative = (
        np.asarray(positives, dtype=np.float64),
        np.sort(np.asarray(negatives, dtype=np.float64)),
    )
    if not len(positive) or not len(negative):
        return math.nan
    lower, upper = np.searchsorted(negative, positive, "left"), np.searchsorted(negative, positive, "right")
    return float((lower + upper).mean() / 2 / len(negative))


def reliability(probability: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS) -> ReliabilityBins:
    """Sort N images into bins of equal width by their presence probability.

    probability: shape (N,), in [0, 1]. truth: shape (N,), bool, whether the image contains the object.

    Multi-class calibration bins the confidence of the top class (Naeini, Cooper & Hauskrecht, 2015, "Obtaining Well
    Calibrated Probabilities Using Bayesian Binning"; Guo et al., 2017, "On Calibration of Modern Neural Networks").
    With two classes, this bins the probability of the positive class over its whole range, so that a confident
    "present" and a confident "absent" do not share a bin.

    Raises ValueError if the shapes differ or a value is outside [0, 1].
    """
    values, present = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=np.bool_)
    if values.ndim != 1 or values.shape != present.shape:
        raise ValueError(f"probability and truth have one shape (N,), not {values.shape} and {present.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a presence probability is not between 0 and 1")
    edges = np.linspace(0, 1, bins + 1)
    row = np.clip(np.searchsorted(edges, values, "right") - 1, 0, bins - 1)
    counts = np.bincount(row, minlength=bins)

    def mean(column: Floats) -> Floats:
        means = np.full(bins, np.nan)
        np.divide(np.bincount(row, column, bins), counts, out=means, where=counts > 0)
        return means

    return ReliabilityBins(edges, counts.astype(np.int64), mean(values), mean(present.astype(np.float64)))


def calibration_error(bins: ReliabilityBins) -> float:
    """The expected calibration error: the gap between share and mean probability of a bin, averaged over images.

    It is biased upwards for few images, because the share of each bin is itself an estimate. NaN without images.
    """
    if not bins.counts.sum():
        return math.nan
    filled = bins.counts > 0
    gap = np.abs(bins.share[filled] - bins.probability[filled])
    return float(np.average(gap, weights=bins.counts[filled]))


def brier(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The Brier score (Brier, 1950): the mean squared error of N probabilities; NaN without images.

    probability: shape (N,). truth: shape (N,), bool.
    """
    values, present = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    return float(((values - present) ** 2).mean()) if len(values) else math.nan


def _finite(probability: npt.ArrayLike) -> Floats:
    values = np.asarray(probability, dtype=np.float64).reshape(-1)
    return values[np.isfinite(values)]
