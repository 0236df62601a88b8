"""Training on labels that are wrong: `python bench/noise.py [--seeds 3] [--first 0] [--size 224] [--only LOSS ...]`.

Caltech, the default recipe, mean IoU and share of IoU >= 0.9 on the clean boxes of the test part. Of the
training labels a share is jittered: each edge is moved by a normal error with a standard deviation of a tenth of the
box's side along that axis, which leaves an IoU of about 0.74 with the true box. And one label in twenty lies in a wrong
place, on something else: sides of 20 to 50% of the image's, of fifty such boxes the one that overlaps the true one
least.

Features are cached once for all rows, and their crops were placed by the clean boxes whatever the noise, which decides
the targets alone: with noisy labels crops would be a little worse placed, for every loss alike. Every row of a seed
has the same noise, the same order of batches and the same first weights.

Rows that are no recipe's loss: `wide` has a target distribution (sigma) three times as wide; `trimmed` leaves out the
tenth of a batch with the highest loss (least trimmed squares: Rousseeuw, 1984; small-loss selection: Han et al., 2018,
"Co-teaching").
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets import caltech, joined
from solobox import Recipe
from solobox.boxes import Floats, clip, iou
from solobox.cli.console import quieten
from solobox.model.heads import Output
from solobox.model.losses import SIGMA, Loss
from solobox.training.augment import Crop, full_crop, image_rng, random_crop
from solobox.training.crossval import CrossValidator
from solobox.training.feature_cache import FeatureCache
from solobox.training.image_cache import ImageCache
from solobox.training.loop import fit
from solobox.training.stages import head_stage
from solobox.utils.progress import NullProgress

DEFAULT = "kl + 10*l1 + giou"
JITTER, WRONG, KEPT = 0.1, 0.05, 0.9
NOISES = {"clean": (0.0, 0.0), "20% + 5%": (0.2, WRONG), "40% + 5%": (0.4, WRONG)}


@dataclass(frozen=True, slots=True)
class Trimmed(Loss):
    """The mean loss of those of a batch that have the lowest ones."""

    def __call__(self, output: Output, target: Tensor) -> Tensor:
        """The mean for a batch: a scalar."""
        assert output.logits is not None
        positions = output.positions

        def one(boxes: Tensor, logits: Tensor, target_box: Tensor) -> Tensor:
            return Loss.__call__(self, Output(boxes[None], logits[None], positions), target_box[None])

        each: Tensor = torch.vmap(one)(output.boxes, output.logits, target)
        return each.topk(max(round(KEPT * len(each)), 1), largest=False).values.mean()


def losses() -> dict[str, Loss]:
    return {
        DEFAULT: Loss.parse(DEFAULT),
        "mse": Loss.parse("mse"),
        "l1": Loss.parse("l1"),
        "kl": Loss.parse("kl"),
        "wide": Loss.parse(DEFAULT, sigma=3 * SIGMA),
        "trimmed": Trimmed.parse(DEFAULT),
    }


def crops(images: ImageCache, recipe: Recipe) -> list[list[Crop]]:
    """The crops of each image that its cached features are of, placed by the clean boxes."""
    side, placed = images.side, []
    for row, name in enumerate(images.dataset.names):
        rng, box = image_rng(recipe.seed, 0, name), images.box(row) * side
        random = [random_crop(rng, box, side, side) for _ in range(recipe.crops - 1)]
        placed.append([full_crop(side, side), *random])
    return placed


def targets(boxes: Floats, images: ImageCache, placed: Sequence[Sequence[Crop]]) -> Tensor:
    """Boxes (N, 4) in pixels of the images, as fractions of all their crops: (N * crops, 4)."""
    normalized = boxes / np.tile(np.array(images.sizes, dtype=np.float64), 2)
    rows = [
        crop.to_crop(box * images.side)
        for box, crops in zip(normalized, placed, strict=True)
        for crop in crops
    ]
    return torch.from_numpy(np.stack(rows)).float()


def noisy(boxes: Floats, sizes: Floats, jittered: float, wrong: float, seed: int) -> Floats:
    """Boxes (N, 4) of which shares are jittered and in a wrong place. sizes: (N, 2), of the images."""
    rng = np.random.default_rng([seed, 77])
    order, count = rng.permutation(len(boxes)), len(boxes)
    made = boxes.copy()
    moved = order[: round(jittered * count)]
    sides = (boxes[:, 2:] - boxes[:, :2])[moved]
    shifted = boxes[moved] + rng.normal(0, JITTER, (len(moved), 4)) * np.tile(sides, 2)
    made[moved] = clip(shifted, sizes[moved, 0], sizes[moved, 1])
    for row in order[len(order) - round(wrong * count) :]:
        side = rng.uniform(0.2, 0.5, (50, 2))
        corner = rng.uniform(0, 1, (50, 2)) * (1 - side)
        tries = np.concatenate([corner, corner + side], axis=1) * np.tile(sizes[row], 2)
        made[row] = tries[iou(tries, boxes[row]).argmin()]
    assert (made[:, :2] < made[:, 2:]).all()
    return made


def ious(validator: CrossValidator, features: FeatureCache, training: int, loss: Loss, seed: int) -> Floats:
    """IoU of each test image with its clean box, by a head trained on the first images with the boxes of `features`."""
    head = copy.deepcopy(validator.untrained)
    dataset = validator.images.dataset
    rows = features.rows_of(torch.arange(len(dataset)) < training)
    recipe = replace(validator.recipe, seed=seed)
    fit(
        head_stage(head, features, recipe, loss, fabric=validator.fabric, rows=rows),
        fabric=validator.fabric, progress=NullProgress(),
    )  # fmt: skip
    test = np.arange(training, len(dataset))
    predicted = np.stack([one.box for one in validator.predict(head.eval(), test)])
    return iou(predicted, dataset.boxes[test])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", nargs="*", default=[], metavar="LOSS", help="only these losses, or others")
    arguments = parser.parse_args()
    quieten()
    recipe = Recipe.from_preset("quick", {"size": arguments.size})
    named = losses()
    chosen = {name: named.get(name) or Loss.parse(name) for name in arguments.only or named}
    training, test = caltech()
    dataset, count = joined(training, test), len(training)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        validator = CrossValidator.from_dataset(dataset, recipe, folder=Path(folder))
        images = validator.images
        assert isinstance(images, ImageCache)
        placed = crops(images, recipe)
        np.testing.assert_allclose(
            targets(dataset.boxes, images, placed), validator.features.boxes, atol=1e-5
        )
        print(
            f"features in {time.perf_counter() - started:.0f} s; {count} images, {len(test)} to test with",
            flush=True,
        )
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            for noise, (jittered, wrong) in NOISES.items():
                boxes = dataset.boxes.copy()
                boxes[:count] = noisy(
                    boxes[:count], np.array(images.sizes, dtype=np.float64)[:count], jittered, wrong, seed
                )
                features = replace(validator.features, boxes=targets(boxes, images, placed))
                for name, loss in chosen.items():
                    began = time.perf_counter()
                    measured = ious(validator, features, count, loss, seed)
                    seconds = time.perf_counter() - began
                    row = float(measured.mean()), float((measured >= 0.9).mean())
                    found.setdefault((noise, name), []).append(row)
                    print(
                        f"seed {seed}  {noise:10s} {name:20s} {row[0]:.4f} {row[1]:.3f} {seconds:4.0f} s",
                        flush=True,
                    )
    print(f"{'noise':10s} {'loss':20s} {'mean IoU':>16s} {'IoU>=.9':>16s}")
    for (noise, name), rows in found.items():
        mean, std = np.mean(rows, axis=0), np.std(rows, axis=0)
        print(f"{noise:10s} {name:20s} {mean[0]:.4f} ± {std[0]:.4f} {mean[1]:.3f} ± {std[1]:.3f}")


if __name__ == "__main__":
    main()
