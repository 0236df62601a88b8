"""A model that learns from a few boxes within seconds, again and again, while more are drawn."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solobox.annotation.examples import MIN_REFINED, Crops, ExampleMaker, Examples, Labels
from solobox.boxes import Floats, iou
from solobox.config.recipe import Recipe
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss
from solobox.model.refiner import Refiner
from solobox.model.runtime import Features, Pixels
from solobox.model.saving import FORMAT
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import in_order
from solobox.training.distributed import launch_fabric, resolve_precision
from solobox.training.loop import fit
from solobox.training.refining import new_refiner, refine_stage, refinements_of
from solobox.training.stages import LocalizerHead, Stage, head_stage, initial_localizer
from solobox.uncertainty.conformal import Calibration, scales
from solobox.utils.progress import NullProgress

_FOLDS = 3
_STEPS = 40
"""Steps of training, about: more gain little, and a person waits (bench/LOG.md)."""

_QUICK = {"batch": 8}
"""Options of the recipe: half the batch of the second look, in half the time, finds large objects as well, and small
ones well enough to look at them again (bench/LOG.md)."""

_REFINE_BATCH = 16
"""Of the second look, whose boxes are what a person sees."""


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
        self._maker = ExampleMaker(self._backbone, self.recipe, self._fabric)
        self._examples = Examples({}, {}, 0)
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
        self._examples = self._maker.updated(self._examples, labels, of)

    def learn(self, labels: Labels) -> int:
        """Train on all labels; the new model replaces the present one at the end.

        labels: by name, an image and its box ``x1, y1, x2, y2`` in pixels. Images that cannot be read are left out.
        Gives the number of boxes that were learned from. Raises DataError, ``no-images``, for none.
        """
        self.prepare(labels, of=len(labels))
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

    def _trained(self, examples: Examples, *, refined: bool) -> Localizer:
        """A model that learned from these images. refined: with a second look, if there are crops for it."""
        model, loss = self._untrained.twin(), Loss.parse(self.recipe.loss)
        head = LocalizerHead(model)
        self._fit(
            head_stage(head, self._maker.features(examples.first), self.recipe, loss, fabric=self._fabric)
        )
        head.to("cpu")
        if refined and len(examples.second) >= MIN_REFINED:
            model.architecture = replace(model.architecture, refinements=1, detail=examples.detail)
            refiner = new_refiner(model)
            recipe = replace(self.recipe, batch=_REFINE_BATCH)
            self._fit(
                refine_stage(refiner, self._maker.features(examples.second), recipe, loss, self._fabric)
            )
            model.set_refiner(refiner.to("cpu").eval(), refinements_of(self.recipe))
            model.compile_backbone()
        return model

    def _fit(self, stage: Stage) -> None:
        epochs = -(-_STEPS // stage.steps_per_epoch)
        fit(replace(stage, epochs=epochs), fabric=self._fabric, progress=NullProgress())


@torch.inference_mode()
def _first_look(model: Localizer, image: Crops) -> tuple[Floats, Floats]:
    """Box and standard deviations (4,) as fractions."""
    output = model.decide([each[:1].permute(0, 3, 1, 2).float() for each in image.maps])
    return output.boxes[0].double().numpy(), output.std()[0].double().numpy()


def _both_looks(model: Localizer, image: ImageInput) -> tuple[Floats, Floats]:
    """The same, after the second look."""
    found = model.infer(model.preprocess(image).pixels[np.newaxis])
    return found.boxes[0], found.std[0]
