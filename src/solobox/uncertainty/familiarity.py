"""Familiarity: how similar an image is to the training images, as a p-value. It detects out-of-distribution images.

The pooled backbone features of the training images are modelled by a Gaussian with a low-rank covariance
(probabilistic PCA: Tipping & Bishop, 1999). The score of an image is its squared Mahalanobis distance from the mean
(Lee et al., 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks").
Familiarity is the conformal p-value of that score against images that training held out: for an image of the same
distribution it is at most p with a probability of at most p.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ConfigError

MAX_COMPONENTS = 64
"""Principal components, at most; and no more than a quarter of the number of images."""

RELATIVE_TOLERANCE = 1e-4
"""Relative rounding error of a distance, in another batch or by another runtime."""

_ARRAYS = ("mean", "components", "explained_variance", "noise_variance", "distances")


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """A Gaussian fitted to the features of training images. All arrays are float32.

    mean: (D,). components: (k, D), orthonormal rows. explained_variance: (k,), along each component. noise_variance:
    (), along every other direction. distances: (m,), squared distances of held-out images, ascending.
    """

    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    explained_variance: npt.NDArray[np.float32]
    noise_variance: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, training: npt.ArrayLike, held_out: npt.ArrayLike) -> "Familiarity":
        """Fit to pooled features of training images (n, D), n >= 2, and of held-out images (m, D), m >= 1."""
        features = np.asarray(training, dtype=np.float64)
        count, width = features.shape
        mean = features.mean(axis=0)
        centered = features - mean
        rank = min(MAX_COMPONENTS, count // 4, width - 1)
        values, vectors = np.linalg.eigh(centered.T @ centered / (count - 1))
        values = np.maximum(values[::-1], 0)
        noise = max(float(values[rank:].sum()) / (width - rank), 1e-6 * float(values.mean()), 1e-12)
        fitted = cls(
            mean=mean.astype(np.float32),
            components=np.ascontiguousarray(vectors[:, ::-1][:, :rank].T, dtype=np.float32),
            explained_variance=np.maximum(values[:rank], noise).astype(np.float32),
            noise_variance=np.array(noise, dtype=np.float32),
            distances=np.zeros(0, np.float32),
        )
        return replace(fitted, distances=np.sort(fitted.distance(held_out)).astype(np.float32))

    def distance(self, features: npt.ArrayLike) -> Floats:
        """Squared Mahalanobis distances of pooled features: (n, D) to (n,)."""
        centered = np.asarray(features, dtype=np.float32) - self.mean
        projected = np.square(centered @ self.components.T).astype(np.float64)
        residual = np.maximum(np.square(centered).sum(axis=1, dtype=np.float64) - projected.sum(axis=1), 0)
        distance: Floats = (projected / self.explained_variance).sum(axis=1)
        distance += residual / float(self.noise_variance)
        return distance

    def __call__(self, features: npt.ArrayLike) -> Floats:
        """`Prediction.familiarity` of pooled features: (n, D) to (n,), in (0, 1]."""
        count = len(self.distances)
        # A held-out image must reach the distance that is stored for it, in spite of rounding.
        at_least = count - np.searchsorted(
            self.distances, self.distance(features) * (1 - RELATIVE_TOLERANCE), side="left"
        )
        return np.asarray((1 + at_least) / (count + 1), dtype=np.float64)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float32]]) -> "Familiarity | None":
        """The inverse of `arrays`; None without arrays.

        Raises ConfigError ``model-damaged`` where some are missing or do not fit together.
        """
        if not arrays:
            return None
        if set(arrays) != set(_ARRAYS) or not _fit_together(arrays):
            raise ConfigError("the model's familiarity is damaged; train again", code="model-damaged")
        return cls(**arrays)


def _fit_together(arrays: Mapping[str, npt.NDArray[np.float32]]) -> bool:
    (width, *rest), (rank, *_) = arrays["mean"].shape or (0,), arrays["components"].shape or (0,)
    shapes = ((width,), (rank, width), (rank,), (), (arrays["distances"].size,))
    return (
        not rest
        and all(arrays[name].shape == shape for name, shape in zip(_ARRAYS, shapes, strict=True))
        and all(bool(np.isfinite(array).all()) for array in arrays.values())
        and bool((arrays["explained_variance"] > 0).all() and arrays["noise_variance"] > 0)
        and bool((np.diff(arrays["distances"]) >= 0).all())
    )
