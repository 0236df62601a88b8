"""Feature maps of every view, computed once by the frozen trunk and kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.errors import DataError, PictureError
from solobox.localizer.runtime import Features
from solobox.samples import Samples
from solobox.training.progress import Progress
from solobox.training.recipe import Recipe
from solobox.training.store import Store
from solobox.training.views import Views, generator, in_threads, load, views

_BATCH = 16
"""Views in a pass of the trunk: past 8 the rate is flat, and smaller batches stay in the cache."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept feature maps and what they should say.

    store: a row for each view, channels last. targets: (rows, 4) float32 in fractions of the view.
    unreadable: what was wrong with pictures that were left out.
    seconds: spent in the trunk alone.
    """

    store: Store
    targets: Tensor
    unreadable: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def maps(self, rows: Tensor) -> list[Tensor]:
        """Feature maps (n, C, h, w), in memory channels last, of some rows."""
        return [tensor.permute(0, 3, 1, 2) for tensor in self.store.get(rows)]


def keep(
    samples: Samples,
    trunk: Features,
    recipe: Recipe,
    *,
    views_each: int,
    budget: float,
    folder: Path,
    skip_bad: bool,
    progress: Progress,
    stage: str,
) -> Kept:
    """Decode each picture once, show the trunk `views_each` views of it, and keep its maps in bfloat16.

    samples: all with a box. budget, folder: see `Store`.

    Raises DataError for a picture that cannot be read, unless `skip_bad`.
    """
    side = recipe.architecture.size

    def work(index: int) -> Views:
        rng = generator(recipe.seed, 0, samples.names[index])
        picture = load(samples.images[index], side)
        return views(picture, samples.boxes[index], views_each, side, rng)

    progress.start(stage, len(samples))
    store: Store | None = None
    targets: list[np.ndarray] = []
    unreadable: list[str] = []
    filled = 0
    for pixels, wanted in _batches(
        in_threads(work, range(len(samples))), samples, unreadable, skip_bad, progress.advance
    ):
        maps = [feature.permute(0, 2, 3, 1) for feature in trunk(pixels)]
        if store is None:
            shapes = [tuple(feature.shape[1:]) for feature in maps]
            store = Store(len(samples) * views_each, shapes, torch.bfloat16, budget=budget, folder=folder)
        store.put(filled, maps)
        filled += len(pixels)
        targets.append(wanted)
    if store is None:
        raise DataError("none of the pictures to train on can be read; `solobox check` lists what is wrong")
    return Kept(store, torch.from_numpy(np.concatenate(targets)).float(), tuple(unreadable))


def _batches(
    arriving: Iterator[Views | PictureError],
    samples: Samples,
    unreadable: list[str],
    skip_bad: bool,  # noqa: FBT001
    advance: Callable[[], None],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Views regrouped into batches of `_BATCH`, the last one smaller."""
    pixels: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for index, item in enumerate(arriving):
        advance()
        if isinstance(item, PictureError):
            if not skip_bad:
                raise DataError(
                    f"{samples.where[index]}: {item} Mend it, or leave such pictures out with --skip-bad."
                ) from item
            unreadable.append(str(item))
            continue
        pixels.extend(item.pixels)
        targets.extend(item.targets)
        while len(pixels) >= _BATCH:
            yield np.stack(pixels[:_BATCH]), np.stack(targets[:_BATCH])
            del pixels[:_BATCH], targets[:_BATCH]
    if pixels:
        yield np.stack(pixels), np.stack(targets)
