"""Some of many, without chance."""

import numpy as np
import numpy.typing as npt


def evenly_spaced(count: int, most: int) -> npt.NDArray[np.intp]:
    """Indices of at most `most` of `count` things, the first and the last among them, in ascending order."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))
