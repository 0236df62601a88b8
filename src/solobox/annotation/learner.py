"""A model that learns from a few boxes within seconds, again and again, while more are drawn."""

import copy
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.model.losses import Loss
from solobox.model.runtime import Features, fastest
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import in_order
from solobox.training.distributed import Distributed, launch_fabric, resolve_precision
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.image_cache import OVERSAMPLING, ImageCache
from solobox.training.loop import fit
from solobox.training.stages import LocalizerHead, head_stage, initial_localizer
from solobox.training.tensor_store import TensorStore
from solobox.uncertainty.conformal import Calibration, scales
from solobox.utils.progress import NullProgress

_FOLDS = 3
_MANY, _CROPS, _CROPS_OF_MANY = 100, 8, 3
"""Crops of each image, up to so many boxes and beyond: memory and time are for about 1,000."""

_STEPS = 40
"""Steps of training, about: more gain little, and a person waits (bench/LOG.md)."""

_QUICK = {"batch": 16, "refine": "off"}
"""Options of the recipe."""


@dataclass(frozen=True, slots=True)
class _Crops:
    """Feature maps (k, h, w, C) in bfloat16 of the crops of one image, and the box in each (k, 4) as fractions.

    box: in pixels, as it was drawn.
    """

    box: tuple[float, ...]
    maps: list[Tensor]
    boxes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """What models that did not learn from n images say of these.

    true, predicted, std: (n, 4) float64, as fractions of the image's sides.
    """

    true: Floats
    predicted: Floats
    std: Floats

    def calibration(self) -> Calibration:
        """The quantiles of margins."""
        return Calibration.fit(self.true, self.predicted, scales(self.predicted, self.std))


class Learner:
    """The first look of a localizer, trained anew each time.

    recipe: how to train; a second look is left to the final model.

    `predict` may be called by any thread, the others by one at a time. Only features of images with a box are kept.
    """

    def __init__(self, recipe: Recipe | None = None) -> None:
        self.recipe = recipe or Recipe.from_preset("quick", _QUICK)
        if self.recipe.architecture.size == "native":
            raise ConfigError(
                "images of native size cannot be learned from in seconds", code="options-conflict"
            )
        self._fabric = launch_fabric(
            self.recipe.accelerator, resolve_precision(self.recipe.precision, self.recipe.accelerator),
            devices=0, nodes=0,
        )  # fmt: skip
        self.localizer = initial_localizer(self.recipe, presence=False).eval()
        self.localizer.backbone.requires_grad_(False)
        self._untrained = copy.deepcopy(LocalizerHead(self.localizer))
        self._backbone: Features | None = None
        self._crops: dict[str, _Crops] = {}
        self._swap = threading.Lock()

    def compile(self) -> None:
        """Prepare the networks, which the first use would otherwise do."""
        self._runtime()
        self.localizer.compile_backbone()

    def predict(self, image: ImageInput) -> Prediction:
        """The box that the present model finds, with margins if it is calibrated."""
        with self._swap:
            return self.localizer.predict_batch([image])[0]

    def learn(self, labels: Mapping[str, tuple[ImageInput, Sequence[float]]]) -> int:
        """Train on all labels; the new model replaces the present one at the end.

        labels: by name, an image and its box ``x1, y1, x2, y2`` in pixels. Images that cannot be read are left out.
        Gives the number of boxes that were learned from. Raises DataError, ``no-images``, for none.
        """
        self._cache(labels)
        names = [name for name in labels if name in self._crops]
        if not names:
            raise DataError("none of the labelled images can be read", code="no-images")
        head = self._trained([self._crops[name] for name in names])
        with self._swap:
            LocalizerHead(self.localizer).load_state_dict(head.state_dict())
        return len(names)

    def cross_fit(self, measured: Sequence[str]) -> Generator[None, None, CrossFit]:
        """Predict some of the images that `learn` last saw by models that learned from the others of them.

        measured: names; those whose images cannot be read are left out. It yields after each model, so that other work
        goes between; what is learned meanwhile changes nothing. Raises ValueError for no image.
        """
        crops = self._crops
        measured = [name for name in measured if name in crops]
        found: dict[str, tuple[Floats, Floats]] = {}
        for fold in range(_FOLDS):
            held_out = set(measured[fold::_FOLDS])
            rest = [each for name, each in crops.items() if name not in held_out]
            if held_out and rest:
                head = self._trained(rest)
                found |= {name: _full_image(head, crops[name]) for name in held_out}
                yield
        known = [name for name in measured if name in found]
        if not known:
            raise ValueError("no image to measure with")
        true = np.stack([crops[name].boxes[0].double().numpy() for name in known])
        boxes, std = (np.stack([found[name][index] for name in known]) for index in (0, 1))
        return CrossFit(true, in_order(boxes).clip(0, 1), std)

    def calibrate(self, crossfit: CrossFit) -> None:
        """Give predictions the margins that these errors allow."""
        calibration = crossfit.calibration()
        with self._swap:
            self.localizer.calibration = calibration

    def _runtime(self) -> Features:
        if self._backbone is None:
            size = self.recipe.architecture.size
            self._backbone = fastest(self.localizer.backbone, size, bf16=False)
        return self._backbone

    def _cache(self, labels: Mapping[str, tuple[ImageInput, Sequence[float]]]) -> None:
        """Compute the crops of what is new, and forget what is gone."""
        self._crops = {  # another object: a cross-fit goes on with the one it began with
            name: crops
            for name, crops in self._crops.items()
            if name in labels and crops.box == tuple(labels[name][1])
        }
        new = [name for name in labels if name not in self._crops]
        if not new:
            return
        crops = _CROPS if len(labels) <= _MANY else _CROPS_OF_MANY
        boxes = np.array([labels[name][1] for name in new], dtype=np.float64)
        dataset = Dataset([labels[name][0] for name in new], boxes, names=new)
        side = self.recipe.architecture.side
        images = ImageCache(
            dataset, round(side * OVERSAMPLING), network_side=side, keep=False, budget=0, folder=Path(),
            skip_bad=True, group=Distributed(self._fabric),
        )  # fmt: skip
        try:
            features = cache_features(
                images, self._runtime(), self.recipe, crops_per_image=crops, budget=np.inf, folder=Path(),
                progress=NullProgress(), stage="features",
            )  # fmt: skip
        except DataError as error:
            if error.code != "no-images":
                raise
            return
        for row in images.rows.tolist():
            rows = torch.arange(row * crops, (row + 1) * crops)
            chosen = features.images == row
            self._crops[new[row]] = _Crops(
                tuple(labels[new[row]][1]), features.store.get(rows), features.boxes[chosen]
            )

    def _trained(self, images: Sequence[_Crops]) -> LocalizerHead:
        """A head that learned from these images."""
        head = copy.deepcopy(self._untrained)
        features = self._features(images)
        stage = head_stage(head, features, self.recipe, Loss.parse(self.recipe.loss), fabric=self._fabric)
        epochs = -(-_STEPS // stage.steps_per_epoch)
        fit(replace(stage, epochs=epochs), fabric=self._fabric, progress=NullProgress())
        return head.to("cpu").eval()

    def _features(self, images: Sequence[_Crops]) -> FeatureCache:
        count = _CROPS if len(images) <= _MANY else _CROPS_OF_MANY
        count = min(count, *(len(each.boxes) for each in images))
        store = TensorStore(
            count * len(images), [tuple(each.shape[1:]) for each in images[0].maps], torch.bfloat16, budget=np.inf,
            folder=Path(),
        )  # fmt: skip
        for index, image in enumerate(images):
            store.put(index * count, [each[:count] for each in image.maps])
        boxes = torch.cat([image.boxes[:count] for image in images])
        return FeatureCache(store, torch.arange(len(boxes)), boxes, count).to_device(self._fabric.device)


@torch.inference_mode()
def _full_image(head: LocalizerHead, image: _Crops) -> tuple[Floats, Floats]:
    """Box and standard deviations (4,) as fractions."""
    output = head([each[:1].permute(0, 3, 1, 2).float() for each in image.maps])
    return output.boxes[0].double().numpy(), output.std()[0].double().numpy()
