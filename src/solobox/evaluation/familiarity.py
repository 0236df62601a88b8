"""How like the training pictures those are that were measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.evaluation.plain import Json

STRANGE = 0.01
"""At or below this a picture is like hardly any of the training data: one in a hundred of those held out is."""


@dataclass(frozen=True, slots=True)
class Familiarity:
    """The familiarity of pictures, see `Prediction.familiarity`.

    n: pictures for which it is known, at least one.
    median: of these, in (0, 1]; about 0.5 for pictures like the training ones.
    strange: share of them at or below `STRANGE`; about that much for pictures like the training ones.
    """

    n: int
    median: float
    strange: float

    @classmethod
    def of(cls, familiarity: npt.ArrayLike) -> "Familiarity | None":
        """From the familiarity of N pictures, shape (N,), NaN where it is not known; None where it is for none."""
        values = np.asarray(familiarity, dtype=np.float64).reshape(-1)
        known = values[np.isfinite(values)]
        if not len(known):
            return None
        return cls(len(known), float(np.median(known)), float((known <= STRANGE).mean()))

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON values."""
        return {"n": self.n, "median": self.median, "strange": self.strange}
