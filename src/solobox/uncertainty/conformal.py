"""Conformal margins: intervals for the four edges of a box that hold the true box with a chosen probability.

Split conformal prediction (Vovk, Gammerman & Shafer, 2005, "Algorithmic Learning in a Random World"; Papadopoulos et
al., 2002). The nonconformity score of an image is the largest normalized error of its four edges,

    |true edge - predicted edge| / scale of that edge.

The margins of a new image are its scales times the conformal quantile of the scores of n calibration images, which
training held out: the ``ceil((n + 1) level)``-th smallest. If the new image is exchangeable with these, all four
margins hold the true box with a probability of at least `level` and at most ``level + 1 / (n + 1)``. Normalizing by the
model's uncertainty makes margins wide where an image is hard (Lei et al., 2018; Romano, Patterson & Candes, 2019). The
maximum over the edges gives joint coverage without Bonferroni's correction (Andeol et al., 2023, "Confident Object
Detection via Conformal Prediction and Conformal Risk Control"; Timans et al., 2024, "Adaptive Bounding Box Uncertainty
via Conformal Prediction").

Images of one group (of one person, say) are not independent. The guarantee is then for an image of a new group: each
group has the same weight, shared by its images (Lee, Barber & Willett, 2023, "Distribution-free inference with
hierarchical data"). With groups of one image this is the rule above.

All functions are pure functions on arrays; edges are ``x1, y1, x2, y2`` in any one unit of length.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ConfigError

LEVELS = (*(round(level / 100, 2) for level in range(50, 100)), 0.995, 0.999)
"""The levels (nominal coverages) that a calibration stores quantiles for."""

DEFAULT_LEVEL = 0.9

MIN_SCALE = 0.002
"""Smallest scale of an edge, as a share of the box's side: an overconfident head must not give margins of zero."""

_MAX_IMAGES, _MAX_QUANTILE = 10**12, 1e12

_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])


def scales(boxes: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """The scale that normalizes the error of each edge, shape (..., 4), positive.

    boxes: predicted boxes, shape (..., 4). std: standard deviation of each edge's distribution, shape (..., 4); where
    it is NaN (a head that predicts no distribution), the scale is the box's width or height.
    """
    predicted, deviation = np.asarray(boxes, dtype=np.float64), np.asarray(std, dtype=np.float64)
    sides = np.abs(predicted[..., 2:] - predicted[..., :2])
    sides = np.maximum(np.concatenate([sides, sides], axis=-1), np.finfo(np.float64).tiny)
    return np.asarray(
        np.where(np.isnan(deviation), sides, np.maximum(deviation, MIN_SCALE * sides)), dtype=np.float64
    )


def scores(truth: npt.ArrayLike, predicted: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """Nonconformity scores: the largest normalized error of the four edges. (..., 4) to (...)."""
    error = np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    worst: Floats = np.max(np.abs(error) / np.asarray(scale, dtype=np.float64), axis=-1)
    return worst


def outer_scores(truth: npt.ArrayLike, predicted: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """One-sided scores: the largest normalized overshoot of the true box, negative if it is well inside."""
    error = np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    worst: Floats = np.max(error * _OUTWARDS / np.asarray(scale, dtype=np.float64), axis=-1)
    return worst


def quantile(values: npt.ArrayLike, level: float, groups: Sequence[str] | None = None) -> float:
    """The conformal quantile of n scores: the ``ceil((n + 1) level)``-th smallest, infinity where there is none.

    groups: the group of each score, see the module; ``""``: the image is a group by itself. None: all images are.

    Raises ConfigError ``out-of-range``.
    """
    if not 0 < level < 1:
        raise ConfigError(f"a level is a probability between 0 and 1, not {level}", code="out-of-range")
    return float(_quantiles(values, (level,), groups)[0])


def _quantiles(values: npt.ArrayLike, levels: Sequence[float], groups: Sequence[str] | None) -> Floats:
    unsorted = np.asarray(values, dtype=np.float64)
    order = np.argsort(unsorted, kind="stable")
    # The score of the new image counts as infinite, with the weight of a group.
    cumulative = np.cumsum(_weights(len(unsorted), groups)[order])
    ranks = np.searchsorted(cumulative, np.asarray(levels) - 1e-9)
    return np.append(unsorted[order], np.inf)[ranks]


def _weights(count: int, groups: Sequence[str] | None) -> Floats:
    if groups is None:
        return np.full(count, 1 / (count + 1))
    names = [group or f"\0{row}" for row, group in enumerate(groups)]
    _, member, sizes = np.unique(np.array(names, dtype=object), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(sizes) + 1) / sizes[member], dtype=np.float64)


def min_calibration_size(level: float) -> int:
    """How many calibration images, or groups of them, a level needs at least."""
    return math.ceil(round(level / (1 - level), 9))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Conformal quantiles of a model's nonconformity scores, which its margins are computed from.

    n_images: calibration images. n_groups: groups of them, or images where there are no groups.
    two_sided, outer: quantile of `scores`, and of `outer_scores`, for each level that there are enough images for.
    """

    n_images: int
    n_groups: int
    two_sided: Mapping[float, float]
    outer: Mapping[float, float]

    @classmethod
    def fit(
        cls,
        truth: npt.ArrayLike,
        predicted: npt.ArrayLike,
        scale: npt.ArrayLike,
        groups: Sequence[str] | None = None,
    ) -> "Calibration":
        """From n calibration images: true boxes, predicted boxes and `scales`, each (n, 4), and their groups."""
        both, out = scores(truth, predicted, scale), outer_scores(truth, predicted, scale)
        n_groups = len(both)
        if groups is not None:
            n_groups = len({group or row for row, group in enumerate(groups)})

        def table(values: Floats) -> dict[float, float]:
            pairs = zip(LEVELS, _quantiles(values, LEVELS, groups).tolist(), strict=True)
            return {level: value for level, value in pairs if math.isfinite(value)}

        return cls(len(both), n_groups, table(both), table(out))

    def factor(self, level: float, *, outer: bool = False) -> float:
        """The quantile that scales are multiplied by at a level, rounded up to the next of `LEVELS`.

        Raises ConfigError: ``out-of-range``; ``margins-need-more-images`` where too few images were held out.
        """
        if not LEVELS[0] <= level <= LEVELS[-1]:
            raise ConfigError(
                f"a level of margins is from {LEVELS[0]:g} to {LEVELS[-1]:g}, not {level:g}",
                code="out-of-range",
            )
        stored = next(each for each in LEVELS if each >= level - 1e-9)
        table = self.outer if outer else self.two_sided
        if stored not in table:
            what = "images" if self.n_groups == self.n_images else "groups of images"
            highest = f" The highest level it has is {max(table):g}." if table else ""
            raise ConfigError(
                f"margins at {stored:g} need {min_calibration_size(stored)} held-out {what}, and this model was "
                f"calibrated on {self.n_groups}.{highest} Hold more out when training (--val), or label more",
                code="margins-need-more-images",
            )
        # An outer box is never smaller than the box; coverage can only grow by that.
        return max(table[stored], 0.0) if outer else table[stored]

    def margins(
        self,
        boxes: npt.ArrayLike,
        scale: npt.ArrayLike,
        size: npt.ArrayLike,
        level: float = DEFAULT_LEVEL,
        *,
        outer: bool = False,
    ) -> tuple[Floats, Floats]:
        """Lower and upper bounds of the four edges, each (..., 4), in the unit of the boxes, clipped to the image.

        boxes, scale: predicted boxes and their `scales`, (..., 4). size: width and height of the image, (..., 2).
        outer: one-sided: the box that the outer bounds span holds the whole object with that probability; the inner
            bounds are the predicted edges.
        """
        predicted = np.asarray(boxes, dtype=np.float64)
        width, height = np.moveaxis(np.asarray(size, dtype=np.float64), -1, 0)
        limit = np.stack([width, height, width, height], axis=-1)
        margin = self.factor(level, outer=outer) * np.asarray(scale, dtype=np.float64)
        lower, upper = predicted - margin, predicted + margin
        if outer:
            lower, upper = (
                np.where(_OUTWARDS < 0, lower, predicted),
                np.where(_OUTWARDS > 0, upper, predicted),
            )
        return np.clip(lower, 0, limit), np.clip(upper, 0, limit)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "two_sided": {f"{level:g}": value for level, value in self.two_sided.items()},
            "outer": {f"{level:g}": value for level, value in self.outer.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`. Raises ConfigError ``model-damaged`` for anything else."""
        n_images, n_groups = (_count(values.get(key)) for key in ("n_images", "n_groups"))
        both, outer = (_table(values.get(key)) for key in ("two_sided", "outer"))
        if any(value < 0 for value in both.values()):
            raise _damaged("a two-sided quantile is negative")
        return cls(n_images, n_groups, both, outer)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_IMAGES:
        raise _damaged("n_images or n_groups is not a number of images")
    return value


def _table(values: object) -> dict[float, float]:
    levels = {f"{level:g}": level for level in LEVELS}
    if not isinstance(values, dict) or not levels.keys() >= values.keys():
        raise _damaged("two_sided or outer is not a table of quantiles for known levels")
    if not all(type(value) in (int, float) and abs(value) < _MAX_QUANTILE for value in values.values()):
        raise _damaged("a quantile is not a finite number")
    return {levels[level]: float(value) for level, value in values.items()}


def _damaged(why: str) -> ConfigError:
    return ConfigError(
        f"the model's quantiles for margins are damaged ({why}); train again", code="model-damaged"
    )
