"""How like the training images an image is: a figure from the backbone's features alone, whatever the head says.

The pooled features of training images are described by a Gaussian of few directions and one variance for all others
(probabilistic PCA: Tipping & Bishop, 1999), and an image by its squared Mahalanobis distance from their mean (Lee et
al., 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples"). As such a distance says nothing to
a person, it is given as a conformal p-value against images that training held out: one that is drawn as they were has
a figure of at most p with a probability of at most p.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ConfigError

MOST_DIRECTIONS = 64
"""Directions that have a variance of their own, at most; and a quarter as many as images."""

ROUNDING = 1e-4
"""Share by which a distance may be larger for being computed otherwise, in another batch or by another runtime."""

_ARRAYS = ("mean", "directions", "variances", "rest", "distances")


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """What training images look like to the backbone. All arrays are float32.

    mean: (D,). directions: (k, D), orthonormal rows. variances: (k,) along them. rest: () along each other one.
    distances: (m,), of held-out images, ascending.
    """

    mean: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float32]
    rest: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]

    @classmethod
    def of(cls, training: npt.ArrayLike, held_out: npt.ArrayLike) -> "Familiarity":
        """From pooled features of training images (n, D) and of held-out ones (m, D), n >= 2 and m >= 1."""
        features = np.asarray(training, dtype=np.float64)
        count, width = features.shape
        mean = features.mean(axis=0)
        centred = features - mean
        kept = min(MOST_DIRECTIONS, count // 4, width - 1)
        values, vectors = np.linalg.eigh(centred.T @ centred / (count - 1))
        values = np.maximum(values[::-1], 0)
        rest = max(float(values[kept:].sum()) / (width - kept), 1e-6 * float(values.mean()), 1e-12)
        made = cls(
            mean=mean.astype(np.float32),
            directions=np.ascontiguousarray(vectors[:, ::-1][:, :kept].T, dtype=np.float32),
            variances=np.maximum(values[:kept], rest).astype(np.float32),
            rest=np.array(rest, dtype=np.float32),
            distances=np.zeros(0, np.float32),
        )
        return replace(made, distances=np.sort(made.distance(held_out)).astype(np.float32))

    def distance(self, features: npt.ArrayLike) -> Floats:
        """Squared distances of pooled features: (n, D) to (n,)."""
        centred = np.asarray(features, dtype=np.float32) - self.mean
        along = centred @ self.directions.T
        own = np.square(along).astype(np.float64)
        others = np.maximum(np.square(centred).sum(axis=1, dtype=np.float64) - own.sum(axis=1), 0)
        found: Floats = (own / self.variances).sum(axis=1) + others / float(self.rest)
        return found

    def __call__(self, features: npt.ArrayLike) -> Floats:
        """`Prediction.familiarity` of pooled features: (n, D) to (n,), in (0, 1]."""
        known = len(self.distances)
        # A held-out image again has just its own distance, but for rounding in another batch.
        at_least = known - np.searchsorted(
            self.distances, self.distance(features) * (1 - ROUNDING), side="left"
        )
        return np.asarray((1 + at_least) / (known + 1), dtype=np.float64)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, given: Mapping[str, npt.NDArray[np.float32]]) -> "Familiarity | None":
        """What `arrays` gave; None for no arrays at all. Raises ConfigError where some are missing."""
        if not given:
            return None
        if set(given) != set(_ARRAYS):
            raise ConfigError("the model's figures of its training images are damaged; train again")
        return cls(**given)
