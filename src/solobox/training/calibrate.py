"""Calibration of a trained localizer: margins, the temperature of presence, and familiarity.

Margins come from the validation images, which also chose the epoch. That costs them little coverage
(`bench/margins.py --only pipeline` measures it); a third split would cost small data sets more. A few validation images
are not enough for margins, whatever the method: with 40, those at 0.9 hold with a probability of 0.81 in one run of
twenty. So errors on the training images are added, each by a head that did not see it (`cross_conformal.held_out`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor

from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.model.localizer import Localizer, Located, pooled
from solobox.model.presence import Presence, temperature
from solobox.model.threads import single_threaded_map
from solobox.predict.predictor import in_order
from solobox.training.augment import Pixels
from solobox.training.feature_cache import FeatureCache
from solobox.training.folds import assign_folds, groups_of
from solobox.training.image_cache import ImageSource
from solobox.training.loop import fit
from solobox.training.stages import presence_stage
from solobox.uncertainty.conformal import Calibration, scales
from solobox.uncertainty.familiarity import Familiarity
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import Progress
from solobox.utils.sampling import evenly_spaced

_BATCH_SIZE = 64
IMAGES_AT_ONCE = 8
"""Images that a thread holds, in full detail."""

MAX_IMAGES = 2048
"""The most training images for the statistics of familiarity, evenly spaced."""


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Full images with their boxes.

    boxes: (n, 4) float32 ``x1, y1, x2, y2`` as fractions, NaN for an image without the object. groups: n names.
    locate: what the localizer computes for rows of them, with float32 maps on the CPU.
    batch_size: the most rows at once.
    """

    boxes: Tensor
    groups: Sequence[str]
    locate: Callable[[Tensor], Located]
    batch_size: int = 32


def from_features(features: FeatureCache, images: ImageSource, localizer: Localizer) -> CalibrationImages:
    """The full images of a feature cache, by the first look; their maps are in bfloat16."""
    full, cpu = features.full_images(), torch.device("cpu")

    def locate(rows: Tensor) -> Located:
        maps = [feature.float().cpu() for feature in features.maps(full[rows], cpu)]
        output = localizer.decide(maps)
        return Located(output.boxes, output.std(), (), output.presence, maps)

    groups = [images.dataset.group[row] for row in features.images[full].tolist()]
    return CalibrationImages(features.boxes[full], groups, locate)


def from_images(
    images: ImageSource, localizer: Localizer, rows: npt.NDArray[np.intp] | None = None
) -> CalibrationImages:
    """Images as prediction sees them, and all that the localizer then computes.

    rows: of readable images; all of those by default.
    """
    rows = images.rows if rows is None else rows
    localizer.compile_backbone()

    def locate(chosen: Tensor) -> Located:
        pixels = input_squares(images, rows[chosen.numpy()], localizer)
        return localizer.locate_fast(pixels)

    groups = [images.dataset.group[row] for row in rows.tolist()]
    batch_size = 1 if localizer.architecture.size == "native" else 32
    return CalibrationImages(torch.from_numpy(images.boxes(rows)).float(), groups, locate, batch_size)


def std_by(images: ImageSource, rows: npt.NDArray[np.intp], localizer: Localizer) -> Floats:
    """The standard deviations (n, 4) float64 that a localizer gives rows of images, as fractions."""
    look = from_images(images, localizer, rows)
    batches = torch.split(torch.arange(len(rows)), min(look.batch_size, IMAGES_AT_ONCE))
    parts = [located.std.double().cpu().numpy() for located in single_threaded_map(look.locate, batches)]
    return np.concatenate(parts)


def input_squares(images: ImageSource, rows: npt.NDArray[np.intp], localizer: Localizer) -> Pixels:
    """(n, h, w, 3) uint8 RGB as `Localizer.infer` takes them; decoded again where refinement needs more detail."""
    if localizer.architecture.detail == 1:
        return images.as_predicted(rows)
    decoded = [images.dataset.images[row] for row in rows.tolist()]
    return np.stack(list(threaded_map(lambda image: localizer.preprocess(image).pixels, decoded)))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predictions of n images with a box, by weights that did not learn from them.

    truth, predicted, scale: (n, 4) float64 as fractions; scale as `scales` has it. groups: n names.
    """

    truth: Floats
    predicted: Floats
    scale: Floats
    groups: tuple[str, ...]

    @classmethod
    def of(cls, truth: Tensor, boxes: Tensor, std: Tensor, groups: Sequence[str]) -> "HeldOut":
        """Of true boxes, and of boxes and standard deviations as a head gives them, each (n, 4) as fractions."""
        predicted = in_order(boxes.double().numpy()).clip(0, 1)
        return cls(truth.double().numpy(), predicted, scales(predicted, std.double().numpy()), tuple(groups))

    def __add__(self, other: "HeldOut") -> "HeldOut":
        """The images of both."""
        return HeldOut(
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.predicted, other.predicted]),
            np.concatenate([self.scale, other.scale]),
            self.groups + other.groups,
        )

    def calibration(self) -> Calibration:
        """The quantiles of their errors."""
        groups = self.groups if any(self.groups) else None
        return Calibration.fit(self.truth, self.predicted, self.scale, groups, size=(1, 1))


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Margins, presence and familiarity of a localizer, calibrated.

    calibration: quantiles of margins. familiarity: None with a single training image. temperature: of presence, None
    without presence.
    """

    calibration: Calibration
    familiarity: Familiarity | None
    temperature: float | None

    def apply(self, localizer: Localizer) -> None:
        """Set them on the localizer."""
        localizer.calibration, localizer.familiarity = self.calibration, self.familiarity
        if self.temperature is not None and localizer.presence is not None:
            localizer.presence.temperature.fill_(self.temperature)


@torch.inference_mode()
def calibrate(
    training: CalibrationImages,
    validation: CalibrationImages,
    *,
    frozen: bool,
    more: HeldOut | None = None,
) -> CalibrationResult:
    """Calibrate the localizer of these images, which is in evaluation mode and on the CPU. It is not changed.

    frozen: whether its backbone did not learn from the training images: they count for familiarity too then.
    more: images for the margins beside those of `validation`.
    """
    boxes, std, logits, features = [], [], [], []
    batches = torch.split(torch.arange(len(validation.boxes)), validation.batch_size)
    for located in single_threaded_map(validation.locate, batches):
        features.append(pooled(located.maps))
        boxes.append(located.boxes)
        std.append(located.std)
        if located.presence is not None:
            logits.append(located.presence)
    present = torch.isfinite(validation.boxes).all(dim=1).numpy()
    groups = [name for name, has_box in zip(validation.groups, present.tolist(), strict=True) if has_box]
    held_out = HeldOut.of(
        validation.boxes[present], torch.cat(boxes)[present], torch.cat(std)[present], groups
    )
    calibration = (held_out + more if more else held_out).calibration()
    presence = None
    if logits and not present.all():
        presence = float(temperature(torch.cat(logits), torch.from_numpy(present)))
    count = len(training.boxes)
    chosen = torch.from_numpy(evenly_spaced(count, MAX_IMAGES))
    batches = torch.split(chosen, training.batch_size)
    pooled_training = list(single_threaded_map(lambda rows: pooled(training.locate(rows).maps), batches))
    familiarity = None
    if count > 1:
        chosen_groups = [training.groups[row] for row in chosen.tolist()]
        familiarity = Familiarity.fit(
            np.concatenate(pooled_training), np.concatenate(features), chosen_groups if frozen else None,
            held_out_groups=validation.groups,
        )  # fmt: skip
    return CalibrationResult(calibration, familiarity, presence)


def cross_fit_temperature(
    features: FeatureCache, dataset: Dataset, recipe: Recipe, channels: tuple[int, ...], *, fabric: Fabric,
    progress: Progress,
) -> float | None:  # fmt: skip
    """The temperature of presence from all training images, by two-fold cross-validation of the presence branch.

    The validation split has too few images without the object to distinguish 0.95 from 0.99. On synthetic images this
    gave the temperature of a thousand new images to within a tenth (bench/LOG.md).

    dataset: the images of `features`. channels: of the maps. fabric: of this process alone. None where a half would
    have images of one kind only.
    """
    full = features.full_images()
    present = features.has_box[full]
    if len(set(groups_of(dataset.positives()))) < 2:
        return None
    fold = torch.from_numpy(assign_folds(dataset, 2))
    halves = [fold[features.images[full]] == half for half in (0, 1)]
    if any(len(set(present[half].tolist())) < 2 for half in halves):
        return None
    logits = torch.zeros(len(full))
    for half, held_out in enumerate(halves):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.seed)
            branch = Presence(channels)
        stage = presence_stage(
            branch, features, recipe, fabric=fabric, rows=features.rows_of(fold != half),
            name=f"presence, half {half + 1} of 2",
        )  # fmt: skip
        fit(stage, fabric=fabric, progress=progress)
        with torch.inference_mode():
            for index in torch.split(held_out.nonzero().flatten(), _BATCH_SIZE):
                maps = features.maps(full[index], fabric.device)
                logits[index] = branch([feature.float() for feature in maps]).cpu()
    return float(temperature(logits, present))
