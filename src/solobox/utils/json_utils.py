"""Numbers and types of JSON."""

import math
from typing import TypeAlias

Json: TypeAlias = "str | int | float | list[Json] | dict[str, Json] | None"


def number(value: float) -> float | None:
    """A number for JSON: None, which becomes null, for one that is not finite."""
    return float(value) if math.isfinite(value) else None
