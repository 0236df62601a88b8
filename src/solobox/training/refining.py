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
from solobox.config.architecture import MAX_DETAIL, MAX_SIDE, Architecture
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
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
from solobox.training.calibrate import IMAGES_AT_ONCE, input_squares
from solobox.training.distributed import Distributed
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.image_cache import ImageCache, ImageSource
from solobox.training.stages import LocalizerHead, Stage, feature_ious, head_stage
from solobox.training.tensor_store import TensorStore
from solobox.utils.progress import Progress
from solobox.utils.sampling import evenly_spaced

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
    """`detail_of` the images with a box."""
    rows = images.rows[images.dataset.has_box[images.rows]]
    if not len(rows):
        return 0
    sizes = np.array([images.sizes[row] for row in rows.tolist()])
    return detail_of(localizer.architecture, recipe, images.boxes(rows), sizes)


def detail_of(architecture: Architecture, recipe: Recipe, boxes: Floats, sizes: npt.NDArray[np.intp]) -> int:
    """The `Architecture.detail` for the second look at such objects; 0 where a first look is enough.

    It is where most crops would show no more than the image at the network's size does, either because the objects
    are large or because the images are small.

    boxes: (n, 4) ``x1, y1, x2, y2`` as fractions. sizes: (n, 2), width and height of the images in pixels.
    """
    a = architecture
    if recipe.refine == "off" or not a.can_refine:
        return 0
    regions = regions_around(torch.from_numpy(boxes))
    shares = (regions[:, 2:] - regions[:, :2]).median(dim=0).values.numpy()
    native = np.median(sizes, axis=0)
    needed = float((np.minimum(crop_side(a) / shares, native) / a.side).max())
    is_small = bool(worthwhile(regions, torch.zeros_like(regions), a).double().mean() > 0.5)
    if recipe.refine == "auto" and (not is_small or needed < _MIN_NEEDED):
        return 0
    least = 1 if needed < _MIN_NEEDED else 2
    return min(max(round(needed), least), MAX_DETAIL, MAX_SIDE // a.side)


class Gain(NamedTuple):
    """How much higher the mean IoU is by the second look. error: its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, second: npt.ArrayLike, first: npt.ArrayLike) -> "Gain":
        """From the IoU of n images by the second look and by the first, (n,) each."""
        gain = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
        error = float(gain.std(ddof=1)) / len(gain) ** 0.5 if len(gain) > 1 else 0.0
        return cls(float(gain.mean()), error)

    def is_enough(self, recipe: Recipe) -> bool:
        """Whether a model by this recipe keeps its second look."""
        return recipe.refine != "auto" or self.mean > self.error


def refinements_of(recipe: Recipe) -> int:
    """How often a second look refines a box; see `Recipe.refine`."""
    return AUTO_REFINEMENTS if recipe.refine == "auto" else int(recipe.refine)


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
        stage = refine_stage(self.refiner, self.features, recipe, loss, fabric, validation=self.held_out)
        return replace(stage, validate=lambda module: self._ious(module, fabric))

    def gain(self, fabric: Fabric) -> "Gain":
        """What the trained refiner gains on the validation images."""
        return Gain.of(self._ious(LocalizerHead(self.refiner), fabric).numpy(), self.first.numpy())

    def _ious(self, module: nn.Module, fabric: Fabric) -> Tensor:
        """IoU (n,) of the validation images after prediction's choice."""
        return torch.where(self.chosen, feature_ious(module, self.held_out, fabric), self.first)


def refine_stage(
    refiner: Refiner,
    features: FeatureCache,
    recipe: Recipe,
    loss: BoxLoss,
    fabric: Fabric,
    *,
    validation: FeatureCache | None = None,
    rows: Tensor | None = None,
    name: str = STAGE,
) -> Stage:
    """The stage that trains a refiner on features of crops, see `crop_features`.

    validation, rows, name: as in `head_stage`.
    """
    size = replace(recipe.architecture, size=refiner.side)
    if isinstance(loss, Loss):
        loss = replace(loss, sigma=_SIGMA)
    return head_stage(
        LocalizerHead(refiner), features, replace(recipe, architecture=size), loss, fabric=fabric,
        validation=validation, rows=rows, name=name,
    )  # fmt: skip


def new_refiner(localizer: Localizer) -> Refiner:
    """A refiner with the weights of the localizer's head, to be trained."""
    refiner = Refiner(localizer.backbone.channels, localizer.architecture)
    refiner.vectorizer.load_state_dict(localizer.vectorizer.state_dict())
    refiner.head.load_state_dict(localizer.head.state_dict())
    return refiner


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
    refiner = new_refiner(localizer)
    backbone = make_backbone(refiner.side)
    looks = _first_looks(localizer, validation, refiner.side, progress)
    regions, true = regions_around(looks.places), torch.from_numpy(looks.true)
    held_out = _features(looks.crops, to_crop(true, regions), backbone)
    errors = Errors.of(looks.places.numpy(), looks.true)
    images = crop_source(training.dataset.positives(), a, training.group, folder)
    features = crop_features(
        images, backbone, a, recipe, errors, crops_per_image=recipe.crops_per_image(len(training)), budget=budget,
        folder=folder, progress=progress,
    )  # fmt: skip
    iou = box_iou(looks.boxes.clamp(0, 1), true).float()
    return SecondLook(refiner, features, held_out, iou, worthwhile(regions, looks.std, a))


def crop_source(dataset: Dataset, architecture: Architecture, group: Distributed, folder: Path) -> ImageCache:
    """Images to make `crop_features` of, in the detail that crops are cut from; those that cannot be read left out."""
    a = architecture
    return ImageCache(
        dataset,
        a.input_side,
        network_side=a.side,
        keep=False,
        budget=0,
        folder=folder,
        skip_bad=True,
        group=group,
    )


def crop_features(
    images: ImageCache,
    backbone: Features,
    architecture: Architecture,
    recipe: Recipe,
    errors: Errors,
    *,
    crops_per_image: int,
    budget: float,
    folder: Path,
    progress: Progress,
) -> FeatureCache:
    """Features of crops around each image's box, moved as a first look with such errors would find it.

    images: see `crop_source`. backbone: for squares of `crop_side`. architecture: with the detail of the second look.
    """
    side = crop_side(architecture)

    def augmented(pixels: Pixels, box: Floats, rng: np.random.Generator) -> CropBatch:
        square = to_square(pixels, architecture.input_side)
        around = regions_around(torch.from_numpy(errors.jitter(box, crops_per_image, rng)))
        return _augmented(square, box, around, side, rng)

    return cache_features(
        images, backbone, replace(recipe, seed=recipe.seed + 2), crops_per_image=crops_per_image, budget=budget,
        folder=folder, progress=progress, stage="crops", side=side, crops=augmented,
    )  # fmt: skip


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
    rows = rows[evenly_spaced(len(rows), _MAX_HELD_OUT)]
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
    batches = [rows[start : start + IMAGES_AT_ONCE] for start in range(0, len(rows), IMAGES_AT_ONCE)]
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
