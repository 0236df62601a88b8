"""What comes out for one picture."""

from dataclasses import dataclass, field

import numpy as np

from solobox.boxes import Floats


def _nothing() -> Floats:
    return np.full(4, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One picture's box, or the reason why there is none.

    image: the input as it was given (a path, or a name for pixels that came from elsewhere).
    box: shape (4,), float64, ``x1, y1, x2, y2`` in pixels of the upright picture; NaN where `error` is set.
    size: width and height of the upright picture in pixels; ``(0, 0)`` where `error` is set.
    spread: shape (4,), float64, the standard deviation in pixels of each edge's predicted distribution; NaN
        for a head that gives none. It is the model's own word, not calibrated.
    error: what was wrong with the picture, or the empty string.
    """

    image: str
    box: Floats = field(default_factory=_nothing)
    size: tuple[int, int] = (0, 0)
    spread: Floats = field(default_factory=_nothing)
    error: str = ""
