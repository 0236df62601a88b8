"""The temperature of presence from all training images, each judged by a branch that did not learn from it.

The validation part is a tenth of the images, a few of them without the object: too few to tell 0.95 from 0.99. The
branch shares nothing with vectorizer and head, so that it can be trained again by itself, on kept features, in a
fraction of the time that training took. Two halves, each judged by what learnt from the other, take as long as one
more training of it, and gave on drawn scenes the temperature of a thousand fresh images to within a tenth, like more
and smaller parts (bench/LOG.md).
"""

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.single_device import SingleDeviceStrategy

from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.model.presence import Presence, temperature
from solobox.training.crossval import assigned, units_of
from solobox.training.distributed import precision_of
from solobox.training.feature_cache import Kept
from solobox.training.stages import fit_presence
from solobox.utils.progress import Progress

_TOGETHER = 64


def temperature_out_of_fold(
    kept: Kept,
    dataset: Dataset,
    recipe: Recipe,
    channels: tuple[int, ...],
    *,
    device: torch.device,
    progress: Progress,
) -> float | None:
    """The temperature for a branch that learnt from all of `kept`.

    dataset: what was to be kept. channels: of the maps.

    None where images of one kind are so few, or groups so large, that a half would have none to learn from.
    """
    wholes = kept.wholes()
    there = kept.images[wholes]
    present = torch.isfinite(kept.targets[wholes]).all(dim=1)
    if len(set(units_of(dataset.positives()))) < 2:
        return None
    fold = torch.from_numpy(assigned(dataset, 2))
    halves = [fold[there] == half for half in (0, 1)]
    if any(len(set(present[half].tolist())) < 2 for half in halves):
        return None
    # One process does this by itself, however many have trained.
    fabric = Fabric(
        strategy=SingleDeviceStrategy(device), precision=precision_of(recipe.precision, recipe.accelerator)
    )
    logits = torch.zeros(len(there))
    for half, held in enumerate(halves):
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            branch = Presence(channels)
        fit_presence(
            branch, kept, recipe, kept.of_images(fold != half), fabric=fabric, progress=progress,
            stage=f"presence, half {half + 1} of 2",
        )  # fmt: skip
        with torch.inference_mode():
            for places in torch.split(held.nonzero().flatten(), _TOGETHER):
                maps = kept.maps(wholes[places], fabric.device)
                logits[places] = branch([feature.float() for feature in maps]).cpu()
    return float(temperature(logits, present))
