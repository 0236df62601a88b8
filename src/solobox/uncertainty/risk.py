"""Conformal risk control: an outer box that cuts off little of the object on average.

Angelopoulos, Bates, Fisch, Lei & Schuster, 2024, "Conformal Risk Control". The loss of an image is the share of its
object's area that is outside the outer box: at most 1, and no more for a larger box.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from solobox.boxes import OUTWARDS, Floats, area
from solobox.uncertainty.quantiles import weights


def cut_off(truth: npt.ArrayLike, outer: npt.ArrayLike) -> Floats:
    """The share of each true box's area that lies outside its outer box. (..., 4) to (...), in [0, 1].

    0 for a true box without an area.
    """
    true, box = np.asarray(truth, dtype=np.float64), np.asarray(outer, dtype=np.float64)
    first, last = np.maximum(true[..., :2], box[..., :2]), np.minimum(true[..., 2:], box[..., 2:])
    inside = np.prod(np.maximum(last - first, 0), axis=-1)
    whole = area(true)
    return np.asarray(1 - np.where(whole > 0, inside / np.where(whole > 0, whole, 1), 1), dtype=np.float64)


def cut_factor(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    scale: npt.ArrayLike,
    max_cut: float,
    groups: Sequence[str] | None = None,
) -> float:
    """The least factor of the scales, at least 0, whose outer boxes cut off a share of `max_cut` on average.

    truth, predicted, scale: of n calibration images, (n, 4). groups: as in `quantile`.

    With it, and one more image that is exchangeable with these, the expected share of its object that is cut off is at
    most `max_cut`. Infinity where there are too few images: the new one may lose everything.
    """
    true, box, unit = (np.asarray(each, dtype=np.float64) for each in (truth, predicted, scale))
    share = weights(len(true), groups)
    left = max_cut - (1 - float(share.sum())) + 1e-9

    def is_enough(factor: float) -> bool:
        return bool(share @ cut_off(true, box + OUTWARDS * factor * unit) <= left)

    if left < 0:
        return math.inf
    low, high = 0.0, float(((true - box) * OUTWARDS / unit).max(initial=0))
    if is_enough(low):
        return low
    while high - low > 1e-6 * high:  # at `high` nothing is cut off
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
