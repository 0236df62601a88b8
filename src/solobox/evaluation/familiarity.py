"""How like the training images those are that were measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.utils.json_utils import Json

STRANGE = 0.01
"""At or below this an image is like hardly any of the training data: one in a hundred of those held out is."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The familiarity of images, see `Prediction.familiarity`.

    n: images for which it is known, at least one.
    median: of these, in (0, 1]; about 0.5 for images like the training ones.
    strange: share of them at or below `STRANGE`; about that much for images like the training ones.
    """

    n: int
    median: float
    strange: float

    @classmethod
    def of(cls, familiarity: npt.ArrayLike) -> "Familiarity | None":
        """From the familiarity of N images, shape (N,), NaN where it is not known; None where it is for none."""
        values = np.asarray(familiarity, dtype=np.float64).reshape(-1)
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        return cls(len(known), float(np.median(known)), float((known <= STRANGE).mean()))

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON values."""
        return {"n": self.n, "median": self.median, "strange": self.strange}
