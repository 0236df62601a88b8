"""Kept features of the labelled images, from which a model is trained in seconds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from solobox.config.architecture import Architecture
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import DataError
from solobox.images.reading import ImageInput
from solobox.model.runtime import Features
from solobox.training.distributed import Distributed
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.image_cache import OVERSAMPLING, ImageCache
from solobox.training.refining import Errors, crop_features, crop_source, detail_of
from solobox.training.tensor_store import TensorStore
from solobox.utils.progress import NullProgress

_MANY, _CROPS, _CROPS_OF_MANY = 40, 8, 3
"""Crops of each image, up to so many boxes and beyond: memory and time are for about 1,000."""

MIN_REFINED = 10
"""Labels before there is a second look: a first one that is often lost leads it astray."""

_ERRORS = Errors(np.full(4, 0.3))
"""Of a first look that learned from a few small objects (bench/LOG.md)."""

Labels: TypeAlias = Mapping[str, tuple[ImageInput, Sequence[float]]]
"""By name, an image and its box ``x1, y1, x2, y2`` in pixels."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Feature maps (k, h, w, C) in bfloat16 of the crops of one image, and the box in each (k, 4) as fractions.

    box: in pixels, as it was drawn. size: width and height of the image in pixels. image: where it is.
    """

    image: ImageInput
    box: tuple[float, ...]
    size: tuple[int, int]
    maps: list[Tensor]
    boxes: Tensor


@dataclass(frozen=True, slots=True)
class Examples:
    """What a model is trained on, by the names of the images.

    first: crops for the first look, of which crop 0 is the image. second: crops around the box for the second look,
    cut from images of this `detail` (see `Architecture`); none, and 0, without a second look.
    """

    first: dict[str, Crops]
    second: dict[str, Crops]
    detail: int

    def without(self, names: set[str]) -> "Examples":
        """Without some images."""
        first, second = (
            {name: crops for name, crops in each.items() if name not in names}
            for each in (self.first, self.second)
        )
        return Examples(first, second, self.detail)


@dataclass(frozen=True, slots=True)
class ExampleMaker:
    """Computes examples with a backbone. recipe, fabric: of the trainings."""

    backbone: Features
    recipe: Recipe
    fabric: Fabric

    def updated(self, old: Examples, labels: Labels, total: int) -> Examples:
        """The examples of all labels: only the crops of what is new are computed. `old` stays as it is.

        total: labels that there will be. Images that cannot be read are left out.
        """
        count = _crops_of_each(total)
        first = _updated(old.first, labels, lambda dataset: self._first_crops(dataset, count), count)
        detail = 0
        if len(first) >= MIN_REFINED:
            boxes = np.stack([crops.boxes[0].double().numpy() for crops in first.values()])
            sizes = np.array([crops.size for crops in first.values()])
            detail = detail_of(self.recipe.architecture, self.recipe, boxes, sizes)
        second: dict[str, Crops] = {}
        if detail:
            architecture = replace(self.recipe.architecture, refinements=1, detail=detail)
            second = _updated(
                old.second if detail == old.detail else {}, {name: labels[name] for name in first},
                lambda dataset: self._second_crops(dataset, architecture, count), count,
            )  # fmt: skip
        return Examples(first, second, detail)

    def features(self, images: Mapping[str, Crops]) -> FeatureCache:
        """What a stage trains on."""
        count = min(_crops_of_each(len(images)), *(len(each.boxes) for each in images.values()))
        shapes = [tuple(each.shape[1:]) for each in next(iter(images.values())).maps]
        store = TensorStore(count * len(images), shapes, torch.bfloat16, budget=np.inf, folder=Path())
        for index, image in enumerate(images.values()):
            store.put(index * count, [each[:count] for each in image.maps])
        boxes = torch.cat([image.boxes[:count] for image in images.values()])
        return FeatureCache(store, torch.arange(len(boxes)), boxes, count).to_device(self.fabric.device)

    def _first_crops(self, dataset: Dataset, count: int) -> tuple[ImageCache, FeatureCache]:
        side = self.recipe.architecture.side
        images = ImageCache(
            dataset, round(side * OVERSAMPLING), network_side=side, keep=False, budget=0, folder=Path(),
            skip_bad=True, group=Distributed(self.fabric),
        )  # fmt: skip
        return images, cache_features(
            images, self.backbone, self.recipe, crops_per_image=count, budget=np.inf, folder=Path(),
            progress=NullProgress(), stage="features",
        )  # fmt: skip

    def _second_crops(
        self, dataset: Dataset, architecture: Architecture, count: int
    ) -> tuple[ImageCache, FeatureCache]:
        images = crop_source(dataset, architecture, Distributed(self.fabric), Path())
        return images, crop_features(
            images, self.backbone, architecture, self.recipe, _ERRORS, crops_per_image=count, budget=np.inf,
            folder=Path(), progress=NullProgress(),
        )  # fmt: skip


def _crops_of_each(images: int) -> int:
    return _CROPS if images <= _MANY else _CROPS_OF_MANY


def _updated(
    old: Mapping[str, Crops],
    labels: Labels,
    compute: Callable[[Dataset], tuple[ImageCache, FeatureCache]],
    count: int,
) -> dict[str, Crops]:
    """The crops of all labels. compute: `count` of them for each image of a dataset."""
    kept = {
        name: crops for name, crops in old.items()
        if name in labels and crops.box == tuple(labels[name][1])
    }  # fmt: skip
    new = [name for name in labels if name not in kept]
    if not new:
        return kept
    boxes = np.array([labels[name][1] for name in new], dtype=np.float64)
    try:
        images, features = compute(Dataset([labels[name][0] for name in new], boxes, names=new))
    except DataError as error:
        if error.code != "no-images":
            raise
        return kept
    for row in images.rows.tolist():
        rows = torch.arange(row * count, (row + 1) * count)
        image, box = labels[new[row]]
        kept[new[row]] = Crops(
            image,
            tuple(box),
            images.sizes[row],
            features.store.get(rows),
            features.boxes[features.images == row],
        )
    return {name: kept[name] for name in labels if name in kept}
