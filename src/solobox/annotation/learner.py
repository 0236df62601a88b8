"""A model that learns from a few boxes within seconds, again and again, while more are drawn."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solobox.boxes import Floats, iou
from solobox.config.architecture import Architecture
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss
from solobox.model.refiner import Refiner
from solobox.model.runtime import Features, Pixels
from solobox.model.saving import FORMAT
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import in_order
from solobox.training.distributed import Distributed, launch_fabric, resolve_precision
from solobox.training.feature_cache import FeatureCache, cache_features
from solobox.training.image_cache import OVERSAMPLING, ImageCache
from solobox.training.loop import fit
from solobox.training.refining import (
    AUTO_REFINEMENTS,
    Errors,
    crop_features,
    crop_source,
    detail_of,
    new_refiner,
    refine_stage,
)
from solobox.training.stages import LocalizerHead, Stage, head_stage, initial_localizer
from solobox.training.tensor_store import TensorStore
from solobox.uncertainty.conformal import Calibration, scales
from solobox.utils.progress import NullProgress

_FOLDS = 3
_MANY, _CROPS, _CROPS_OF_MANY = 40, 8, 3
"""Crops of each image, up to so many boxes and beyond: memory and time are for about 1,000."""

_STEPS = 40
"""Steps of training, about: more gain little, and a person waits (bench/LOG.md)."""

_QUICK = {"batch": 8}
"""Options of the recipe: half the batch of the second look, in half the time, finds large objects as well, and small
ones well enough to look at them again (bench/LOG.md)."""

_REFINE_BATCH = 16
"""Of the second look, whose boxes are what a person sees."""

_MIN_REFINED = 10
"""Labels before there is a second look: a first one that is often lost leads it astray."""

_ERRORS = Errors(np.full(4, 0.3))
"""Of a first look that learned from a few small objects (bench/LOG.md)."""

Labels = Mapping[str, tuple[ImageInput, Sequence[float]]]


@dataclass(frozen=True, slots=True)
class _Crops:
    """Feature maps (k, h, w, C) in bfloat16 of the crops of one image, and the box in each (k, 4) as fractions.

    box: in pixels, as it was drawn. size: width and height of the image in pixels. image: where it is.
    """

    image: ImageInput
    box: tuple[float, ...]
    size: tuple[int, int]
    maps: list[Tensor]
    boxes: Tensor


@dataclass(frozen=True, slots=True)
class _Examples:
    """What a model is trained on, by the names of the images.

    first: crops for the first look, of which crop 0 is the image. second: crops around the box for the second look,
    cut from images of this `detail` (see `Architecture`); none, and 0, without a second look.
    """

    first: dict[str, _Crops]
    second: dict[str, _Crops]
    detail: int

    def without(self, names: set[str]) -> "_Examples":
        """Without some images."""
        first, second = (
            {name: crops for name, crops in each.items() if name not in names}
            for each in (self.first, self.second)
        )
        return _Examples(first, second, self.detail)


@dataclass(frozen=True, slots=True)
class _Backbone:
    """The network that predicts, for features that are kept: another one would be compiled for seconds."""

    localizer: Localizer
    name: str = "of the localizer"

    def __call__(self, pixels: Pixels) -> list[Tensor]:
        """See `model.runtime.Features`; maps in bfloat16."""
        return [feature.to(torch.bfloat16) for feature in self.localizer.maps(pixels)]


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """What models that did not learn from n images say of these.

    true, predicted, std: (n, 4) float64, as fractions of the image's sides. refined: whether `predicted` is what the
    second look says: where objects are large, or it found worse boxes than the first one, it is what the first says.
    """

    true: Floats
    predicted: Floats
    std: Floats
    refined: bool = False

    def calibration(self) -> Calibration:
        """The quantiles of margins."""
        return Calibration.fit(self.true, self.predicted, scales(self.predicted, self.std), size=(1, 1))


class Learner:
    """A localizer, trained anew each time, with a second look where the objects are small and it helps.

    recipe: how to train; its `refine` is whether there may be a second look.

    localizer: the present model; another one takes its place when it has learned.

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
        self._untrained = initial_localizer(self.recipe, presence=False).eval()
        self._untrained.backbone.requires_grad_(False)
        self._backbone: Features = _Backbone(self._untrained)
        self.localizer = self._untrained
        self._examples = _Examples({}, {}, 0)
        self._helps = True  # the second look, until it is measured

    def compile(self) -> None:
        """Prepare the network, which the first use would otherwise do."""
        self._untrained.compile_backbone()

    def predict(self, image: ImageInput) -> Prediction:
        """The box that the present model finds, with margins if it is calibrated."""
        return self.localizer.predict_batch([image])[0]

    def state(self) -> dict[str, Any]:
        """The present model as tensors and plain values, for `load_state`; not the backbone, which never learns."""
        model = self.localizer
        return {
            "made_by": self._settings(),
            "head": dict(LocalizerHead(model).state_dict()),
            "refiner": dict(model.refiner.state_dict()) if model.refiner is not None else {},
            "refinements": model.architecture.refinements,
            "detail": model.architecture.detail,
            "calibration": model.calibration.to_dict() if model.calibration else None,
            "helps": self._helps,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with the model that `state` gave.

        Raises ConfigError ``model-outdated`` for one of another backbone or other options, and whatever a state of
        something else makes it raise; then the present model stays.
        """
        if state["made_by"] != self._settings():
            raise ConfigError("it is of another backbone or of other options", code="model-outdated")
        model = self._untrained.twin()
        LocalizerHead(model).load_state_dict(state["head"])
        if state["refiner"]:
            model.architecture = replace(model.architecture, refinements=1, detail=state["detail"])
            refiner = Refiner(model.backbone.channels, model.architecture).eval()
            refiner.load_state_dict(state["refiner"])
            model.set_refiner(refiner, state["refinements"])
            model.compile_backbone()
        calibration = state["calibration"]
        model.calibration = Calibration.from_dict(calibration) if calibration else None
        self.localizer, self._helps = model, state["helps"]

    def _settings(self) -> dict[str, Any]:
        """What a model must have been made by to be of use here."""
        return {"format": FORMAT, "recipe": self.recipe.to_dict(), "backbone": self._backbone_digest}

    @cached_property
    def _backbone_digest(self) -> str:
        """Of the weights, which never learn."""
        digest = blake2b(digest_size=16)
        for name, tensor in self._untrained.backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def prepare(self, labels: Labels, *, of: int) -> None:
        """Compute what `learn` needs of these labels, so that it takes less time. of: how many it will get."""
        self._cache(labels, of)

    def learn(self, labels: Labels) -> int:
        """Train on all labels; the new model replaces the present one at the end.

        labels: by name, an image and its box ``x1, y1, x2, y2`` in pixels. Images that cannot be read are left out.
        Gives the number of boxes that were learned from. Raises DataError, ``no-images``, for none.
        """
        self._cache(labels, len(labels))
        examples = self._examples
        if not examples.first:
            raise DataError("none of the labelled images can be read", code="no-images")
        model = self._trained(examples, refined=self._helps)
        before = self.localizer
        if model.architecture.refinements == before.architecture.refinements:
            model.calibration = before.calibration  # until it is measured itself
        self.localizer = model
        return len(examples.first)

    def cross_fit(self, measured: Sequence[str]) -> Generator[None, None, CrossFit]:
        """Predict some of the images that `learn` last saw by models that learned from the others of them.

        Where objects are small, the better of the two looks at these images is what it gives, and what is used from
        `calibrate` on. Chosen by the images that it is measured by, it seems a little better than it is: less than the
        interval's width.

        measured: names; those whose images cannot be read are left out. It yields after each model, so that other work
        goes between; what is learned meanwhile changes nothing. Raises ValueError for no image.
        """
        examples = self._examples
        crops = examples.first
        measured = [name for name in measured if name in crops]
        first: dict[str, tuple[Floats, Floats]] = {}
        second: dict[str, tuple[Floats, Floats]] = {}
        for fold in range(_FOLDS):
            held_out = set(measured[fold::_FOLDS])
            rest = examples.without(held_out)
            if held_out and rest.first:
                model = self._trained(
                    rest, refined=True
                )  # also where it did not help: perhaps it does by now
                first |= {name: _first_look(model, crops[name]) for name in held_out}
                if model.refiner is not None:
                    second |= {name: _both_looks(model, crops[name].image) for name in held_out}
                yield
        known = [name for name in measured if name in first]
        if not known:
            raise ValueError("no image to measure with")
        true = np.stack([crops[name].boxes[0].double().numpy() for name in known])

        def crossfit(found: Mapping[str, tuple[Floats, Floats]], *, refined: bool) -> CrossFit:
            boxes, std = (np.stack([found[name][index] for name in known]) for index in (0, 1))
            return CrossFit(true, in_order(boxes).clip(0, 1), std, refined)

        once = crossfit(first, refined=False)
        if second.keys() != first.keys():
            return once
        twice = crossfit(second, refined=True)
        gain = np.asarray(iou(twice.predicted, true)) - np.asarray(iou(once.predicted, true))
        return twice if float(gain.mean()) > 0 else once

    def calibrate(self, crossfit: CrossFit) -> None:
        """Give predictions the margins that these errors allow, and no second look if it did not help."""
        self._helps = crossfit.refined or not self._examples.detail
        model = self.localizer
        if not crossfit.refined and model.refiner is not None:
            model = model.twin()
            model.refiner, model.architecture = None, self._untrained.architecture
        if crossfit.refined == (model.refiner is not None):
            model.calibration = crossfit.calibration()
        self.localizer = model

    def _cache(self, labels: Labels, total: int) -> None:
        """Compute the crops of what is new, and forget what is gone. total: labels that there will be."""
        old = self._examples
        count = _CROPS if total <= _MANY else _CROPS_OF_MANY
        first = self._updated(old.first, labels, lambda dataset: self._first_crops(dataset, count), count)
        detail = 0
        if len(first) >= _MIN_REFINED:
            boxes = np.stack([crops.boxes[0].double().numpy() for crops in first.values()])
            sizes = np.array([crops.size for crops in first.values()])
            detail = detail_of(self.recipe.architecture, self.recipe, boxes, sizes)
        closer: dict[str, _Crops] = {}
        if detail:
            architecture = replace(self._untrained.architecture, refinements=1, detail=detail)
            closer = self._updated(
                old.second if detail == old.detail else {}, {name: labels[name] for name in first},
                lambda dataset: self._second_crops(dataset, architecture, count), count,
            )  # fmt: skip
        self._examples = _Examples(
            first, closer, detail
        )  # a cross-fit goes on with the one that it began with

    def _updated(
        self,
        old: Mapping[str, _Crops],
        labels: Labels,
        compute: Callable[[Dataset], tuple[ImageCache, FeatureCache]],
        count: int,
    ) -> dict[str, _Crops]:
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
            kept[new[row]] = _Crops(
                image,
                tuple(box),
                images.sizes[row],
                features.store.get(rows),
                features.boxes[features.images == row],
            )
        return {name: kept[name] for name in labels if name in kept}

    def _first_crops(self, dataset: Dataset, count: int) -> tuple[ImageCache, FeatureCache]:
        side = self.recipe.architecture.side
        images = ImageCache(
            dataset, round(side * OVERSAMPLING), network_side=side, keep=False, budget=0, folder=Path(),
            skip_bad=True, group=Distributed(self._fabric),
        )  # fmt: skip
        return images, cache_features(
            images, self._backbone, self.recipe, crops_per_image=count, budget=np.inf, folder=Path(),
            progress=NullProgress(), stage="features",
        )  # fmt: skip

    def _second_crops(
        self, dataset: Dataset, architecture: Architecture, count: int
    ) -> tuple[ImageCache, FeatureCache]:
        images = crop_source(dataset, architecture, Distributed(self._fabric), Path())
        return images, crop_features(
            images, self._backbone, architecture, self.recipe, _ERRORS, crops_per_image=count, budget=np.inf,
            folder=Path(), progress=NullProgress(),
        )  # fmt: skip

    def _trained(self, examples: _Examples, *, refined: bool) -> Localizer:
        """A model that learned from these images. refined: with a second look, if there are crops for it."""
        model, loss = self._untrained.twin(), Loss.parse(self.recipe.loss)
        head = LocalizerHead(model)
        self._fit(head_stage(head, self._features(examples.first), self.recipe, loss, fabric=self._fabric))
        head.to("cpu")
        if refined and len(examples.second) >= _MIN_REFINED:
            model.architecture = replace(model.architecture, refinements=1, detail=examples.detail)
            refiner = new_refiner(model)
            recipe = replace(self.recipe, batch=_REFINE_BATCH)
            self._fit(refine_stage(refiner, self._features(examples.second), recipe, loss, self._fabric))
            model.set_refiner(refiner.to("cpu").eval(), AUTO_REFINEMENTS)
            model.compile_backbone()
        return model

    def _fit(self, stage: Stage) -> None:
        epochs = -(-_STEPS // stage.steps_per_epoch)
        fit(replace(stage, epochs=epochs), fabric=self._fabric, progress=NullProgress())

    def _features(self, images: Mapping[str, _Crops]) -> FeatureCache:
        count = _CROPS if len(images) <= _MANY else _CROPS_OF_MANY
        count = min(count, *(len(each.boxes) for each in images.values()))
        shapes = [tuple(each.shape[1:]) for each in next(iter(images.values())).maps]
        store = TensorStore(count * len(images), shapes, torch.bfloat16, budget=np.inf, folder=Path())
        for index, image in enumerate(images.values()):
            store.put(index * count, [each[:count] for each in image.maps])
        boxes = torch.cat([image.boxes[:count] for image in images.values()])
        return FeatureCache(store, torch.arange(len(boxes)), boxes, count).to_device(self._fabric.device)


@torch.inference_mode()
def _first_look(model: Localizer, image: _Crops) -> tuple[Floats, Floats]:
    """Box and standard deviations (4,) as fractions."""
    output = model.decide([each[:1].permute(0, 3, 1, 2).float() for each in image.maps])
    return output.boxes[0].double().numpy(), output.std()[0].double().numpy()


def _both_looks(model: Localizer, image: ImageInput) -> tuple[Floats, Floats]:
    """The same, after the second look."""
    found = model.infer(model.preprocess(image).pixels[np.newaxis])
    return found.boxes[0], found.std[0]
