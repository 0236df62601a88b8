"""What comes out for one image."""

from dataclasses import dataclass, field, replace

import numpy as np

from solobox.boxes import Floats


def _nothing() -> Floats:
    return np.full(4, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One image's box and how far it can be trusted, or the reason why there is none.

    image: the input as it was given (a path, or a name for pixels that came from elsewhere).
    box: shape (4,), float64, ``x1, y1, x2, y2`` in pixels of the upright image; NaN where `error` is set, and where
        the caller took the object for absent (`without_object`).
    size: width and height of the upright image in pixels; ``(0, 0)`` where `error` is set.
    std: shape (4,), float64, the standard deviation in pixels of each edge's predicted distribution; NaN
        for a head that gives none. It is the model's own word, not calibrated: see `lower` and `upper`.
    lower, upper: shape (4,), float64, pixels: each edge of the true box lies between these, all four at once with the
        probability that was asked for (see `solobox.uncertainty.conformal`), or, of a one-sided band, none lies
        beyond the outer ones. Never outside the image. NaN where the model was not calibrated for that.
    presence: calibrated probability in [0, 1] that the object is in the image at all; NaN where the model never
        learned that, since it was shown no images without the object.
    familiarity: how like the training images this one is, in (0, 1]: the share of held-out images of the training
        data that are no more like them. Near 0 it is like none of them. NaN where the model has no figure for that.
    error: what was wrong with the image, or the empty string.
    """

    image: str
    box: Floats = field(default_factory=_nothing)
    size: tuple[int, int] = (0, 0)
    std: Floats = field(default_factory=_nothing)
    lower: Floats = field(default_factory=_nothing)
    upper: Floats = field(default_factory=_nothing)
    presence: float = np.nan
    familiarity: float = np.nan
    error: str = ""

    def without_object(self) -> "Prediction":
        """The same, saying that the object is not there: no box, and no margins of one."""
        return replace(self, box=_nothing(), std=_nothing(), lower=_nothing(), upper=_nothing())

    def if_present(self, least: float) -> "Prediction":
        """`without_object` where its presence is below `least`, else the same; NaN is not below anything."""
        return self.without_object() if self.presence < least else self

    @property
    def outer(self) -> Floats:
        """The largest box that the margins allow, shape (4,): the object lies in it."""
        return np.array([self.lower[0], self.lower[1], self.upper[2], self.upper[3]])

    @property
    def inner(self) -> Floats:
        """The smallest box that the margins allow, shape (4,), which lies in the object.

        Its corners may cross where the margins are wide: then there is none.
        """
        return np.array([self.upper[0], self.upper[1], self.lower[2], self.lower[3]])
