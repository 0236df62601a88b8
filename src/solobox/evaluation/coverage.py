"""Whether margins hold what they promise, and what that costs: pure functions on boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox import boxes
from solobox.boxes import Floats
from solobox.evaluation.bootstrap import Interval, mean_intervals
from solobox.uncertainty.conformal import DEFAULT_LEVEL
from solobox.utils.json_utils import Json, number

TOLERANCE = 1e-6
"""Pixels by which an edge may lie outside its margins and count as within: rounding, and nothing else."""

THIRDS = ("small", "medium", "large")


@dataclass(frozen=True, slots=True)
class Third:
    """The margins of a third of the images, by the size of their objects.

    name: ``small``, ``medium`` or ``large``.
    n: images.
    sides: the least and the greatest side of an object among them, as a fraction of the image's side.
    share: of its images, how many are covered, in [0, 1].
    outer_to_predicted: see `Coverage`.
    """

    name: str
    n: int
    sides: tuple[float, float]
    share: float
    outer_to_predicted: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often margins hold the true box, and how wide they are.

    level: the probability that the margins promise.
    n: images that have a true box and margins, at least one.
    share: of these, how many are covered: all four true edges lie within their margins at once; in [0, 1].
    interval: of that share, by the bootstrap, whole groups at a time.
    outer_to_predicted: area of the largest box that the margins allow over that of the predicted one, median.
    outer_to_inner: over that of the smallest box that they allow, median of the images where there is one. The
        median, since the smallest box may be next to nothing, and a mean then says nothing of the others.
    n_inner: images where there is a smallest box.
    thirds: by the size of the object; empty for fewer than three images. What is promised is promised over all
        images together: thirds may lie above and below it.
    """

    level: float
    n: int
    share: float
    interval: Interval
    outer_to_predicted: float
    outer_to_inner: float
    n_inner: int
    thirds: tuple[Third, ...]

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON values, null for what is not known."""
        thirds: list[Json] = [
            {
                "name": third.name,
                "n": third.n,
                "sides": list(third.sides),
                "share": number(third.share),
                "outer_to_predicted": number(third.outer_to_predicted),
            }
            for third in self.thirds
        ]
        return {
            "level": self.level,
            "n": self.n,
            "share": self.share,
            "interval": self.interval.to_json(),
            "outer_to_predicted": number(self.outer_to_predicted),
            "outer_to_inner": number(self.outer_to_inner),
            "n_inner": self.n_inner,
            "thirds": thirds,
        }


def covered(truth: npt.ArrayLike, lower: npt.ArrayLike, upper: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether all four edges of each true box lie within their margins, shape (...).

    truth, lower, upper: shape (..., 4), pixels, float64. NaN is never covered.
    """
    edges = np.asarray(truth, dtype=np.float64)
    above = edges >= np.asarray(lower, dtype=np.float64) - TOLERANCE
    below = edges <= np.asarray(upper, dtype=np.float64) + TOLERANCE
    return np.asarray((above & below).all(axis=-1), dtype=np.bool_)


def object_sides(truth: npt.ArrayLike, size: npt.ArrayLike) -> Floats:
    """The object's side as a fraction of the image's: square root of its share of the area, shape (N,).

    truth: shape (N, 4), pixels. size: shape (N, 2), width and height of the images.
    """
    width, height = np.asarray(size, dtype=np.float64).T
    return np.sqrt(boxes.area(boxes.scale(truth, 1 / width, 1 / height)))


def thirds(sides: npt.ArrayLike) -> tuple[npt.NDArray[np.intp], ...]:
    """Rows of the small, the medium and the large of N objects, three arrays of lengths that differ by at most 1.

    sides: shape (N,). Objects of one size are parted in the order given.
    """
    order = np.argsort(np.asarray(sides, dtype=np.float64), kind="stable")
    return tuple(np.asarray(part, dtype=np.intp) for part in np.array_split(order, 3))


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
    """Look at the margins of N images.

    truth, predicted, lower, upper: shape (N, 4), pixels; rows with a number that is not finite are left out, as images
        without margins. A true box is cut at the frame of its image first, as margins are.
    size: shape (N, 2), width and height of the images in pixels.
    groups: the group of each image, see `bootstrap.units`.
    level: the probability that the margins were made for.

    None where no image has margins.
    """
    tables = [
        np.asarray(table, dtype=np.float64).reshape(-1, 4) for table in (truth, predicted, lower, upper)
    ]
    known = np.flatnonzero(np.isfinite(np.concatenate(tables, axis=1)).all(axis=1))
    if not len(known):
        return None
    true, found, lowest, highest = (table[known] for table in tables)
    sizes = np.asarray(size, dtype=np.float64).reshape(-1, 2)[known]
    true = boxes.clip(true, sizes[:, 0], sizes[:, 1])
    is_covered = covered(true, lowest, highest)
    outer = boxes.area(np.concatenate([lowest[:, :2], highest[:, 2:]], axis=1))
    inner = boxes.area(np.concatenate([highest[:, :2], lowest[:, 2:]], axis=1))
    ratio, ratio_inner = _over(outer, boxes.area(found)), _over(outer, inner)
    side = object_sides(true, sizes)
    parts = [
        Third(
            name=name,
            n=len(rows),
            sides=(float(side[rows].min()), float(side[rows].max())),
            share=float(is_covered[rows].mean()),
            outer_to_predicted=_median(ratio[rows]),
        )
        for name, rows in zip(THIRDS, thirds(side), strict=True)
        if len(known) >= len(THIRDS)
    ]
    (interval,) = mean_intervals(
        is_covered[:, None], None if groups is None else [groups[row] for row in known.tolist()]
    )
    return Coverage(
        level=level,
        n=len(known),
        share=float(is_covered.mean()),
        interval=interval,
        outer_to_predicted=_median(ratio),
        outer_to_inner=_median(ratio_inner),
        n_inner=int((inner > 0).sum()),
        thirds=tuple(parts),
    )


def _over(area: Floats, other: Floats) -> Floats:
    """The ratio of areas, NaN where there is nothing to divide by."""
    found = np.full(len(area), np.nan)
    np.divide(area, other, out=found, where=other > 0)
    return found


def _median(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan
