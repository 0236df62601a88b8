"""Folds of cross-validation."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from solobox.data.dataset import Dataset
from solobox.data.splits import ranked
from solobox.errors import ConfigError, DataError


def assign_folds(dataset: Dataset, folds: int) -> npt.NDArray[np.int64]:
    """The fold of each of N images, (N,): whole groups, about equal in size, by a hash of their names.

    Raises ConfigError ``out-of-range`` for fewer than two folds, DataError ``too-few-groups`` where fewer groups than
    folds have a box.
    """
    if folds < 2:
        raise ConfigError(f"folds must be 2 or more, not {folds}", code="out-of-range")
    groups = groups_of(dataset)
    with_box = Counter(group for group, box in zip(groups, dataset.has_box.tolist(), strict=True) if box)
    if len(with_box) < folds:
        raise DataError(
            f"{len(with_box)} images with a box (a group counts as one) are too few for {folds} folds: use fewer folds",
            code="too-few-groups",
        )
    fold_of: dict[str, int] = {}
    for counts in (with_box, Counter(group for group in groups if group not in with_box)):
        filled = [0] * folds
        # The largest first: small groups then even out the sizes.
        for group in sorted(ranked(counts, "fold"), key=lambda group: -counts[group]):
            fold_of[group] = filled.index(min(filled))
            filled[fold_of[group]] += counts[group]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def groups_of(dataset: Dataset) -> list[str]:
    """A key for each of N images: its group, or its name if it has none."""
    # Prefixes, since an image may have the name of a group.
    return [
        f"g{group}" if group else f"n{name}" for group, name in zip(dataset.group, dataset.names, strict=True)
    ]
