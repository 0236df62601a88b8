"""Familiarity: how similar an image is to the training images, as a p-value. It detects out-of-distribution images.

The pooled backbone features of the training images are modelled by a Gaussian with a low-rank covariance
(probabilistic PCA: Tipping & Bishop, 1999). The score of an image is its squared Mahalanobis distance from the mean
(Lee et al., 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks").
Familiarity is the conformal p-value of that score against images that the Gaussian was not fitted to: for an image of
the same distribution it is at most p with a probability of at most p. These are the validation images and the training
images, cross-fitted: each has its distance from a Gaussian that was fitted without it (an approximation of the
jackknife+ of Barber, Candes, Ramdas & Tibshirani, 2021, since a new image has its distance from the Gaussian of all;
that fits a little better, so p-values are a little too large). With n of them the smallest value is 1 / (n + 1):
held-out images alone are often too few for 0.01.

A set of images as a whole is compared by the one-sided two-sample Kolmogorov-Smirnov test (Smirnov, 1939; Hodges, 1958,
"The significance probability of the Smirnov two-sample test"), which knows that all values come from the same n images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.errors import ConfigError

MAX_COMPONENTS = 64
"""Principal components, at most; and no more than a quarter of the number of images."""

FOLDS = 10
"""Folds of cross-fitting, at most; a group of images is in one of them."""

RELATIVE_TOLERANCE = 1e-4
"""Relative rounding error of a distance, in another batch or by another runtime."""

_ARRAYS = ("mean", "components", "explained_variance", "noise_variance", "distances")
_GROUPS = "groups"
"""The array of `Familiarity.n_groups`; models of earlier versions have none."""


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """A Gaussian fitted to the features of training images. All arrays are float32.

    mean: (D,). components: (k, D), orthonormal rows. explained_variance: (k,), along each component. noise_variance:
    (), along every other direction. distances: (m,), squared distances of images that it, or the Gaussian of their
    fold, was not fitted to, ascending.

    n_groups: groups of the m images, an image by itself counts as one.
    """

    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    explained_variance: npt.NDArray[np.float32]
    noise_variance: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]
    n_groups: int

    @classmethod
    def fit(
        cls,
        training: npt.ArrayLike,
        held_out: npt.ArrayLike,
        groups: Sequence[str] | None = None,
        *,
        held_out_groups: Sequence[str] | None = None,
    ) -> "Familiarity":
        """Fit to pooled features of training images (n, D), n >= 2, and of held-out images (m, D), m >= 1.

        groups: the group of each training image, ``""`` for an image by itself: their distances are cross-fitted, and
            join those of the held-out images. Only for features that were not learned from them. None: they do not.
        held_out_groups: those of the held-out images. None: each is one by itself.
        """
        features = np.asarray(training, dtype=np.float64)
        fitted = cls._gaussian(features, len(features))
        distances = [fitted.distance(held_out)]
        names = list(held_out_groups or [""] * len(distances[0]))
        if groups is not None:
            crossed = cls._cross_fitted(features, groups)
            distances.append(crossed)
            names += groups if len(crossed) else []
        return replace(
            fitted,
            distances=np.sort(np.concatenate(distances)).astype(np.float32),
            n_groups=len({name or row for row, name in enumerate(names)}),
        )

    @classmethod
    def _cross_fitted(cls, features: Floats, groups: Sequence[str]) -> Floats:
        """The distance of each training image from the Gaussian of the other folds; none where these are too few."""
        keys = {group: index for index, group in enumerate(dict.fromkeys(groups)) if group}
        unit = np.array([keys.get(group, len(keys) + row) for row, group in enumerate(groups)])
        _, unit = np.unique(unit, return_inverse=True)
        fold = np.random.default_rng(0).permutation(int(unit.max()) + 1)[unit] % FOLDS
        distances = []
        for number in np.unique(fold):
            others = features[fold != number]
            if len(others) > 1:
                gaussian = cls._gaussian(others, len(features))
                distances.append(gaussian.distance(features[fold == number]))
        return np.concatenate(distances) if distances else np.zeros(0)

    @classmethod
    def _gaussian(cls, features: Floats, total: int) -> "Familiarity":
        """The Gaussian of features (n, D), with as many components as for `total` images."""
        count, width = features.shape
        mean = features.mean(axis=0)
        centered = features - mean
        rank = min(MAX_COMPONENTS, total // 4, width - 1)
        values, vectors = np.linalg.eigh(centered.T @ centered / (count - 1))
        values = np.maximum(values[::-1], 0)
        noise = max(float(values[rank:].sum()) / (width - rank), 1e-6 * float(values.mean()), 1e-12)
        return cls(
            mean=mean.astype(np.float32),
            components=np.ascontiguousarray(vectors[:, ::-1][:, :rank].T, dtype=np.float32),
            explained_variance=np.maximum(values[:rank], noise).astype(np.float32),
            noise_variance=np.array(noise, dtype=np.float32),
            distances=np.zeros(0, np.float32),
            n_groups=0,
        )

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
        return {name: getattr(self, name) for name in _ARRAYS} | {
            _GROUPS: np.array(self.n_groups, np.float32)
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float32]]) -> "Familiarity | None":
        """The inverse of `arrays`; None without arrays.

        Raises ConfigError ``model-damaged`` where some are missing or do not fit together.
        """
        if not arrays:
            return None
        groups = arrays.get(_GROUPS, np.array(arrays["distances"].size if "distances" in arrays else 0))
        arrays = {name: array for name, array in arrays.items() if name != _GROUPS}
        if (
            set(arrays) != set(_ARRAYS)
            or not _fit_together(arrays)
            or not _counts(groups, arrays["distances"])
        ):
            raise ConfigError("the model's familiarity is damaged; train again", code="model-damaged")
        return cls(**arrays, n_groups=int(groups))


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


def _counts(groups: npt.NDArray[np.float32], distances: npt.NDArray[np.float32]) -> bool:
    return groups.shape == () and bool(min(1, distances.size) <= groups <= max(1, distances.size))


def shift_p_value(familiarity: npt.ArrayLike, n_reference: int, *, n_groups: int | None = None) -> float:
    """The p-value of the hypothesis that a set of images comes from the distribution of the training images.

    Small if low familiarities are more frequent than among images of the same distribution; see the module for the
    test. It is that of large samples.

    familiarity: (N,), N >= 1, without NaN. n_reference: the images that they were made from, or groups of them,
        as of the N images (`Familiarity.n_groups`).
    n_groups: groups of the N images, where images of one group resemble each other: they count as that many.
    """
    values = np.sort(np.asarray(familiarity, dtype=np.float64))
    count = len(values)
    largest = max(float((np.arange(1, count + 1) / count - values).max()), 0.0)
    effective = min(n_groups or count, count)
    return math.exp(-2 * largest**2 * effective * n_reference / (effective + n_reference))
