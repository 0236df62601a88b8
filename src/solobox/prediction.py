"""What comes out for one picture."""

from dataclasses import dataclass, field, replace

import numpy as np

from solobox.boxes import Floats


def _nothing() -> Floats:
    return np.full(4, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One picture's box and how far it can be trusted, or the reason why there is none.

    image: the input as it was given (a path, or a name for pixels that came from elsewhere).
    box: shape (4,), float64, ``x1, y1, x2, y2`` in pixels of the upright picture; NaN where `error` is set, and where
        the caller took the object for absent (`without_object`).
    size: width and height of the upright picture in pixels; ``(0, 0)`` where `error` is set.
    spread: shape (4,), float64, the standard deviation in pixels of each edge's predicted distribution; NaN
        for a head that gives none. It is the model's own word, not calibrated: see `low` and `high`.
    low, high: shape (4,), float64, pixels: each edge of the true box lies between these, all four at once with the
        probability that was asked for (see `solobox.margins`), or, of a one-sided band, none lies beyond the outer
        ones. Never outside the picture. NaN where the model was not calibrated for that.
    presence: calibrated probability in [0, 1] that the object is in the picture at all; NaN where the model never
        learned that, since it was shown no pictures without the object.
    familiarity: how like the training pictures this one is, in (0, 1]: the share of held-out pictures of the training
        data that are no more like them. Near 0 it is like none of them. NaN where the model has no figure for that.
    error: what was wrong with the picture, or the empty string.
    """

    image: str
    box: Floats = field(default_factory=_nothing)
    size: tuple[int, int] = (0, 0)
    spread: Floats = field(default_factory=_nothing)
    low: Floats = field(default_factory=_nothing)
    high: Floats = field(default_factory=_nothing)
    presence: float = np.nan
    familiarity: float = np.nan
    error: str = ""

    def without_object(self) -> "Prediction":
        """The same, saying that the object is not there: no box, and no margins of one."""
        return replace(self, box=_nothing(), spread=_nothing(), low=_nothing(), high=_nothing())

    def if_present(self, least: float) -> "Prediction":
        """`without_object` where its presence is below `least`, else the same; NaN is not below anything."""
        return self.without_object() if self.presence < least else self

    @property
    def outer(self) -> Floats:
        """The largest box that the margins allow, shape (4,): the object lies in it."""
        return np.array([self.low[0], self.low[1], self.high[2], self.high[3]])

    @property
    def inner(self) -> Floats:
        """The smallest box that the margins allow, shape (4,), which lies in the object.

        Its corners may cross where the margins are wide: then there is none.
        """
        return np.array([self.high[0], self.high[1], self.low[2], self.low[3]])
