"""Cross-validation on cached features: each labelled image is predicted by a head that was not trained on it.

The backbone runs once on each image; then a head is trained in seconds. (Stone, 1974, "Cross-validatory choice and
assessment of statistical predictions").
"""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.model.heads import Output
from solobox.model.localizer import Localizer, pooled
from solobox.model.losses import BoxLoss, Loss
from solobox.model.presence import temperature
from solobox.model.runtime import Features, fastest
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import RawOutput, in_order, name_of, postprocess
from solobox.training.augment import crop_resize, full_crop
from solobox.training.calibrate import MAX_IMAGES
from solobox.training.distributed import Distributed, launch_fabric, resolve_precision
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.folds import assign_folds
from solobox.training.image_cache import OVERSAMPLING, ImageCache, ImageSource, shrink
from solobox.training.loop import fit
from solobox.training.refined_folds import (
    FirstLooks,
    Looks,
    boxes_and_std,
    refine_folds,
)
from solobox.training.refining import detail_for
from solobox.training.stages import LocalizerHead, head_stage, initial_localizer, presence_stage
from solobox.uncertainty.familiarity import Familiarity
from solobox.utils.atomic import replacing
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.text import CsvLines, printable

Rows = npt.NDArray[np.intp]

_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Predictions for N images by heads that were not trained on them.

    dataset: the images. predictions: one for each, in order; one that could not be read has its `error`.
    fold: (N,), the fold of each, -1 for one that could not be read.
    refined: the localizers of the folds where a second look found better boxes; else empty.
    """

    dataset: Dataset
    predictions: tuple[Prediction, ...]
    fold: npt.NDArray[np.int64]
    validator: "CrossValidator"
    heads: tuple[LocalizerHead, ...]
    refined: tuple[Localizer, ...] = ()

    def predict_pixels(self, row: int, pixels: npt.NDArray[np.uint8]) -> Prediction:
        """The prediction for changed pixels (h, w, 3) of an image, by the head that was not trained on it."""
        if self.fold[row] < 0:
            raise DataError(
                f"{self.dataset.where[row]}: {self.predictions[row].error}", code="image-unreadable"
            )
        name = name_of(self.dataset.images[row])
        if self.refined:
            refined: Localizer = self.refined[self.fold[row]]
            return replace(refined.predict_batch([pixels])[0], image=name)
        side = self.validator.recipe.architecture.side
        cached = shrink(pixels, round(side * OVERSAMPLING))  # resized twice, as the images of cached features
        square = crop_resize(cached, full_crop(*cached.shape[1::-1]), side)[np.newaxis]
        device = self.validator.fabric.device
        maps = [
            feature.float().to(device) for feature in self.validator.backbone(np.ascontiguousarray(square))
        ]
        with torch.inference_mode():
            output = _concatenated([self.heads[self.fold[row]](maps)])
        size = pixels.shape[1], pixels.shape[0]
        return _predictions(*boxes_and_std(output), [name], [size])[0]

    def write(self, path: Path) -> None:
        """A CSV with ``image,group,fold,x1,y1,x2,y2,iou``, a row for each readable image with a box.

        Without boxes that nobody looked at, see `Dataset.is_predicted`.
        """
        with replacing(path) as file:
            writer = CsvLines(file)
            writer.put(["image", "group", "fold", "x1", "y1", "x2", "y2", "iou"])
            for row in np.flatnonzero(self.dataset.has_box & ~self.dataset.is_predicted & (self.fold >= 0)):
                box = self.predictions[row].box
                iou = float(geometry.iou(box, self.dataset.boxes[row]))
                cells = [f"{value:.2f}" for value in box]
                names = printable(self.dataset.names[row]), self.dataset.group[row]
                writer.put([*names, int(self.fold[row]), *cells, f"{iou:.6f}"])


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidator:
    """Cached features of labelled images, on which heads are trained with any of them.

    images: N images, decoded. features: of their crops. untrained: the initial head of every training.
    localizer: whose backbone it is. loss: of boxes. recipe, fabric, progress: for every training.
    folder: for features that do not fit into memory.
    crops: features of crops around the box of each image that has one, where `localizer` has a second look.
    """

    images: ImageSource
    features: FeatureCache
    backbone: Features
    untrained: LocalizerHead
    localizer: Localizer
    recipe: Recipe
    loss: BoxLoss
    fabric: Fabric
    folder: Path
    progress: Progress = field(default_factory=NullProgress)
    crops: FeatureCache | None = None

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        recipe: Recipe,
        *,
        folder: Path,
        min_images: int | None = None,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> "CrossValidator":
        """Compute the features of all images.

        folder: for features that do not fit into memory; they are removed in the end.
        min_images: the fewest images that a head will be trained on: small sets need more crops. Default all.
        skip_bad: leave out images that cannot be read, rather than raise DataError.

        Raises ConfigError ``needs-cached-features`` for a recipe without them.
        """
        progress = progress or NullProgress()
        if recipe.finetune_epochs or recipe.architecture.size == "native":
            raise ConfigError(
                "this trains heads on cached features, which neither fine-tuning nor images of native size have: use "
                "--recipe quick and a number of pixels for --size",
                code="needs-cached-features",
            )
        fabric = launch_fabric(
            recipe.accelerator, resolve_precision(recipe.precision, recipe.accelerator), devices=1, nodes=1
        )
        localizer = initial_localizer(recipe, presence=not dataset.has_box.all())
        localizer.to(fabric.device).eval()
        crops = recipe.crops_per_image(min_images or len(dataset))
        backbone = fastest(
            localizer.backbone, recipe.architecture.size, bf16=recipe.bf16_features(len(dataset) * crops)
        )
        side, budget = recipe.architecture.side, recipe.ram_gb * 1e9
        images = ImageCache(
            dataset, round(side * OVERSAMPLING), network_side=side, keep=False, budget=budget, folder=folder,
            skip_bad=skip_bad, group=Distributed(),
        )  # fmt: skip
        features = cache_features(
            images, backbone, recipe, crops_per_image=crops, budget=budget, folder=folder, progress=progress,
            stage="features",
        ).to_device(fabric.device)  # fmt: skip
        loss = Loss.parse(recipe.loss)
        return cls(
            images, features, backbone, LocalizerHead(localizer), localizer, recipe, loss, fabric, folder, progress
        )  # fmt: skip

    def fit(
        self, images: npt.ArrayLike, name: str = "head", *, seed: int | None = None, effort: float = 1.0
    ) -> LocalizerHead:
        """Train a head on the images of a mask (N,), as `train` would; its last epoch is kept.

        seed: default the recipe's. effort: share of the epochs. Raises DataError ``no-boxes`` where none of them has a
        box and can be read, ValueError for another mask.
        """
        mask = np.asarray(images)
        if mask.dtype != np.bool_ or mask.shape != (len(self.images),):
            raise ValueError(f"a mask has shape ({len(self.images)},), not {mask.dtype} of {mask.shape}")
        mask = mask & self.images.readable
        if not (mask & self.images.dataset.has_box).any():
            raise DataError("none of the images to train on has a box and can be read", code="no-boxes")
        crops = min(self.recipe.crops_per_image(int(mask.sum())), self.features.crops_per_image)
        rows = self.features.rows_of(torch.from_numpy(mask), crops)
        recipe = replace(self.recipe, seed=self.recipe.seed if seed is None else seed)
        head = copy.deepcopy(self.untrained)
        stage = head_stage(head, self.features, recipe, self.loss, fabric=self.fabric, rows=rows, name=name)
        fit(stage.shortened(effort), fabric=self.fabric, progress=self.progress)
        if head.presence is not None:
            stage = presence_stage(
                head.presence, self.features, recipe, fabric=self.fabric, rows=rows, name=f"{name}, presence"
            )
            fit(stage, fabric=self.fabric, progress=self.progress)
        return head.eval()

    def outputs(self, head: LocalizerHead, rows: Sequence[int] | Rows) -> Output:
        """The output of a head for readable images (n), on the CPU."""
        with torch.inference_mode():
            return _concatenated([head(maps) for maps in self._maps(rows)])

    def pooled_features(self, rows: Sequence[int] | Rows) -> Floats:
        """Pooled features (n, D) of readable images; see `Familiarity`."""
        return np.concatenate([pooled(maps) for maps in self._maps(rows)]).astype(np.float64)

    def _maps(self, rows: Sequence[int] | Rows) -> Iterator[list[Tensor]]:
        """The float32 maps of full images, in batches."""
        full = self.features.full_images()
        row_of = dict(zip(self.features.images[full].tolist(), full.tolist(), strict=True))
        chosen = torch.tensor([row_of[int(row)] for row in rows], dtype=torch.int64)
        for batch in torch.split(chosen, _BATCH_SIZE):
            yield [feature.float() for feature in self.features.maps(batch, self.fabric.device)]

    def predict(self, head: LocalizerHead, rows: Sequence[int] | Rows) -> list[Prediction]:
        """The predictions of a head for readable images, in order, without presence and familiarity."""
        return self._predictions(*boxes_and_std(self.outputs(head, rows)), rows)

    def _predictions(self, boxes: Floats, std: Floats, rows: Sequence[int] | Rows) -> list[Prediction]:
        names = [name_of(self.images.dataset.images[row]) for row in rows]
        sizes = self.images.sizes
        return _predictions(boxes, std, names, [sizes[row] for row in rows])

    def out_of_fold(self, folds: int) -> OutOfFold:
        """Train `folds` heads, each without one fold of the images, and predict that fold with it."""
        dataset = self.images.dataset
        fold = np.where(self.images.readable, assign_folds(dataset, folds), -1)
        predictions = [
            Prediction(name_of(image), error=error)
            for image, error in zip(dataset.images, self.images.errors, strict=True)
        ]
        readable = np.flatnonzero(fold >= 0)
        features = dict(zip(readable.tolist(), self.pooled_features(readable), strict=True))
        distances = np.full(len(dataset), np.nan)
        heads, logits = [], torch.zeros(len(dataset))
        first = FirstLooks(fold)
        for number in range(folds):
            rows = np.flatnonzero(fold == number)
            trained = (fold >= 0) & (fold != number)
            heads.append(self.fit(trained, f"fold {number + 1} of {folds}"))
            output = self.outputs(heads[-1], rows) if len(rows) else None
            first.add(self.localizer_of(heads[-1]), trained, output)
            if output is None:
                continue
            others = np.flatnonzero(trained)
            others = others[:: max(len(fold) // MAX_IMAGES, 1)]
            if len(others) > 1:  # a single image has no standard deviation
                held_out = np.stack([features[row] for row in rows.tolist()])
                distances[rows] = Familiarity.fit(
                    np.stack([features[row] for row in others.tolist()]), held_out
                ).distance(held_out)
            if output.presence is not None:
                logits[rows] = output.presence
        second = self.refine(first)
        looks = second or first.looks
        for row, prediction in zip(
            readable, self._predictions(looks.boxes[readable], looks.std[readable], readable), strict=True
        ):
            predictions[row] = prediction
        familiarity = _survival(distances[readable])
        present = dataset.has_box[readable]
        presence = np.full(len(readable), np.nan)
        if (
            self.untrained.presence is not None and not present.all()
        ):  # all images without a box may be unreadable
            chosen = logits[torch.from_numpy(readable)]
            divisor = temperature(chosen, torch.from_numpy(present))
            presence = (chosen / divisor).sigmoid().double().numpy()
        for index, row in enumerate(readable):
            predictions[row] = replace(
                predictions[row], presence=float(presence[index]), familiarity=float(familiarity[index])
            )
        refined = () if second is None else tuple(second.localizers)
        return OutOfFold(dataset, tuple(predictions), fold, self, tuple(heads), refined)

    @property
    def may_refine(self) -> bool:
        """Whether the objects are small enough for a second look, or the recipe wants one."""
        return detail_for(self.localizer, self.recipe, self.images) > 0

    def localizer_of(self, head: LocalizerHead) -> Localizer:
        """A localizer for prediction with this head."""
        localizer = self.localizer.twin()
        for name in ("extra", "vectorizer", "head"):
            localizer.get_submodule(name).load_state_dict(head.get_submodule(name).state_dict())
        localizer.presence = None
        return localizer

    def refine(self, first: FirstLooks) -> Looks | None:
        """Give the localizers of the folds a second look, and predict with it; see `refine_folds`."""
        return refine_folds(
            first, self.images, self.recipe, self.loss,
            budget=max(self.recipe.ram_gb * 1e9 / 2 - self.features.store.nbytes, 0), folder=self.folder,
            fabric=self.fabric, progress=self.progress,
        )  # fmt: skip


def out_of_fold(
    dataset: Dataset,
    recipe: Recipe,
    *,
    folds: int = 5,
    skip_bad: bool = False,
    auto_group: bool = True,
    progress: Progress | None = None,
) -> OutOfFold:
    """Out-of-fold predictions of all images of `dataset`, whatever their split; see `CrossValidator`.

    auto_group: keep copies of an image in one fold, see `Dataset.with_auto_groups`.

    Raises DataError for an image that cannot be read, unless `skip_bad`, and where fewer than `folds` groups of images
    have a box.
    """
    dataset = dataset.with_auto_groups(progress) if auto_group else dataset
    assign_folds(dataset, folds)  # raise before the features are computed
    with tempfile.TemporaryDirectory(prefix="solobox-") as folder:
        min_images = max(len(dataset) * (folds - 1) // folds, 1)
        validator = CrossValidator.from_dataset(
            dataset, recipe, folder=Path(folder), min_images=min_images, skip_bad=skip_bad, progress=progress
        )
        return validator.out_of_fold(folds)


def _predictions(
    boxes: Floats, std: Floats, names: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> list[Prediction]:
    """Predictions of boxes and standard deviations (n, 4) as fractions."""
    unknown = np.full(len(names), np.nan)
    return postprocess(RawOutput(in_order(boxes), std, unknown, unknown), sizes, names)


def _concatenated(outputs: Sequence[Output]) -> Output:
    """Outputs of one head as one, on the CPU."""
    first = outputs[0]
    boxes, logits, presence = (
        torch.cat([getattr(output, name) for output in outputs]).cpu()
        if getattr(first, name) is not None
        else None
        for name in ("boxes", "logits", "presence")
    )
    assert boxes is not None  # noqa: S101
    return Output(boxes, logits, None if first.positions is None else first.positions.cpu(), presence)


def _survival(distances: Floats) -> Floats:
    """For each distance, the share of distances at least as large; NaN stays NaN and is not counted."""
    ordered = np.sort(distances[~np.isnan(distances)])
    at_least = len(ordered) - np.searchsorted(ordered, distances, side="left")
    return np.where(np.isnan(distances), np.nan, at_least / max(len(ordered), 1))
