"""Calibration of a trained localizer: margins, the temperature of presence, and familiarity.

It uses the validation images, which also chose the epoch. That costs the margins little coverage
(`bench/margins.py --only pipeline` measures it); a third split would cost small data sets more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from solobox.model.localizer import Localizer, pooled
from solobox.model.presence import temperature
from solobox.predict.predictor import in_order
from solobox.training.feature_cache import FeatureCache
from solobox.training.image_cache import ImageSource
from solobox.uncertainty.conformal import Calibration, scales
from solobox.uncertainty.familiarity import Familiarity

MAX_IMAGES = 2048
"""The most training images for the statistics of familiarity, evenly spaced."""


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Full images with their boxes.

    boxes: (n, 4) float32 ``x1, y1, x2, y2`` as fractions, NaN for an image without the object. groups: n names.
    maps: float32 feature maps on the CPU of rows of them. batch_size: the most rows at once.
    """

    boxes: Tensor
    groups: Sequence[str]
    maps: Callable[[Tensor], list[Tensor]]
    batch_size: int = 32


def from_features(features: FeatureCache, images: ImageSource) -> CalibrationImages:
    """The full images of a feature cache; their maps are in bfloat16."""
    full, cpu = features.full_images(), torch.device("cpu")
    return CalibrationImages(
        features.boxes[full],
        [images.dataset.group[row] for row in features.images[full].tolist()],
        lambda rows: [feature.float().cpu() for feature in features.maps(full[rows], cpu)],
    )


def from_images(
    images: ImageSource, localizer: Localizer, rows: npt.NDArray[np.intp] | None = None
) -> CalibrationImages:
    """Images as prediction sees them, with the localizer's maps as prediction computes them.

    rows: of readable images; all of those by default.
    """
    rows = images.rows if rows is None else rows

    def maps(chosen: Tensor) -> list[Tensor]:
        pixels = images.as_predicted(rows[chosen.numpy()])
        return localizer.maps(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    groups = [images.dataset.group[row] for row in rows.tolist()]
    batch_size = 1 if localizer.architecture.size == "native" else 32
    return CalibrationImages(torch.from_numpy(images.boxes(rows)).float(), groups, maps, batch_size)


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
    localizer: Localizer, training: CalibrationImages, validation: CalibrationImages, *, frozen: bool
) -> CalibrationResult:
    """Calibrate a localizer that is in evaluation mode and on the CPU. It is not changed.

    frozen: whether its backbone did not learn from the training images: they count for familiarity too then.
    """
    boxes, std, logits, features = [], [], [], []
    for rows in torch.split(torch.arange(len(validation.boxes)), validation.batch_size):
        maps = validation.maps(rows)
        output = localizer.decide(maps)
        features.append(pooled(maps))
        boxes.append(in_order(output.boxes.double().numpy()).clip(0, 1))
        std.append(output.std().double().numpy())
        if output.presence is not None:
            logits.append(output.presence)
    predicted, truth = np.concatenate(boxes), validation.boxes.double().numpy()
    present = np.isfinite(truth).all(axis=1)
    groups = [name for name, has_box in zip(validation.groups, present.tolist(), strict=True) if has_box]
    calibration = Calibration.fit(
        truth[present],
        predicted[present],
        scales(predicted, np.concatenate(std))[present],
        groups if any(groups) else None,
    )
    presence = None
    if logits and not present.all():
        presence = float(temperature(torch.cat(logits), torch.from_numpy(present)))
    count = len(training.boxes)
    chosen = torch.from_numpy(np.linspace(0, count - 1, min(count, MAX_IMAGES)).round().astype(np.int64))
    pooled_training = [pooled(training.maps(rows)) for rows in torch.split(chosen, training.batch_size)]
    familiarity = None
    if count > 1:
        chosen_groups = [training.groups[row] for row in chosen.tolist()]
        familiarity = Familiarity.fit(
            np.concatenate(pooled_training), np.concatenate(features), chosen_groups if frozen else None
        )
    return CalibrationResult(calibration, familiarity, presence)
