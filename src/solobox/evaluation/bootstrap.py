"""Confidence intervals of means, and paired comparison of two runs, by the bootstrap.

A test set is a sample of the images that could have been collected. Resampling it with replacement and recomputing the
metric many times shows how much the metric varies (Efron & Tibshirani, 1993, "An Introduction to the Bootstrap").
Images of one group (of one person, say) are not independent, so whole groups are resampled (Davison & Hinkley, 1997,
"Bootstrap Methods and their Application", 3.8; Field & Welsh, 2007, "Bootstrapping clustered data"). Intervals are bias
corrected and accelerated (BCa: Efron, 1987, "Better Bootstrap Confidence Intervals"), because the IoU of good boxes is
skewed towards 1. Two runs are compared on the same images, resampled together, so that the difficulty of each image
cancels out (Koehn, 2004, "Statistical Significance Tests for Machine Translation Evaluation").

The intervals describe the trained weights on images like the measured ones. They do not include the variation between
training seeds. With fewer than about 20 images or groups they are somewhat too narrow.

All functions are pure functions on arrays; the same values and seed give the same result.
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
"""The default confidence level."""

RESAMPLES = 2000

_MAX_CELLS = 2_000_000
"""Resampled units in memory at once: tens of megabytes, whatever the number of images."""

_EPSILON = 1e-12
"""Means that are closer than this differ by rounding only."""


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A confidence interval; both ends are NaN if there are fewer than two resampling units.

    lower, upper: the ends. level: the probability that such an interval contains the true mean.
    """

    lower: float
    upper: float
    level: float = LEVEL

    def contains(self, value: float) -> bool:
        """Whether a value lies in the interval; True for every value if the ends are NaN."""
        return not (value < self.lower or value > self.upper)

    def to_json(self) -> Json:
        """Both ends as a list, or None if they are NaN."""
        ends = number(self.lower), number(self.upper)
        return None if None in ends else list(ends)


@dataclass(frozen=True, slots=True, eq=False)
class PairedDifference:
    """The difference of one metric between two runs on the same N images.

    difference: mean of the first run minus that of the second; NaN without images.
    interval: confidence interval of `difference`.
    share_better: share of resamples in which the first run has the higher mean, in [0, 1]; ties count half. NaN with
        fewer than two resampling units.
    differences: shape (N,), float64, the difference per image.
    """

    difference: float
    interval: ConfidenceInterval
    share_better: float
    differences: Floats

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.interval.contains(0.0)


def units(count: int, groups: Sequence[str] | None = None) -> npt.NDArray[np.intp]:
    """The resampling unit of each of N images, shape (N,), numbered from 0.

    groups: the group of each image; an image with the group ``""`` is a unit by itself. None: every image is.

    Raises ValueError if the number of groups differs from `count`.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"{count} images but {len(groups)} groups")
    numbers: dict[str, int] = {}
    # No group name can contain the character NUL, so these keys are unique.
    names = (group or f"\0{row}" for row, group in enumerate(groups))
    return np.fromiter((numbers.setdefault(name, len(numbers)) for name in names), dtype=np.intp, count=count)


def mean_intervals(
    values: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[ConfidenceInterval, ...]:
    """Confidence intervals of the means of K metrics, each measured on the same N images.

    values: shape (N, K), the metrics of each image, each in [0, 1].
    groups: see `units`.

    If a metric is 1 for every image, or 0 for every image, resampling shows no variation; the interval is then the
    exact one of a proportion (Clopper & Pearson, 1934) over the units: ``((1 - level) / 2) ** (1 / units)`` from
    the far end. The ends are NaN with fewer than two units.

    Raises ValueError for another shape.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"values have shape (N, K), not {table.shape}")
    resampled = _ResampledMeans.draw(table, units(len(table), groups), resamples, seed)
    if resampled is None:
        return tuple(ConfidenceInterval(math.nan, math.nan, level) for _ in table.T)
    exact = ((1 - level) / 2) ** (1 / resampled.units)
    intervals = list(resampled.intervals(level))
    for column in range(table.shape[1]):
        if (table[:, column] == 1).all():
            intervals[column] = ConfidenceInterval(exact, 1.0, level)
        elif (table[:, column] == 0).all():
            intervals[column] = ConfidenceInterval(0.0, 1 - exact, level)
    return tuple(intervals)


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Compare the mean of one metric between two runs on the same N images (paired bootstrap).

    first, second: shape (N,), the metric of each image in either run.
    groups: see `units`.

    Raises ValueError if the shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"both runs need values of one shape (N,), not {one.shape} and {other.shape}")
    differences = one - other
    resampled = _ResampledMeans.draw(differences[:, None], units(len(one), groups), resamples, seed)
    if resampled is None:
        difference = float(differences.mean()) if len(one) else math.nan
        return PairedDifference(
            difference, ConfidenceInterval(math.nan, math.nan, level), math.nan, differences
        )
    means = resampled.means[:, 0]
    better = float((means > _EPSILON).mean() + (np.abs(means) <= _EPSILON).mean() / 2)
    return PairedDifference(float(resampled.mean[0]), resampled.intervals(level)[0], better, differences)


@dataclass(frozen=True, slots=True, eq=False)
class _ResampledMeans:
    """Means of K metrics: as measured (K,), of R resamples (R, K), and with each of U units left out (U, K)."""

    mean: Floats
    means: Floats
    jackknife: Floats

    @property
    def units(self) -> int:
        return len(self.jackknife)

    @classmethod
    def draw(
        cls, values: Floats, member: npt.NDArray[np.intp], resamples: int, seed: int
    ) -> "_ResampledMeans | None":
        """From values (N, K) and the unit of each image (N,); None with fewer than two units."""
        count = int(member.max()) + 1 if len(member) else 0
        if count < 2:
            return None
        ones = np.ones((len(values), 1))
        # The sums of a unit, and in the last column its number of images: a mean is a ratio of two such sums.
        columns = [np.bincount(member, column, count) for column in np.hstack([values, ones]).T]
        sums: Floats = np.stack(columns, axis=1)
        total = sums.sum(axis=0)
        return cls(_ratio(total), _ratio(_resample(sums, resamples, seed)), _ratio(total - sums))

    def intervals(self, level: float) -> tuple[ConfidenceInterval, ...]:
        return tuple(
            _bca(float(mean), means, jackknife, level)
            for mean, means, jackknife in zip(self.mean, self.means.T, self.jackknife.T, strict=True)
        )


def _resample(sums: Floats, resamples: int, seed: int) -> Floats:
    """Sums (U, C) of units, drawn U times with replacement and added up: (resamples, C)."""
    random, count = np.random.default_rng(seed), len(sums)
    batch = max(1, _MAX_CELLS // count)
    totals: list[Floats] = []
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        totals.append(times.astype(np.float64) @ sums)
    return np.concatenate(totals)


def _ratio(sums: Floats) -> Floats:
    return np.asarray(sums[..., :-1] / sums[..., -1:], dtype=np.float64)


def _bca(mean: float, means: Floats, jackknife: Floats, level: float) -> ConfidenceInterval:
    """The BCa interval of a mean, from the means of resamples (R,) and with one unit left out (U,)."""
    normal = NormalDist()
    below = (means < mean - _EPSILON).mean() + (np.abs(means - mean) <= _EPSILON).mean() / 2
    least = 0.5 / len(means)
    bias = normal.inv_cdf(min(max(float(below), least), 1 - least))
    influence = jackknife.mean() - jackknife
    scale = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    quantiles = []
    for z in (normal.inv_cdf((1 - level) / 2), normal.inv_cdf((1 + level) / 2)):
        adjusted = (bias + z) / max(1 - acceleration * (bias + z), 1e-3)
        quantiles.append(normal.cdf(bias + adjusted))
    lower, upper = np.quantile(means, quantiles)
    return ConfidenceInterval(float(lower), float(upper), level)
