"""Feature maps of every crop, computed once by the frozen backbone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.model.runtime import Features
from solobox.model.threads import single_threaded_map
from solobox.training.augment import GREY, CropBatch, Pixels, augment, image_rng
from solobox.training.image_cache import ImageSource
from solobox.training.tensor_store import TensorStore
from solobox.utils.concurrency import processors
from solobox.utils.progress import Progress

_BATCH_SIZE = 96
"""Crops that a thread prepares for one call of the backbone; fewer are slower (bench/LOG.md)."""

_GPU_SHARE = 0.25
"""Share of a GPU's free memory for cached features; the rest is for the network and its gradients."""


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Feature maps and boxes of M crops of N images.

    store: the maps in bfloat16, channels last; crop k of image i is row ``i * crops_per_image + k``, and crop 0 is the
        full image.
    index: (M,) the rows of the store in use; the methods' rows index this.
    boxes: (M, 4) float32 ``x1, y1, x2, y2`` as fractions of the crop's sides, NaN without the object.
    gpu: the maps on a GPU, see `to_device`; empty if they are not there.
    """

    store: TensorStore
    index: Tensor
    boxes: Tensor
    crops_per_image: int
    gpu: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def images(self) -> Tensor:
        """(M,) the image of each crop."""
        return self.index // self.crops_per_image

    @property
    def has_box(self) -> Tensor:
        """(M,) bool, whether the object is in the crop."""
        return torch.isfinite(self.boxes).all(dim=1)

    def full_images(self) -> Tensor:
        """The rows of the crops that are full images."""
        return (self.index % self.crops_per_image == 0).nonzero().flatten()

    def rows_of(self, images: Tensor, crops: int | None = None) -> Tensor:
        """The rows of all crops, or of the first `crops`, of the images in a mask (N,)."""
        chosen = images[self.images] & (self.index % self.crops_per_image < (crops or self.crops_per_image))
        return chosen.nonzero().flatten()

    def maps(self, rows: Tensor, device: torch.device) -> list[Tensor]:
        """Feature maps (n, C, h, w) of some rows on `device`, channels last. rows: (n,) on the CPU."""
        if self.gpu:
            index = upload(rows, device)
            maps = [tensor[index] for tensor in self.gpu]
        else:
            maps = [upload(tensor, device) for tensor in self.store.get(self.index[rows])]
        return [tensor.permute(0, 3, 1, 2) for tensor in maps]

    def to_device(self, device: torch.device) -> "FeatureCache":
        """A copy with the maps on `device` if that is a GPU with enough free memory."""
        if device.type != "cuda" or self.store.nbytes > _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        chunks = [
            [upload(tensor, device) for tensor in self.store.get(rows)]
            for rows in torch.split(self.index, _BATCH_SIZE)
        ]
        return replace(self, gpu=tuple(torch.cat(maps) for maps in zip(*chunks, strict=True)))


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to `device`; to a GPU asynchronously."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def cache_features(
    images: ImageSource,
    backbone: Features,
    recipe: Recipe,
    *,
    crops_per_image: int,
    budget: float,
    folder: Path,
    progress: Progress,
    stage: str,
    side: int = 0,
    crops: Callable[[Pixels, Floats, np.random.Generator], CropBatch] | None = None,
) -> FeatureCache:
    """Run the backbone on `crops_per_image` crops of each image, the first of them the full image.

    Images that are not decoded yet are decoded in the same threads. The processes of a host share the work.

    side, crops: of the squares that the backbone sees, and how they are made from an image, its box (4,) as
        fractions and its generator; by default `augment` to the side of the recipe.
    budget, folder: see `TensorStore`. Raises DataError as `ImageSource.pixels`.
    """
    group, side = images.group, side or recipe.architecture.side
    augmented = crops or _augmented(crops_per_image, side)

    def compute(rows: Iterable[int]) -> _Chunk:
        chunk = _Chunk()
        squares = []
        for row in rows:
            pixels = images.pixels(row)
            if pixels is None:
                continue
            rng = image_rng(recipe.seed, 0, images.dataset.names[row])
            batch = augmented(pixels, images.box(row), rng)
            squares += batch.pixels
            chunk.rows.append(row)
            chunk.boxes.append(batch.boxes)
        if squares:
            chunk.maps = [feature.permute(0, 2, 3, 1) for feature in backbone(np.stack(squares))]
        return chunk

    # Smaller chunks for few images, so that all threads stay busy to the end.
    balanced = len(images) * crops_per_image // (4 * processors())
    size = max(1, min(_BATCH_SIZE, balanced) // crops_per_image)
    chunks = group.local_share(
        [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    )
    progress.start(stage, sum(len(rows) for rows in chunks))
    store = TensorStore(
        len(images) * crops_per_image, _shapes(backbone, side), torch.bfloat16, budget=budget, folder=folder,
        group=group,
    )  # fmt: skip
    boxes: dict[int, Floats] = {}
    with group.raise_together():
        for rows, chunk in zip(
            chunks, single_threaded_map(compute, chunks, processes=group.local_size), strict=True
        ):
            for row, maps in chunk.each(crops_per_image):
                store.put(row * crops_per_image, maps)
            boxes |= zip(chunk.rows, chunk.boxes, strict=True)
            progress.advance(len(rows))
    images.share(stage)
    for boxes_of_rank in group.all_gather(dict(boxes)):
        boxes |= boxes_of_rank
    index = (
        torch.from_numpy(images.rows)[:, None] * crops_per_image + torch.arange(crops_per_image)
    ).flatten()
    table = np.concatenate([boxes[row] for row in images.rows.tolist()])
    return FeatureCache(store, index, torch.from_numpy(table).float(), crops_per_image)


def _augmented(count: int, side: int) -> Callable[[Pixels, Floats, np.random.Generator], CropBatch]:
    return lambda pixels, box, rng: augment(pixels, box, count, side, rng)


def _shapes(backbone: Features, side: int) -> list[tuple[int, ...]]:
    """Shapes of the maps of one crop, channels last, measured on the backbone itself."""
    maps = backbone(np.full((1, 3, side, side), GREY, dtype=np.uint8))
    return [(int(feature.shape[2]), int(feature.shape[3]), int(feature.shape[1])) for feature in maps]


@dataclass(slots=True)
class _Chunk:
    """The images of one task of a thread: their rows, boxes (crops, 4) and maps, channels last."""

    rows: list[int] = field(default_factory=list)
    boxes: list[Floats] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)

    def each(self, crops_per_image: int) -> Iterator[tuple[int, list[Tensor]]]:
        """Each image's row and its maps (crops, h, w, C)."""
        for index, row in enumerate(self.rows):
            start = index * crops_per_image
            yield row, [feature[start : start + crops_per_image] for feature in self.maps]
