"""Coverage of the margins: how often they contain the true box, and how wide they are. Pure functions on boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats, object_sides
from solobox.evaluation.bootstrap import ConfidenceInterval, mean_intervals
from solobox.uncertainty.conformal import DEFAULT_LEVEL
from solobox.utils.json_utils import Json, number

TOLERANCE = 1e-6
"""Pixels that an edge may lie outside its margins and still count as covered, for rounding errors."""

SIZE_NAMES = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class SizeCoverage:
    """The coverage on one third of the images, by object size.

    name: ``small``, ``medium`` or ``large``.
    n: images.
    sides: the smallest and the largest relative object size among them, see `object_sides`.
    share: share of its images that are covered, in [0, 1].
    outer_to_predicted: see `Coverage`.
    """

    name: str
    n: int
    sides: tuple[float, float]
    share: float
    outer_to_predicted: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often the margins contain the true box, and how wide they are.

    level: the nominal coverage, which the margins were calibrated for.
    n: images with a true box and margins, at least one.
    share: the empirical coverage: share of images with all four true edges within their margins, in [0, 1].
    interval: bootstrap confidence interval of `share`; whole groups are resampled.
    outer_to_predicted: area of the outer box (the largest box within the margins) over that of the predicted box;
        median.
    outer_to_inner: area of the outer box over that of the inner box (the smallest within the margins); median over the
        images that have an inner box. The median, because an inner box close to zero would dominate a mean.
    n_inner: images that have an inner box.
    by_size: the coverage on each third of the images, by object size; empty for fewer than three images. The nominal
        coverage holds over all images together, not for each third.
    """

    level: float
    n: int
    share: float
    interval: ConfidenceInterval
    outer_to_predicted: float
    outer_to_inner: float
    n_inner: int
    by_size: tuple[SizeCoverage, ...]

    def to_dict(self) -> dict[str, Json]:
        """The fields as plain JSON values, None for NaN."""
        by_size: list[Json] = [
            {
                "name": third.name,
                "n": third.n,
                "sides": list(third.sides),
                "share": number(third.share),
                "outer_to_predicted": number(third.outer_to_predicted),
            }
            for third in self.by_size
        ]
        return {
            "level": self.level,
            "n": self.n,
            "share": self.share,
            "interval": self.interval.to_json(),
            "outer_to_predicted": number(self.outer_to_predicted),
            "outer_to_inner": number(self.outer_to_inner),
            "n_inner": self.n_inner,
            "by_size": by_size,
        }


def covered(truth: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether all four edges of each true box lie within their margins, shape (...).

    truth, lower, upper: shape (..., 4), pixels, float64. NaN is never covered.
    """
    edges = np.asarray(truth, dtype=np.float64)
    above = edges >= np.asarray(lower, dtype=np.float64) - TOLERANCE
    below = edges <= np.asarray(upper, dtype=np.float64) + TOLERANCE
    return np.asarray((above & below).all(axis=-1), dtype=np.bool_)


def size_terciles(sides: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], ...]:
    """Rows of the small, the medium and the large thirds of N objects; their lengths differ by at most 1.

    sides: shape (N,). Objects of equal size are split in the order of their rows.
    """
    order = np.argsort(np.asarray(sides, dtype=np.float64), kind="stable")
    return tuple(np.asarray(rows, dtype=np.intp) for rows in np.array_split(order, 3))


def measure_coverage(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    size: npt.ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    level: float = DEFAULT_LEVEL,
) -> Coverage | None:
    """Measure the margins of N images.

    truth, predicted, lower, upper: shape (N, 4), pixels; rows with a value that is not finite are left out. True boxes
        are clipped to the image first, as margins are.
    size: shape (N, 2), width and height of the images in pixels.
    groups: the group of each image, see `bootstrap.units`.
    level: the nominal coverage of the margins.

    None if no image has margins.
    """
    tables = [
        np.asarray(table, dtype=np.float64).reshape(-1, 4) for table in (truth, predicted, lower, upper)
    ]
    rows = np.flatnonzero(np.isfinite(np.concatenate(tables, axis=1)).all(axis=1))
    if not len(rows):
        return None
    true_boxes, predicted_boxes, low, high = (table[rows] for table in tables)
    sizes = np.asarray(size, dtype=np.float64).reshape(-1, 2)[rows]
    true_boxes = boxes.clip(true_boxes, sizes[:, 0], sizes[:, 1])
    is_covered = covered(true_boxes, low, high)
    outer = boxes.area(np.concatenate([low[:, :2], high[:, 2:]], axis=1))
    inner = boxes.area(np.concatenate([high[:, :2], low[:, 2:]], axis=1))
    outer_to_predicted, outer_to_inner = _ratio(outer, boxes.area(predicted_boxes)), _ratio(outer, inner)
    side = object_sides(true_boxes, sizes)
    by_size = [
        SizeCoverage(
            name=name,
            n=len(third),
            sides=(float(side[third].min()), float(side[third].max())),
            share=float(is_covered[third].mean()),
            outer_to_predicted=_median(outer_to_predicted[third]),
        )
        for name, third in zip(SIZE_NAMES, size_terciles(side), strict=True)
        if len(rows) >= len(SIZE_NAMES)
    ]
    (interval,) = mean_intervals(
        is_covered[:, None], None if groups is None else [groups[row] for row in rows.tolist()]
    )
    return Coverage(
        level=level,
        n=len(rows),
        share=float(is_covered.mean()),
        interval=interval,
        outer_to_predicted=_median(outer_to_predicted),
        outer_to_inner=_median(outer_to_inner),
        n_inner=int((inner > 0).sum()),
        by_size=tuple(by_size),
    )


def _ratio(area: Floats, other: Floats) -> Floats:
    """The ratio of areas, NaN where the divisor is 0."""
    ratio = np.full(len(area), np.nan)
    np.divide(area, other, out=ratio, where=other > 0)
    return ratio


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan
