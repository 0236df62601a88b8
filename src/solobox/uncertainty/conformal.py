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

Coverage over all images may be low for small objects and high for large ones, or the other way round. So each third of
the calibration images, by the size of the predicted box, has quantiles of its own (Mondrian conformal prediction: Vovk,
Lindsay, Nouretdinov & Gammerman, 2003, "Mondrian confidence machine"): the promise is then for each third. Where there
are too few images for thirds, halves, or all images together.

Beside a probability, a mean can be promised: what share of the object the outer box cuts off; see
`solobox.uncertainty.risk`.

All functions are pure functions on arrays; edges are ``x1, y1, x2, y2`` in any one unit of length.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from solobox.boxes import OUTWARDS, Floats, object_sides
from solobox.errors import ConfigError
from solobox.uncertainty.quantiles import count_groups, min_calibration_size, quantiles
from solobox.uncertainty.risk import cut_factor

LEVELS = (*(round(level / 100, 2) for level in range(50, 100)), 0.995, 0.999)
"""The levels (nominal coverages) that a calibration stores quantiles for."""

DEFAULT_LEVEL = 0.9

CUTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""The mean shares of the object cut off that a calibration stores factors for."""

CATEGORIES = 3
"""Categories of predicted size, at most."""

_PLENTY = 5
"""A category has its own quantile at a level where it has so many times the images, or groups, outside the level: with
few more than must be, its margins would be those of its worst image. bench/LOG.md has what was measured."""

MIN_SCALE = 0.002
"""Smallest scale of an edge, as a share of the box's side: an overconfident head must not give margins of zero."""

_MAX_IMAGES, _MAX_QUANTILE = 10**12, 1e12


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
    worst: Floats = np.max(error * OUTWARDS / np.asarray(scale, dtype=np.float64), axis=-1)
    return worst


@dataclass(frozen=True, slots=True)
class SizeCategory:
    """The quantiles for boxes of about one size, at the levels that the calibration has.

    below: the relative size (`object_sides`) that the predicted boxes are below; infinity for the last category.
    two_sided, outer: as in `Calibration`.
    """

    below: float
    two_sided: Mapping[float, float]
    outer: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Conformal quantiles of a model's nonconformity scores, which its margins are computed from.

    n_images: calibration images. n_groups: groups of them, or images where there are no groups.
    two_sided, outer: quantile of `scores`, and of `outer_scores`, for each level that there are enough images for.
    cut: `cut_factor` for each of `CUTS` that there are enough images for.
    categories: by predicted size, ascending; none where there are too few images, and in models of earlier versions.
    """

    n_images: int
    n_groups: int
    two_sided: Mapping[float, float]
    outer: Mapping[float, float]
    cut: Mapping[float, float] = field(default_factory=dict)
    categories: tuple[SizeCategory, ...] = ()

    @classmethod
    def fit(
        cls,
        truth: npt.ArrayLike,
        predicted: npt.ArrayLike,
        scale: npt.ArrayLike,
        groups: Sequence[str] | None = None,
        *,
        size: npt.ArrayLike | None = None,
    ) -> "Calibration":
        """From n calibration images: true boxes, predicted boxes and `scales`, each (n, 4), and their groups.

        size: width and height of the images, (n, 2) or (2,), (1, 1) for boxes as fractions. None: one category.
        """
        both, out = scores(truth, predicted, scale), outer_scores(truth, predicted, scale)
        cut = {each: cut_factor(truth, predicted, scale, each, groups) for each in CUTS}
        pooled = cls(
            len(both), count_groups(groups, len(both)), _finite(both, groups), _finite(out, groups),
            {each: value for each, value in cut.items() if math.isfinite(value)},
        )  # fmt: skip
        if size is None:
            return pooled
        bounds, members = _categories(object_sides(predicted, size), groups)

        def table(
            values: Floats, rows: npt.NDArray[np.intp], all_images: Mapping[float, float]
        ) -> dict[float, float]:
            some = None if groups is None else [groups[row] for row in rows.tolist()]
            count = count_groups(some, len(rows))
            mine = _finite(values[rows], some)
            levels = [level if count >= round(_PLENTY / (1 - level), 9) else None for level in all_images]
            chosen = [
                each if own is None else mine[own]
                for each, own in zip(all_images.values(), levels, strict=True)
            ]
            # A higher level must not have narrower margins, though others calibrated it.
            return dict(zip(all_images, np.maximum.accumulate(chosen).tolist(), strict=True))

        categories = [
            SizeCategory(below, table(both, rows, pooled.two_sided), table(out, rows, pooled.outer))
            for below, rows in zip(bounds, members, strict=True)
        ]
        return replace(pooled, categories=tuple(categories) if len(categories) > 1 else ())

    def factor(self, level: float, *, outer: bool = False) -> float:
        """The quantile over all sizes that scales are multiplied by, at a level rounded up to the next of `LEVELS`.

        Raises ConfigError: ``out-of-range``; ``margins-need-more-images`` where too few images were held out.
        """
        if not LEVELS[0] <= level <= LEVELS[-1]:
            raise ConfigError(
                f"a level of margins is from {LEVELS[0]:g} to {LEVELS[-1]:g}, not {level:g}",
                code="out-of-range",
            )
        stored = _stored(level)
        table = self.outer if outer else self.two_sided
        if stored not in table:
            highest = f" The highest level it has is {max(table):g}." if table else ""
            raise ConfigError(
                f"margins at {stored:g} need {min_calibration_size(stored)} held-out {self._unit}, and this model was "
                f"calibrated on {self.n_groups}.{highest} Hold more out when training (--val), or label more",
                code="margins-need-more-images",
            )
        return _at(table, stored, outer=outer)

    def factors(self, level: float, *, outer: bool = False) -> tuple[float, ...]:
        """`factor` for each of the `categories`, ascending; that for all sizes where there are none. Raises as it."""
        pooled = self.factor(level, outer=outer)
        tables = [each.outer if outer else each.two_sided for each in self.categories]
        return tuple(_at(table, _stored(level), outer=outer) for table in tables) or (pooled,)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The relative sizes between the `categories`, ascending: a box belongs to the first that it is below."""
        return tuple(each.below for each in self.categories[:-1])

    def category(self, boxes: npt.ArrayLike, size: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """The index of each box's category, (...). boxes, size: as in `margins`."""
        return np.asarray(
            np.searchsorted(self.bounds, object_sides(boxes, size), side="right"), dtype=np.intp
        )

    def factor_for_cut(self, max_cut: float) -> float:
        """What scales are multiplied by so that the outer box cuts off `max_cut` of the object at most, on average.

        max_cut: rounded down to the next of `CUTS`.

        Raises ConfigError: ``out-of-range``; ``margins-need-more-images``; ``model-outdated`` for a model of a version
        that could not do this.
        """
        stored = max((each for each in CUTS if each <= max_cut + 1e-12), default=None)
        if stored is None or max_cut > CUTS[-1]:
            raise ConfigError(
                f"a share of the object to cut off is from {CUTS[0]:g} to {CUTS[-1]:g}, not {max_cut:g}",
                code="out-of-range",
            )
        if stored in self.cut:
            return self.cut[stored]
        needed = math.ceil(round(1 / stored - 1, 9))
        if self.n_groups >= needed:
            raise ConfigError(
                "this model was calibrated by an earlier version of Solobox, without what an outer box cuts off: "
                "train it again, and export it again",
                code="model-outdated",
            )
        least = f" The least it can promise is {min(self.cut):g}." if self.cut else ""
        raise ConfigError(
            f"to cut off {stored:g} at most takes {needed} held-out {self._unit}, and this model was calibrated on "
            f"{self.n_groups}.{least} Hold more out when training (--val), or label more",
            code="margins-need-more-images",
        )

    @property
    def _unit(self) -> str:
        return "images" if self.n_groups == self.n_images else "groups of images"

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
        factor = np.array(self.factors(level, outer=outer))[self.category(boxes, size)]
        return _bounds(boxes, scale, size, factor[..., np.newaxis], outer=outer)

    def margins_for_cut(
        self, boxes: npt.ArrayLike, scale: npt.ArrayLike, size: npt.ArrayLike, max_cut: float
    ) -> tuple[Floats, Floats]:
        """One-sided `margins` whose outer box cuts off a share of `max_cut` of the object at most, on average."""
        return _bounds(boxes, scale, size, np.array(self.factor_for_cut(max_cut)), outer=True)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "n_images": self.n_images,
            "n_groups": self.n_groups,
            "two_sided": _plain(self.two_sided),
            "outer": _plain(self.outer),
            "cut": _plain(self.cut),
            "categories": [
                {
                    "below": each.below if math.isfinite(each.below) else None,
                    "two_sided": _plain(each.two_sided),
                    "outer": _plain(each.outer),
                }
                for each in self.categories
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """The inverse of `to_dict`. Raises ConfigError ``model-damaged`` for anything else."""
        n_images, n_groups = (_count(values.get(key)) for key in ("n_images", "n_groups"))
        both, outer = _two_sided(values), _table(values.get("outer"))
        cut = _table(values.get("cut", {}), CUTS)
        if any(value < 0 for value in cut.values()):
            raise _damaged("a factor is negative")
        listed = values.get("categories", [])
        if (
            not isinstance(listed, list)
            or len(listed) > CATEGORIES
            or not all(isinstance(e, dict) for e in listed)
        ):
            raise _damaged("its categories of size are not a list")
        bounds = [math.inf if each.get("below") is None else _number(each["below"]) for each in listed]
        if bounds and (bounds != sorted(set(bounds)) or bounds[-1] != math.inf):
            raise _damaged("the bounds of its categories of size are not in order")
        categories = tuple(
            SizeCategory(below, _two_sided(each), _table(each.get("outer")))
            for below, each in zip(bounds, listed, strict=True)
        )
        if any(
            each.two_sided.keys() != both.keys() or each.outer.keys() != outer.keys() for each in categories
        ):
            raise _damaged("its categories of size have other levels")
        return cls(n_images, n_groups, both, outer, cut, categories)


def _finite(values: Floats, groups: Sequence[str] | None) -> dict[float, float]:
    pairs = zip(LEVELS, quantiles(values, LEVELS, groups).tolist(), strict=True)
    return {level: value for level, value in pairs if math.isfinite(value)}


def _categories(side: Floats, groups: Sequence[str] | None) -> tuple[list[float], list[npt.NDArray[np.intp]]]:
    """Upper bounds and rows of as many categories as have plenty of images each at the usual level."""
    for number in range(CATEGORIES, 1, -1):
        bounds = np.unique(np.quantile(side, np.arange(1, number) / number)) if len(side) else np.zeros(0)
        category = np.searchsorted(bounds, side, side="right")
        members = [np.flatnonzero(category == each) for each in range(len(bounds) + 1)]
        counts = [
            count_groups(groups and [groups[row] for row in rows.tolist()], len(rows)) for rows in members
        ]
        if len(counts) == number and min(counts) >= round(_PLENTY / (1 - DEFAULT_LEVEL), 9):
            return [*bounds.tolist(), math.inf], members
    return [math.inf], [np.arange(len(side))]


def _stored(level: float) -> float:
    return next(each for each in LEVELS if each >= level - 1e-9)


def _at(table: Mapping[float, float], level: float, *, outer: bool) -> float:
    # An outer box is never smaller than the box; coverage can only grow by that.
    return max(table[level], 0.0) if outer else table[level]


def _bounds(
    boxes: npt.ArrayLike, scale: npt.ArrayLike, size: npt.ArrayLike, factor: Floats, *, outer: bool
) -> tuple[Floats, Floats]:
    predicted = np.asarray(boxes, dtype=np.float64)
    width, height = np.moveaxis(np.asarray(size, dtype=np.float64), -1, 0)
    limit = np.stack([width, height, width, height], axis=-1)
    margin = factor * np.asarray(scale, dtype=np.float64)
    lower, upper = predicted - margin, predicted + margin
    if outer:
        lower, upper = np.where(OUTWARDS < 0, lower, predicted), np.where(OUTWARDS > 0, upper, predicted)
    return np.clip(lower, 0, limit), np.clip(upper, 0, limit)


def _plain(table: Mapping[float, float]) -> dict[str, float]:
    return {f"{key:g}": value for key, value in table.items()}


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_IMAGES:
        raise _damaged("n_images or n_groups is not a number of images")
    return value


def _number(value: object) -> float:
    if type(value) not in (int, float) or not abs(value) < _MAX_QUANTILE:  # type: ignore[arg-type]
        raise _damaged("a quantile or a bound is not a finite number")
    return float(value)  # type: ignore[arg-type]


def _two_sided(values: Mapping[str, Any]) -> dict[float, float]:
    table = _table(values.get("two_sided"))
    if any(value < 0 for value in table.values()):
        raise _damaged("a two-sided quantile is negative")
    return table


def _table(values: object, keys: Sequence[float] = LEVELS) -> dict[float, float]:
    known = {f"{key:g}": key for key in keys}
    if not isinstance(values, dict) or not known.keys() >= values.keys():
        raise _damaged("it has no table of quantiles, or one for unknown levels")
    return {known[key]: _number(value) for key, value in values.items()}


def _damaged(why: str) -> ConfigError:
    return ConfigError(
        f"the model's quantiles for margins are damaged ({why}); train again", code="model-damaged"
    )
