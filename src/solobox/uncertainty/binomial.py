"""An exact bound of a share."""

import numpy as np

_TOLERANCE = 1e-9


def lower_bound(good: int, number: int, error: float) -> float:
    """The lower bound of a share of which `good` of `number` were seen, wrong with the probability `error` at most.

    Exact (Clopper & Pearson, 1934, "The use of confidence or fiducial limits"): the share at which so many, or more,
    would be seen with this probability.
    """
    if not 0 <= good <= number or not number or not 0 < error < 1:
        raise ValueError(f"{good} of {number} at an error of {error}")
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
    hits = np.arange(good, number + 1)
    ways = factorials[number] - factorials[hits] - factorials[number - hits]
    low, high = 0.0, good / number
    while high - low > _TOLERANCE:
        share = (low + high) / 2
        as_many = np.exp(ways + hits * np.log(share) + (number - hits) * np.log1p(-share)).sum()
        low, high = (share, high) if as_many < error else (low, share)
    return low
