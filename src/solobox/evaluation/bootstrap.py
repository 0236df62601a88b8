"""How far a figure may be off because other images could have been measured: the bootstrap.

The images of a test part are a sample of all those that could have come. Drawing as many again from them, with
repeats, and computing the figure anew, many times over, shows how much it moves (Efron & Tibshirani, 1993, "An
Introduction to the Bootstrap"). Where images come in groups (many of one person), images of a group are not
independent, and it is whole groups that are drawn (Davison & Hinkley, 1997, "Bootstrap Methods and their Application",
3.8; Field & Welsh, 2007, "Bootstrapping clustered data"). Ends of an interval are taken from the drawn figures with
the correction for bias and skew (BCa: Efron, 1987, "Better Bootstrap Confidence Intervals"), since the IoU of good
boxes crowds below 1. Two runs are compared on the same images, drawn together, so that what makes an image hard for
both cancels out (Koehn, 2004, "Statistical Significance Tests for Machine Translation Evaluation").

What is found speaks of images like the measured ones, and of these trained weights. How much another seed of
training would have moved the figure it cannot know. With few images or groups, below 20 or so, intervals come out
somewhat too narrow.

All functions are pure, on arrays. The same figures and seed give the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.utils.json_utils import Json, number

LEVEL = 0.95
"""The usual probability of a confidence interval."""

RESAMPLES = 2000

_CELLS = 2_000_000
"""How many drawn units are held at once: some tens of megabytes, for any number of images."""

_SAME = 1e-12
"""Figures that are closer than this differ by rounding alone."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval: both ends NaN where there are too few units to tell.

    lower, upper: its ends. level: the probability with which such intervals hold the figure of all images that could
    have come.
    """

    lower: float
    upper: float
    level: float = LEVEL

    def holds(self, value: float) -> bool:
        """Whether a value lies in it; every value does where the ends are not known."""
        return not (value < self.lower or value > self.upper)

    def to_json(self) -> Json:
        """Both ends, or null where they are not known."""
        ends = number(self.lower), number(self.upper)
        return None if None in ends else list(ends)


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """One figure of two runs on the same N images.

    difference: the first run's mean less the second's; NaN for no images.
    interval: of that difference.
    better: share of the resamples in which the first run's mean is the higher one, in [0, 1]; equal means count as
        half. NaN where there are too few units to tell.
    differences: shape (N,), float64, the first run's figure less the second's, image by image.
    """

    difference: float
    interval: Interval
    better: float
    differences: Floats

    @property
    def clear(self) -> bool:
        """Whether chance alone, in which images were measured, hardly gives such a difference."""
        return not self.interval.holds(0.0)


def units(count: int, groups: Sequence[str] | None = None) -> npt.NDArray[np.intp]:
    """The unit that each of N images is drawn with, shape (N,), numbered from 0.

    groups: the group of each image; ``""`` is a group of its own. None: all are.

    Raises ValueError when there are not as many groups as images.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"{count} images but {len(groups)} groups")
    numbers: dict[str, int] = {}
    # No file has a name or a group with the letter zero in it.
    names = (group or f"\0{row}" for row, group in enumerate(groups))
    return np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), dtype=np.intp, count=count)


def mean_intervals(
    figures: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Confidence intervals of the means of K figures, each measured on the same N images.

    figures: shape (N, K), each in [0, 1], as an IoU is, or a share's yes and no.
    groups: see `units`.

    Where every image has the figure 1, or every one 0, drawing shows no movement, and the interval is the exact one
    of a share of all or none of the units (Clopper & Pearson, 1934): ``(1 - level) / 2`` to the power ``1 / units``
    away from the far end. With fewer than two units nothing can be told.

    Raises ValueError for another shape.
    """
    table = np.asarray(figures, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"figures have shape (N, K), not {table.shape}")
    member = units(len(table), groups)
    found = _Resampled.of(table, member, resamples, seed)
    if found is None:
        return tuple(Interval(math.nan, math.nan, level) for _ in table.T)
    reach = ((1 - level) / 2) ** (1 / found.units)
    intervals = list(found.intervals(level))
    for column in range(table.shape[1]):
        if (table[:, column] == 1).all():
            intervals[column] = Interval(reach, 1.0, level)
        elif (table[:, column] == 0).all():
            intervals[column] = Interval(0.0, 1 - reach, level)
    return tuple(intervals)


def paired(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare the mean figures of two runs on the same N images.

    first, second: shape (N,), the figure of each image, of one run and of the other.
    groups: see `units`.

    Raises ValueError when the shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"two runs have figures of one shape (N,), not {one.shape} and {other.shape}")
    differences = one - other
    found = _Resampled.of(differences[:, None], units(len(one), groups), resamples, seed)
    if found is None:
        difference = float(differences.mean()) if len(one) else math.nan
        return Paired(difference, Interval(math.nan, math.nan, level), math.nan, differences)
    drawn = found.means[:, 0]
    better = float((drawn > _SAME).mean() + (np.abs(drawn) <= _SAME).mean() / 2)
    return Paired(float(found.mean[0]), found.intervals(level)[0], better, differences)


@dataclass(frozen=True, slots=True, eq=False)
class _Resampled:
    """Means of K figures: as measured (K,), of R resamples (R, K), and with each of U units left out (U, K)."""

    mean: Floats
    means: Floats
    without: Floats

    @property
    def units(self) -> int:
        return len(self.without)

    @classmethod
    def of(
        cls, figures: Floats, member: npt.NDArray[np.intp], resamples: int, seed: int
    ) -> "_Resampled | None":
        """From figures (N, K) and their units (N,); None where there are fewer than two units."""
        count = int(member.max()) + 1 if len(member) else 0
        if count < 2:
            return None
        ones = np.ones((len(figures), 1))
        # A unit's sums, and in the last column how many images it has: a mean is a ratio of two such sums.
        columns = [np.bincount(member, column, count) for column in np.hstack([figures, ones]).T]
        sums: Floats = np.stack(columns, axis=1)
        total = sums.sum(axis=0)
        return cls(_ratio(total), _ratio(_draw(sums, resamples, seed)), _ratio(total - sums))

    def intervals(self, level: float) -> tuple[Interval, ...]:
        return tuple(
            _bca(float(mean), drawn, without, level)
            for mean, drawn, without in zip(self.mean, self.means.T, self.without.T, strict=True)
        )


def _draw(sums: Floats, resamples: int, seed: int) -> Floats:
    """The sums (U, C) of units, drawn U times with repeats and added up: (resamples, C)."""
    random, count = np.random.default_rng(seed), len(sums)
    at_once = max(1, _CELLS // count)
    parts: list[Floats] = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        parts.append(times.astype(np.float64) @ sums)
    return np.concatenate(parts)


def _ratio(sums: Floats) -> Floats:
    return np.asarray(sums[..., :-1] / sums[..., -1:], dtype=np.float64)


def _bca(mean: float, drawn: Floats, without: Floats, level: float) -> Interval:
    """The interval of a mean, from those of resamples (R,) and those with a unit left out (U,)."""
    normal = NormalDist()
    below = (drawn < mean - _SAME).mean() + (np.abs(drawn - mean) <= _SAME).mean() / 2
    least = 0.5 / len(drawn)
    bias = normal.inv_cdf(min(max(float(below), least), 1 - least))
    moved = without.mean() - without
    std = float((moved**2).sum()) ** 1.5
    skew = float((moved**3).sum()) / (6 * std) if std > 0 else 0.0
    ends = []
    for z in (normal.inv_cdf((1 - level) / 2), normal.inv_cdf((1 + level) / 2)):
        bent = (bias + z) / max(1 - skew * (bias + z), 1e-3)
        ends.append(normal.cdf(bias + bent))
    lower, upper = np.quantile(drawn, ends)
    return Interval(float(lower), float(upper), level)
