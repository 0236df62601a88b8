"""How similar the measured images are to the training images: a summary of their familiarity."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.utils.json_utils import Json

UNFAMILIAR = 0.01
"""An image with at most this familiarity is out of distribution: only one in a hundred held-out training images is."""


@dataclass(frozen=True, slots=True)
class FamiliaritySummary:
    """The familiarity of a set of images, see `Prediction.familiarity`.

    n: images that have a familiarity, at least one.
    median: their median, in (0, 1]; about 0.5 for images like the training images.
    share_unfamiliar: share of them at or below `UNFAMILIAR`, in [0, 1]; about 0.01 for images like the training images.
    """

    n: int
    median: float
    share_unfamiliar: float

    @classmethod
    def from_values(cls, familiarity: npt.ArrayLike) -> "FamiliaritySummary | None":
        """Summarize the familiarity of N images, shape (N,). NaN is left out; None if nothing remains."""
        values = np.asarray(familiarity, dtype=np.float64).reshape(-1)
        values = values[np.isfinite(values)]
        if not len(values):
            return None
        return cls(len(values), float(np.median(values)), float((values <= UNFAMILIAR).mean()))

    def to_dict(self) -> dict[str, Json]:
        """The fields as plain JSON values."""
        return {"n": self.n, "median": self.median, "share_unfamiliar": self.share_unfamiliar}
