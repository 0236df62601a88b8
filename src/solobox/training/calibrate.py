"""What a trained localizer says of how far it can be trusted, from images that its training held out.

Those are the validation images, which also chose the epoch. That choice is between a handful of states that hardly
differ, so it takes little from the promise of the margins (`bench/margins.py --only pipeline` measures how little); to
hold yet another part out would cost small sets more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from solobox.data.dataset import Dataset
from solobox.images.reading import to_square
from solobox.model.localizer import Localizer, pooled
from solobox.model.presence import temperature
from solobox.predict.predictor import in_order, resize_to_square
from solobox.training.feature_cache import Kept
from solobox.training.image_cache import Originals, Squares
from solobox.uncertainty.conformal import Calibration, scales
from solobox.uncertainty.familiarity import Familiarity

_MOST = 2048
"""Training images that the figures of familiarity are made from, at most, drawn evenly."""

_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Source:
    """Whole images that a localizer can be shown.

    targets: (n, 4) as fractions, NaN for an image without the object. groups: n names.
    maps: of some of them, by row numbers, in float32.
    """

    targets: Tensor
    groups: Sequence[str]
    maps: Callable[[Tensor], list[Tensor]]


def of_kept(kept: Kept, groups: Sequence[str]) -> Source:
    """The first view of each kept image, which is the whole one. groups: of all images that were to be kept."""
    wholes = kept.wholes()
    names = [groups[row] for row in kept.images[wholes].tolist()]
    cpu = torch.device("cpu")
    return Source(
        kept.targets[wholes],
        names,
        lambda rows: [feature.float().cpu() for feature in kept.maps(wholes[rows], cpu)],
    )


def of_images(kept: Kept, dataset: Dataset, localizer: Localizer) -> Source:
    """The images of `kept` anew as prediction sees them, to the last bit: what is kept was rounded to bfloat16.

    dataset: what was to be kept.
    """
    wholes = kept.wholes()
    image_rows = kept.images[wholes].tolist()
    side = localizer.architecture.side

    def maps(rows: Tensor) -> list[Tensor]:
        paths = [dataset.images[image_rows[row]] for row in rows.tolist()]
        squares = [resize_to_square(path, side).pixels for path in paths]
        return localizer.maps(np.ascontiguousarray(np.stack(squares).transpose(0, 3, 1, 2)))

    return Source(kept.targets[wholes], [dataset.group[row] for row in image_rows], maps)


def of_shown(shown: Squares | Originals, localizer: Localizer) -> Source:
    """Images that are decoded and shown to the backbone as it is now."""

    def maps(rows: Tensor) -> list[Tensor]:
        pixels = shown.pixels(rows.numpy())
        if isinstance(shown, Squares) and shown.side != localizer.architecture.side:  # some pixels to spare
            pixels = np.stack([to_square(own, localizer.architecture.side) for own in pixels])
        return localizer.maps(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    return Source(torch.from_numpy(shown.boxes).float(), shown.dataset.group, maps)


@dataclass(frozen=True, slots=True)
class Trust:
    """What `calibrated` found. temperature: of presence, None where it was not learned."""

    calibration: Calibration
    familiarity: Familiarity | None
    temperature: float | None

    def give(self, localizer: Localizer) -> None:
        """Let the localizer say it from now on."""
        localizer.calibration, localizer.familiarity = self.calibration, self.familiarity
        if self.temperature is not None and localizer.presence is not None:
            localizer.presence.temperature.fill_(self.temperature)


@torch.inference_mode()
def calibrated(
    localizer: Localizer, training: Source, held_out: Source, *, together: int = _TOGETHER
) -> Trust:
    """Margins, the temperature of presence, and familiarity.

    together: images in a batch, 1 where they have sizes of their own.
    """
    boxes, std, logits, features = [], [], [], []
    for rows in torch.split(torch.arange(len(held_out.targets)), together):
        maps = held_out.maps(rows)
        output = localizer.decide(maps)
        features.append(pooled(maps))
        boxes.append(in_order(output.boxes.double().numpy()).clip(0, 1))
        std.append(output.std().double().numpy())
        logits.append(torch.zeros(len(rows)) if output.presence is None else output.presence)
    found, own = np.concatenate(boxes), np.concatenate(std)
    truth = held_out.targets.double().numpy()
    present = np.isfinite(truth).all(axis=1)
    names = [name for name, wanted in zip(held_out.groups, present.tolist(), strict=True) if wanted]
    calibration = Calibration.of(
        truth[present], found[present], scales(found, own)[present], names if any(names) else None
    )
    warmth = None
    if localizer.presence is not None and not present.all():
        warmth = float(temperature(torch.cat(logits), torch.from_numpy(present)))
    count = len(training.targets)
    chosen = torch.from_numpy(np.linspace(0, count - 1, min(count, _MOST)).round().astype(np.int64))
    seen = [pooled(training.maps(rows)) for rows in torch.split(chosen, together)]
    familiarity = Familiarity.of(np.concatenate(seen), np.concatenate(features)) if count > 1 else None
    return Trust(calibration, familiarity, warmth)
