"""The stage of the second look: whether it is worthwhile, its crops, and its training. See `model.refiner`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.boxes import Floats
from solobox.config.architecture import MAX_DETAIL, MAX_SIDE
from solobox.config.recipe import Recipe
from solobox.images.reading import to_square
from solobox.model.localizer import Localizer
from solobox.model.losses import BoxLoss, Loss, box_iou
from solobox.model.refiner import (
    Refiner,
    crop_side,
    crop_squares,
    regions_around,
    to_crop,
    worthwhile,
)
from solobox.model.runtime import Features
from solobox.model.threads import single_threaded_map
from solobox.training.augment import CropBatch, Pixels, color_jitter
from solobox.training.calibrate import input_squares
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.image_cache import ImageCache, ImageSource
from solobox.training.stages import LocalizerHead, Stage, feature_ious, head_stage
from solobox.training.tensor_store import TensorStore
from solobox.utils.progress import Progress

AUTO_REFINEMENTS = 2
"""How often `auto` refines a box: the second time, around a better box, gains a little more (bench/LOG.md)."""

STAGE = "refine"
"""Its name in the history and in checkpoints."""

_MAX_HELD_OUT = 512
"""Validation images, at most, whose errors are measured and that choose the epoch."""

_MIN_NEEDED = 1.1
"""Detail beyond that of the first look below which there is nothing more to see."""

_MIN_MEASURED = 8
"""Fewer errors say little about their size."""

_MIN_ERROR, _DEFAULT_ERROR, _MAX_ERROR = 0.05, 0.1, 0.3
"""Standard deviations of the first look's errors: see `Errors`."""

_CLIP = 0.9
_BATCH_SIZE = 32
_IMAGES_AT_ONCE = 8
"""Validation images that a thread holds, in full detail."""

_SIGMA = 0.006
"""`Loss.sigma` of the stage: half of the first look's, since the place is known here, and the edges matter."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far the first look is off.

    scale: standard deviations (4,) of the centre x and y, in sides of the box, and of the logarithms of width and
    height; robust ones, from the median absolute error.
    """

    scale: Floats

    @classmethod
    def of(cls, predicted: Floats, true: Floats) -> "Errors":
        """Measure predicted boxes against true ones, both (n, 4) in one unit."""
        if len(true) < _MIN_MEASURED:
            return cls(np.full(4, _DEFAULT_ERROR))
        sides = true[:, 2:] - true[:, :2]
        middle = ((predicted[:, :2] + predicted[:, 2:]) - (true[:, :2] + true[:, 2:])) / 2 / sides
        size = np.log(np.maximum((predicted[:, 2:] - predicted[:, :2]) / sides, 0.1))
        # 1.4826 MAD is the standard deviation of a normal distribution
        scale = 1.4826 * np.median(np.abs(np.concatenate([middle, size], axis=1)), axis=0)
        return cls(np.clip(scale, _MIN_ERROR, _MAX_ERROR))

    def jitter(self, box: Floats, count: int, rng: np.random.Generator) -> Floats:
        """Boxes (count, 4) as a first look might find `box` (4,): a heavy tail, as its errors have."""
        error = np.clip(rng.standard_t(4, (count, 4)) * self.scale, -_CLIP, _CLIP)
        sides = box[2:] - box[:2]
        middle = (box[:2] + box[2:]) / 2 + error[:, :2] * sides
        half = sides * np.exp(error[:, 2:]) / 2
        return np.concatenate([middle - half, middle + half], axis=1)


def detail_for(localizer: Localizer, recipe: Recipe, images: ImageSource) -> int:
    """The `Architecture.detail` for the second look at such objects; 0 where a first look is enough.

    It is where most crops would show no more than the image at the network's size does, either because the objects
    are large or because the images are small.
    """
    a = localizer.architecture
    rows = images.rows[images.dataset.has_box[images.rows]]
    if recipe.refine == "off" or not a.can_refine or not len(rows):
        return 0
    regions = regions_around(torch.from_numpy(images.boxes(rows)))
    shares = (regions[:, 2:] - regions[:, :2]).median(dim=0).values.numpy()
    native = np.median([images.sizes[row] for row in rows.tolist()], axis=0)
    needed = float((np.minimum(crop_side(a) / shares, native) / a.side).max())
    is_small = bool(worthwhile(regions, torch.zeros_like(regions), a).double().mean() > 0.5)
    if recipe.refine == "auto" and (not is_small or needed < _MIN_NEEDED):
        return 0
    least = 1 if needed < _MIN_NEEDED else 2
    return min(max(round(needed), least), MAX_DETAIL, MAX_SIDE // a.side)


@dataclass(frozen=True, slots=True)
class SecondLook:
    """What the stage trains on.

    refiner: with the first head's weights. features: of crops of the training images. held_out: of one crop of each
        validation image with a box, around what the first look finds there. first: IoU (n,) of the first look on these.
    chosen: (n,) bool, whether prediction would refine them.
    """

    refiner: Refiner
    features: FeatureCache
    held_out: FeatureCache
    first: Tensor
    chosen: Tensor

    def stage(self, recipe: Recipe, loss: BoxLoss, fabric: Fabric) -> Stage:
        """The stage that trains `refiner`; its scores are those of the refined validation images."""
        size = replace(recipe.architecture, size=self.refiner.side)
        if isinstance(loss, Loss):
            loss = replace(loss, sigma=_SIGMA)
        stage = head_stage(
            LocalizerHead(self.refiner), self.features, replace(recipe, architecture=size), loss, fabric=fabric,
            validation=self.held_out, name=STAGE,
        )  # fmt: skip
        return replace(stage, validate=lambda module: self._ious(module, fabric))

    def gain(self, fabric: Fabric) -> tuple[float, float]:
        """How much higher the mean IoU of the validation images is by the trained refiner, and its standard error."""
        gain = self._ious(LocalizerHead(self.refiner), fabric) - self.first
        error = float(gain.std()) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        return float(gain.mean()), error

    def _ious(self, module: nn.Module, fabric: Fabric) -> Tensor:
        """IoU (n,) of the validation images after prediction's choice."""
        return torch.where(self.chosen, feature_ious(module, self.held_out, fabric), self.first)


def prepare(
    localizer: Localizer,
    detail: int,
    training: ImageSource,
    validation: ImageSource,
    recipe: Recipe,
    make_backbone: Callable[[int], Features],
    *,
    budget: float,
    folder: Path,
    progress: Progress,
) -> SecondLook:
    """Give the localizer's architecture this `detail`, and compute what its refiner is trained on."""
    localizer.architecture = replace(localizer.architecture, refinements=1, detail=detail)
    a = localizer.architecture
    refiner = Refiner(localizer.backbone.channels, a)
    refiner.vectorizer.load_state_dict(localizer.vectorizer.state_dict())
    refiner.head.load_state_dict(localizer.head.state_dict())
    backbone = make_backbone(refiner.side)
    looks = _first_looks(localizer, validation, refiner.side, progress)
    regions, true = regions_around(looks.places), torch.from_numpy(looks.true)
    held_out = _features(looks.crops, to_crop(true, regions), backbone)
    errors = Errors.of(looks.places.numpy(), looks.true)
    images = ImageCache(
        training.dataset.positives(), a.input_side, network_side=a.side, keep=False, budget=0, folder=folder,
        skip_bad=True, group=training.group,
    )  # fmt: skip
    count = recipe.crops_per_image(len(training))

    def augmented(pixels: Pixels, box: Floats, rng: np.random.Generator) -> CropBatch:
        square = to_square(pixels, a.input_side)
        around = regions_around(torch.from_numpy(errors.jitter(box, count, rng)))
        return _augmented(square, box, around, refiner.side, rng)

    features = cache_features(
        images, backbone, replace(recipe, seed=recipe.seed + 2), crops_per_image=count, budget=budget, folder=folder,
        progress=progress, stage="crops", side=refiner.side, crops=augmented,
    )  # fmt: skip
    iou = box_iou(looks.boxes.clamp(0, 1), true).float()
    return SecondLook(refiner, features, held_out, iou, worthwhile(regions, looks.std, a))


def _augmented(
    square: Pixels, box: Floats, regions: Tensor, side: int, rng: np.random.Generator
) -> CropBatch:
    planes = torch.from_numpy(square).permute(2, 0, 1).float().unsqueeze(0)
    pixels, boxes = [], to_crop(torch.from_numpy(box).expand(len(regions), 4), regions).numpy().copy()
    for index, region in enumerate(regions.float()):
        crop = crop_squares(planes, region.unsqueeze(0), side)[0].to(torch.uint8).numpy()
        crop = color_jitter(rng, crop) if index else crop
        if rng.random() < 0.5:
            crop, boxes[index, [0, 2]] = crop[..., ::-1], 1 - boxes[index, [2, 0]]
        pixels.append(np.ascontiguousarray(crop))
    return CropBatch(pixels, boxes)


class _FirstLooks(NamedTuple):
    """Validation images with a box.

    true: their boxes; boxes, std: of the first look; places: to look at again; each (n, 4) float64 as fractions.
    crops: around these places, (n, 3, side, side).
    """

    true: Floats
    boxes: Tensor
    std: Tensor
    places: Tensor
    crops: Pixels


def _first_looks(localizer: Localizer, validation: ImageSource, side: int, progress: Progress) -> _FirstLooks:
    rows = validation.rows[validation.dataset.has_box[validation.rows]]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_HELD_OUT)).round().astype(int))]
    progress.start("first looks", len(rows))
    localizer.compile_backbone()

    def look(chosen: npt.NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor, Pixels]:
        squares = input_squares(validation, chosen, localizer)
        found = localizer.locate_fast(squares, first_look=True)
        planes = torch.from_numpy(squares).permute(0, 3, 1, 2).float()
        place = found.places[0].cpu()
        crops = crop_squares(planes, regions_around(place), side)
        boxes, std = found.boxes.cpu().double(), found.std.cpu().double()
        return boxes, std, place.double(), crops.to(torch.uint8).numpy()

    parts = []
    batches = [rows[start : start + _IMAGES_AT_ONCE] for start in range(0, len(rows), _IMAGES_AT_ONCE)]
    for part in single_threaded_map(look, batches):
        parts.append(part)
        progress.advance(len(part[0]))
    boxes, std, places, crops = zip(*parts, strict=True)
    return _FirstLooks(
        validation.boxes(rows), torch.cat(boxes), torch.cat(std), torch.cat(places), np.concatenate(crops)
    )


def _features(crops: Pixels, boxes: Tensor, backbone: Features) -> FeatureCache:
    chunks = [backbone(crops[start : start + _BATCH_SIZE]) for start in range(0, len(crops), _BATCH_SIZE)]
    maps = [
        torch.cat([chunk[index] for chunk in chunks]).permute(0, 2, 3, 1) for index in range(len(chunks[0]))
    ]
    shapes = [tuple(each.shape[1:]) for each in maps]
    store = TensorStore(len(crops), shapes, torch.bfloat16, budget=np.inf, folder=Path())
    store.put(0, maps)
    return FeatureCache(store, torch.arange(len(crops)), boxes.float(), 1)
