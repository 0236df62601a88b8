"""Feature maps of every view, computed once by the frozen backbone and kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ImageError
from solobox.model.runtime import Features
from solobox.training.augment import GREY
from solobox.training.distributed import Ranks
from solobox.training.image_cache import Squares, Unreadable, rows_of, with_nan, without
from solobox.training.on_device import has_room, uploaded
from solobox.training.tensor_store import Store
from solobox.training.views import Views, as_predicted, generator, load, views
from solobox.utils.concurrency import processors, threaded_map
from solobox.utils.progress import Progress

_BATCH = 96
"""Views that a thread prepares before it shows them to the backbone: with fewer it waits too often (bench/LOG.md)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Kept feature maps and what they should say.

    store: a row for each view, channels last. index: (n,) the store's rows of the views there are, which are what
    row numbers elsewhere count. targets: (n, 4) float32 in fractions of the view, NaN without the object.
    views_each: of each image, the whole one first. images: (n,) the place of each view's image in what was to be
    kept.
    unreadable: what was wrong with images that were left out.
    resident: the store's tensors on a GPU, where they lie there too; see `near`.
    """

    store: Store
    index: Tensor
    targets: Tensor
    unreadable: tuple[str, ...]
    crops_per_image: int = 1
    resident: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def images(self) -> Tensor:
        """See the class."""
        return self.index // self.crops_per_image

    def wholes(self) -> Tensor:
        """The rows of the views that are whole images."""
        return (self.index % self.crops_per_image == 0).nonzero().flatten()

    def of_images(self, wanted: Tensor) -> Tensor:
        """The rows of all views of some images, which are given as a mask over all that were to be kept."""
        return wanted[self.images].nonzero().flatten()

    def maps(self, rows: Tensor, device: torch.device) -> list[Tensor]:
        """Feature maps (n, C, h, w) on `device`, in memory channels last, of some rows, which the CPU has."""
        if self.resident:
            there = uploaded(rows, device)
            found = [tensor[there] for tensor in self.resident]
        else:
            found = [uploaded(tensor, device) for tensor in self.store.get(self.index[rows])]
        return [tensor.permute(0, 3, 1, 2) for tensor in found]

    def near(self, device: torch.device) -> "Kept":
        """The same, its maps on `device` where that is a GPU with room for them, see `has_room`."""
        return self.moved(device) if has_room(self.store.nbytes, device) else self

    def moved(self, device: torch.device) -> "Kept":
        """The same, its maps on `device`, whatever the room."""
        parts = torch.split(torch.arange(len(self)), _BATCH)
        first = self.store.get(self.index[:1])
        moved = [own.new_empty(len(self), *own.shape[1:], device=device) for own in first]
        for rows in parts:
            for own, new in zip(moved, self.store.get(self.index[rows]), strict=True):
                own[rows[0] : rows[-1] + 1] = uploaded(new, device)
        return replace(self, resident=tuple(moved))


def keep(
    dataset: Dataset,
    backbone: Features,
    recipe: Recipe,
    *,
    crops_per_image: int,
    budget: float,
    folder: Path,
    skip_bad: bool,
    progress: Progress,
    stage: str,
    squares: Squares | None = None,
    ranks: Ranks | None = None,
) -> Kept:
    """Decode each image once, show the backbone `views_each` views of it, and keep its maps in bfloat16.

    dataset: those without a box are without the object. budget, folder: see `Store`.
    squares: the same images where they were decoded already; `dataset` are then `squares.samples`.
    ranks: those of a host divide the images among them and share what is kept.

    Raises DataError for an image that cannot be read, unless `skip_bad`.
    """
    ranks = ranks or Ranks()

    def work(rows: Sequence[int]) -> _Group:
        """Decode some images and show them to the backbone; in a thread, so that both go on at once."""
        shown: dict[int, Views] = {}
        errors: list[tuple[int, ImageError]] = []
        for row in rows:
            try:
                shown[row] = _shown(dataset, row, crops_per_image, recipe, squares)
            except ImageError as error:
                errors.append((row, error))
        if not shown:
            return _Group([], [], np.empty((0, 4)), errors)
        maps = backbone(np.stack([pixels for view in shown.values() for pixels in view.pixels]))
        kept = [feature.permute(0, 2, 3, 1) for feature in maps]
        return _Group(list(shown), kept, np.concatenate([view.targets for view in shown.values()]), errors)

    # Of a small set, less at a time, so that no thread is left without work at the end.
    fair = len(dataset) * crops_per_image // (4 * processors())
    groups = ranks.on_this_host(_grouped(len(dataset), max(1, min(_BATCH, fair) // crops_per_image)))
    progress.start(stage, sum(len(rows) for rows in groups))
    store = Store(
        len(dataset) * crops_per_image, _shapes(backbone, recipe.architecture.side), torch.bfloat16, budget=budget,
        folder=folder, ranks=ranks,
    )  # fmt: skip
    targets = torch.full((len(dataset) * crops_per_image, 4), -torch.inf)
    bad = Unreadable(dataset, ranks, skip_bad=skip_bad)
    with ranks.agreeing():
        for rows, group in zip(groups, threaded_map(work, groups, beside=ranks.local_size), strict=True):
            for row, error in group.errors:
                bad.add(row, error)
            for first, part in group.runs(crops_per_image):
                store.put(first * crops_per_image, [feature[part] for feature in group.maps])
                wanted = without(torch.from_numpy(group.targets[part]).float())
                targets[first * crops_per_image : first * crops_per_image + len(wanted)] = wanted
            progress.advance(len(rows))
    bad.share()
    targets = ranks.greatest(targets)  # of an image that nobody could read they are still minus infinity
    index = rows_of(targets, stage)
    return Kept(store, index, with_nan(targets[index]), tuple(bad.remarks), crops_per_image)


def _shapes(backbone: Features, side: int) -> list[tuple[int, ...]]:
    """Of the maps of one view, channels last: the backbone itself is asked."""
    maps = backbone(np.full((1, 3, side, side), GREY, dtype=np.uint8))
    return [(int(feature.shape[2]), int(feature.shape[3]), int(feature.shape[1])) for feature in maps]


def _shown(dataset: Dataset, row: int, count: int, recipe: Recipe, squares: Squares | None) -> Views:
    """`count` views of one image, a single one to the pixel as prediction sees it."""
    side = recipe.architecture.side
    if count == 1 and squares is None:
        return as_predicted(dataset.images[row], dataset.boxes[row], side)
    rng = generator(recipe.seed, 0, dataset.names[row])
    if squares is not None:
        return views(*squares.image(row), count, side, rng)
    return views(load(dataset.images[row], side), dataset.boxes[row], count, side, rng)


@dataclass(frozen=True, slots=True)
class _Group:
    """The images that could be read, in order; their maps (channels last) and targets (n, 4); and what failed."""

    images: list[int]
    maps: list[Tensor]
    targets: Floats
    errors: list[tuple[int, ImageError]]

    def runs(self, crops_per_image: int) -> Iterator[tuple[int, slice]]:
        """The first of each run of neighbouring images, and which of the maps' rows are the run's."""
        ends = [
            at
            for at in range(1, len(self.images) + 1)
            if at == len(self.images) or self.images[at] != self.images[at - 1] + 1
        ]
        for start, end in pairwise([0, *ends]):
            yield self.images[start], slice(start * crops_per_image, end * crops_per_image)


def _grouped(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
