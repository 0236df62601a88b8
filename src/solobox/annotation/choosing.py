"""Which image to ask about next: the one that stands for most others that no answered image stands for yet.

MaxHerding (Bae, Noh & Sutherland, 2024, "Generalized Coverage for More Robust Low-Budget Active Learning") and,
weighted by how uncertain the model is of each, UHerding (Bae, Oh, Kwon & Sutherland, 2025, "Uncertainty Herding").
"""

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]

_QUANTILE = 0.05
"""Of the distances between images: about as far as one image stands for others."""


class Coverage:
    """How well the answered images stand for a sample of all.

    embeddings: (N, D), one row for each image of the sample, finite.

    Similarity is a Gaussian kernel of the distance between standardized embeddings. An image stands for another as
    far as they are similar; an image is covered as far as the most similar answered image stands for it.
    """

    def __init__(self, embeddings: npt.NDArray[np.floating]) -> None:
        centred = np.asarray(embeddings, dtype=np.float32) - embeddings.mean(axis=0, dtype=np.float32)
        unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        squared = np.maximum(2 - 2 * unit @ unit.T, 0)
        width = float(np.quantile(squared, _QUANTILE)) or 1.0
        self._similarity: Floats32 = np.exp(-squared / width).astype(np.float32)
        self.covered: Floats32 = np.zeros(len(unit), dtype=np.float32)

    def add(self, row: int) -> None:
        """Count an image as answered."""
        np.maximum(self.covered, self._similarity[row], out=self.covered)

    def best(self, allowed: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating] | None = None) -> int:
        """The row (of those allowed, of which there is one) whose answer would cover most more.

        weights: (N,) how much each image counts, at least 0; by default all the same.
        """
        rows = np.flatnonzero(allowed)
        gain = np.maximum(self._similarity[rows] - self.covered, 0)
        return int(rows[np.argmax(gain @ (np.ones_like(self.covered) if weights is None else weights))])
