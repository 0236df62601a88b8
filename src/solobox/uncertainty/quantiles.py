"""Conformal quantiles of scores; see `solobox.uncertainty.conformal`."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ConfigError


def quantile(values: npt.ArrayLike, level: float, groups: Sequence[str] | None = None) -> float:
    """The conformal quantile of n scores: the ``ceil((n + 1) level)``-th smallest, infinity where there is none.

    groups: the group of each score, see the module; ``""``: the image is a group by itself. None: all images are.

    Raises ConfigError ``out-of-range``.
    """
    if not 0 < level < 1:
        raise ConfigError(f"a level is a probability between 0 and 1, not {level}", code="out-of-range")
    return float(quantiles(values, (level,), groups)[0])


def quantiles(values: npt.ArrayLike, levels: Sequence[float], groups: Sequence[str] | None) -> Floats:
    """`quantile` at several levels, which are not checked."""
    unsorted = np.asarray(values, dtype=np.float64)
    order = np.argsort(unsorted, kind="stable")
    # The score of the new image counts as infinite, with the weight of a group.
    cumulative = np.cumsum(weights(len(unsorted), groups)[order])
    ranks = np.searchsorted(cumulative, np.asarray(levels) - 1e-9)
    return np.append(unsorted[order], np.inf)[ranks]


def weights(count: int, groups: Sequence[str] | None) -> Floats:
    """The weights of n calibration images, (n,): each group has the same, and a new image that of one more group."""
    if groups is None:
        return np.full(count, 1 / (count + 1))
    names = [group or f"\0{row}" for row, group in enumerate(groups)]
    _, member, sizes = np.unique(np.array(names, dtype=object), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(sizes) + 1) / sizes[member], dtype=np.float64)


def min_calibration_size(level: float) -> int:
    """How many calibration images, or groups of them, a level needs at least."""
    return math.ceil(round(level / (1 - level), 9))


def count_groups(groups: Sequence[str] | None, count: int) -> int:
    """How many groups n images are of; ``""``, or None for all: an image is one by itself."""
    return count if groups is None else len({group or row for row, group in enumerate(groups)})
