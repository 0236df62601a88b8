"""Margins with a guarantee: how far each edge of the true box may be from the predicted one, at a given probability.

Split conformal prediction (Vovk, Gammerman & Shafer, 2005, "Algorithmic Learning in a Random World"; Papadopoulos et
al., 2002). On images that training held out, the score of an image is the largest over the four edges of

    |true edge - predicted edge| / scale of that edge,

and the margins of a new image are its own scales times a quantile of those scores: the ``ceil((n + 1) level)``-th
smallest of n. If the new image is exchangeable with the held-out ones, the true box lies within all four margins
with at least that probability, and with at most ``1 / (n + 1)`` more. Scores that are normalised by the model's own
uncertainty make margins wide where an image is hard (Lei et al., 2018; Romano, Patterson & Candes, 2019); the
maximum over the edges makes the four hold at once without Bonferroni's correction (Andeol et al., 2023, "Confident
Object Detection via Conformal Prediction and Conformal Risk Control"; Timans et al., 2024, "Adaptive Bounding Box
Uncertainty via Conformal Prediction").

Where images come in groups (many of one person), images of a group are not independent, and what is promised is
about an image of a group that was not seen. Each group then counts the same, and its images share that (Lee, Barber
& Willett, 2023, "Distribution-free inference with hierarchical data"); with groups of one it is the rule above.

All functions are pure, on arrays; edges are ``x1, y1, x2, y2`` in any one unit of length.
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
"""The probabilities that quantiles are kept for."""

DEFAULT_LEVEL = 0.9

FLOOR = 0.002
"""Least scale of an edge, in sides of the predicted box: no margin is nothing because a head was sure of itself."""

_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])


def scales(boxes: npt.ArrayLike, std: npt.ArrayLike) -> Floats:
    """The unit in which the error of each edge is measured, shape (..., 4), positive.

    boxes: predicted, shape (..., 4). std: standard deviation of each edge's distribution, shape (..., 4); where it
    is NaN, as of a head that gives numbers alone, the box's own width or height is the unit.
    """
    predicted, own = np.asarray(boxes, dtype=np.float64), np.asarray(std, dtype=np.float64)
    sides = np.abs(predicted[..., 2:] - predicted[..., :2])
    sides = np.maximum(np.concatenate([sides, sides], axis=-1), np.finfo(np.float64).tiny)
    return np.asarray(np.where(np.isnan(own), sides, np.maximum(own, FLOOR * sides)), dtype=np.float64)


def scores(truth: npt.ArrayLike, predicted: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """How far each true box is from the predicted one: the worst edge's error in its scale. (..., 4) to (...)."""
    error = np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    worst: Floats = np.max(np.abs(error) / np.asarray(scale, dtype=np.float64), axis=-1)
    return worst


def outer_scores(truth: npt.ArrayLike, predicted: npt.ArrayLike, scale: npt.ArrayLike) -> Floats:
    """How far each true box reaches out of the predicted one, as `scores`; negative where it lies well inside."""
    error = np.asarray(truth, dtype=np.float64) - np.asarray(predicted, dtype=np.float64)
    worst: Floats = np.max(error * _OUTWARDS / np.asarray(scale, dtype=np.float64), axis=-1)
    return worst


def quantile(values: npt.ArrayLike, level: float, groups: Sequence[str] | None = None) -> float:
    """The conformal quantile of n scores: the ``ceil((n + 1) level)``-th smallest, infinity where there is none.

    groups: the group of each score, see the module; ``""`` is a group of its own. None: all are.
    """
    if not 0 < level < 1:
        raise ConfigError(f"a level is a probability between 0 and 1, not {level}")
    return float(_quantiles(values, (level,), groups)[0])


def _quantiles(values: npt.ArrayLike, levels: Sequence[float], groups: Sequence[str] | None) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    # The new image's own score, which is not known, stands at infinity with the weight of a group.
    reached = np.cumsum(_weights(len(found), groups)[order])
    places = np.searchsorted(reached, np.asarray(levels) - 1e-9)
    return np.append(found[order], np.inf)[places]


def _weights(count: int, groups: Sequence[str] | None) -> Floats:
    if groups is None:
        return np.full(count, 1 / (count + 1))
    names = [group or f"\0{row}" for row, group in enumerate(groups)]
    _, member, sizes = np.unique(np.array(names, dtype=object), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(sizes) + 1) / sizes[member], dtype=np.float64)


def needed(level: float) -> int:
    """How many held-out images, or groups of them, a level needs at least."""
    return math.ceil(round(level / (1 - level), 9))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of a model's scores on held-out images: what its margins are made of. Plain data.

    count: images; units: groups of images, as many where there are no groups.
    two_sided, outer: quantile of `scores`, and of `outer_scores`, for each level for which there are enough images.
    """

    count: int
    units: int
    two_sided: Mapping[float, float]
    outer: Mapping[float, float]

    @classmethod
    def of(
        cls,
        truth: npt.ArrayLike,
        predicted: npt.ArrayLike,
        scale: npt.ArrayLike,
        groups: Sequence[str] | None = None,
    ) -> "Calibration":
        """From n held-out images: true and predicted boxes and scales, each (n, 4), and their groups."""
        both, out = scores(truth, predicted, scale), outer_scores(truth, predicted, scale)
        units = len(both)
        if groups is not None:
            units = len({group or row for row, group in enumerate(groups)})

        def table(values: Floats) -> dict[float, float]:
            found = zip(LEVELS, _quantiles(values, LEVELS, groups).tolist(), strict=True)
            return {level: value for level, value in found if math.isfinite(value)}

        return cls(len(both), units, table(both), table(out))

    def factor(self, level: float, *, outer: bool = False) -> float:
        """What scales are multiplied by at a level. Raises ConfigError where too few images were held out."""
        if not LEVELS[0] <= level <= LEVELS[-1]:
            raise ConfigError(
                f"a level of margins is from {LEVELS[0]:g} to {LEVELS[-1]:g}, not {level:g}",
                code="out-of-range",
            )
        # Of levels between two that are kept, the next higher one: it holds what is promised, and a little more.
        nearest = next(known for known in LEVELS if known >= level - 1e-9)
        table = self.outer if outer else self.two_sided
        if nearest not in table:
            what = "images" if self.units == self.count else "groups of images"
            highest = f" The highest level it has is {max(table):g}." if table else ""
            raise ConfigError(
                f"margins at {nearest:g} need {needed(nearest)} held-out {what}, and this model was calibrated on "
                f"{self.units}.{highest} Hold more out when training (--val), or label more",
                code="margins-need-more-images",
            )
        # An outer box that were smaller than the box itself would puzzle; a larger one holds what is promised.
        return max(table[nearest], 0.0) if outer else table[nearest]

    def band(
        self,
        boxes: npt.ArrayLike,
        scale: npt.ArrayLike,
        size: npt.ArrayLike,
        level: float = DEFAULT_LEVEL,
        *,
        outer: bool = False,
    ) -> tuple[Floats, Floats]:
        """`Prediction.low` and `Prediction.high`, each (..., 4), in the unit of the boxes.

        boxes, scale: predicted, (..., 4). size: width and height of the image, (..., 2).
        outer: one-sided, only outwards: the box that they span holds the whole object with that probability. Inwards
            they are then the predicted edges.
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
            "images": self.count,
            "units": self.units,
            "two_sided": {f"{level:g}": value for level, value in self.two_sided.items()},
            "outer": {f"{level:g}": value for level, value in self.outer.items()},
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Calibration":
        """What `to_dict` gave. Raises ConfigError for anything else."""
        try:
            both, out = (
                {float(level): float(value) for level, value in given[key].items()}
                for key in ("two_sided", "outer")
            )
            return cls(int(given["images"]), int(given["units"]), both, out)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the model's quantiles for margins are damaged ({error!r}); train again"
            ) from error
