"""Results as plain JSON values: what they have in common."""

import math
from typing import TypeAlias

from solobox.evaluation.bootstrap import Interval

Json: TypeAlias = "str | int | float | list[Json] | dict[str, Json] | None"


def number(value: float) -> float | None:
    """A number as JSON has it: null for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def ends(interval: Interval) -> Json:
    """Both ends of an interval, or null where they are not known."""
    low, high = number(interval.low), number(interval.high)
    return None if low is None or high is None else [low, high]
