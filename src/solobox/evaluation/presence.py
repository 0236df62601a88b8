"""How well the probability that the object is there tells images with it from those without: pure functions."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.utils.json_utils import Json, number

BINS = 15
"""Bins of equal width between 0 and 1, as many as in the paper: see `reliability`."""

THRESHOLD = 0.5
"""From this probability on the object is taken to be there."""


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Images sorted into bins by their probability, B of them, of equal width.

    edges: shape (B + 1,), from 0 to 1; a bin holds its lower edge, the last one also its upper.
    counts: shape (B,), int64, images in each.
    probability: shape (B,), the mean probability in each, NaN where it is empty.
    share: shape (B,), the share of its images that do have the object; NaN where it is empty.
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    probability: Floats
    share: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """How good the probabilities of presence are, over images with the object and without.

    n_positives, n_negatives: images with and without the object whose probability is known, each at least one.
    auroc: probability that of an image with the object and one without, the former has the higher probability.
    ece: expected calibration error, in [0, 1]. brier: Brier score, in [0, 1]. For both 0 is perfect.
    reliability: the bins that the calibration error is computed from.
    """

    n_positives: int
    n_negatives: int
    auroc: float
    ece: float
    brier: float
    reliability: Reliability

    @classmethod
    def of(cls, positives: npt.ArrayLike, negatives: npt.ArrayLike) -> "Presence | None":
        """From the probabilities (P,) of images with the object and (Q,) of those without.

        NaN stands for an image of which nothing is known, and is left out. None where one kind is missing.
        """
        there, absent = _known(positives), _known(negatives)
        if not len(there) or not len(absent):
            return None
        probability = np.concatenate([there, absent])
        truth = np.concatenate([np.ones(len(there), dtype=np.bool_), np.zeros(len(absent), dtype=np.bool_)])
        bins = reliability(probability, truth)
        return cls(
            n_positives=len(there),
            n_negatives=len(absent),
            auroc=auroc(there, absent),
            ece=calibration_error(bins),
            brier=brier(probability, truth),
            reliability=bins,
        )

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON values; of the bins only those that hold images."""
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
    """The area under the receiver operating characteristic, in [0, 1], as the rank statistic that it equals.

    positives: shape (P,), scores of images with the object. negatives: shape (Q,), of those without.

    The share of all P times Q pairs in which the former score is the higher one, equal scores counting as half (Mann &
    Whitney, 1947; Hanley & McNeil, 1982, "The Meaning and Use of the Area under a Receiver Operating Characteristic
    (ROC) Curve"). NaN where one kind is missing.
    """
    above, below = np.asarray(positives, dtype=np.float64), np.sort(np.asarray(negatives, dtype=np.float64))
    if not len(above) or not len(below):
        return math.nan
    smaller, upto = np.searchsorted(below, above, "left"), np.searchsorted(below, above, "right")
    return float((smaller + upto).mean() / 2 / len(below))


def reliability(probability: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Sort N images into bins of equal width by their probability of presence.

    probability: shape (N,), in [0, 1]. truth: shape (N,), bool, whether the object is there.

    Of a class among many one asks how often the first guess is right (Naeini, Cooper & Hauskrecht, 2015, "Obtaining
    Well Calibrated Probabilities Using Bayesian Binning"; Guo et al., 2017, "On Calibration of Modern Neural Networks",
    with 15 bins). Here there are two, and the probability of the one is taken over its whole range, so that "there" at
    0.9 and "not there" at 0.9 are looked at apart.

    Raises ValueError when the shapes differ or a number is no probability.
    """
    values, present = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=np.bool_)
    if values.ndim != 1 or values.shape != present.shape:
        raise ValueError(f"{present.shape} truths go with probabilities of that shape, not {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability of presence is not between 0 and 1")
    edges = np.linspace(0, 1, bins + 1)
    row = np.clip(np.searchsorted(edges, values, "right") - 1, 0, bins - 1)
    counts = np.bincount(row, minlength=bins)

    def mean(of: Floats) -> Floats:
        found = np.full(bins, np.nan)
        np.divide(np.bincount(row, of, bins), counts, out=found, where=counts > 0)
        return found

    return Reliability(edges, counts.astype(np.int64), mean(values), mean(present.astype(np.float64)))


def calibration_error(bins: Reliability) -> float:
    """The expected calibration error: how far a bin's share is from its mean probability, on average over images.

    Of few images it is never 0, however good the probabilities: each bin's share is itself a guess. NaN for none.
    """
    if not bins.counts.sum():
        return math.nan
    filled = bins.counts > 0
    gap = np.abs(bins.share[filled] - bins.probability[filled])
    return float(np.average(gap, weights=bins.counts[filled]))


def brier(probability: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The mean squared distance of N probabilities from what came true (Brier, 1950); NaN for none.

    probability: shape (N,). truth: shape (N,), bool.
    """
    values, present = np.asarray(probability, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    return float(((values - present) ** 2).mean()) if len(values) else math.nan


def _known(probability: npt.ArrayLike) -> Floats:
    values = np.asarray(probability, dtype=np.float64).reshape(-1)
    return values[np.isfinite(values)]
