"""The full stage: the backbone trained too, on windows of images that are decoded once and kept."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.model import native_size
from solobox.model.localizer import Localizer
from solobox.model.losses import Loss, box_iou, within_reach
from solobox.training.compiling import compiled, eager, pays
from solobox.training.distributed import Ranks
from solobox.training.folding import folded
from solobox.training.image_cache import Originals, Squares
from solobox.training.loop import Batch, Epoch, Keeper, Schedule, fit
from solobox.training.on_device import Resident, draws, uploaded
from solobox.training.optim import freeze_depth
from solobox.training.views import generator, views
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import Progress

_OVERSAMPLING = 1.25


Shown: TypeAlias = Squares | Originals


def images_for_tuning(
    training: Dataset,
    validation: Dataset,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    budget: float,
    skip_bad: bool,
    ranks: Ranks,
) -> tuple[Shown, Shown]:
    """Decode all images once: those to train on with some pixels to spare for windows, the others as predicted.

    Of size ``native`` they are decoded again each time.
    """
    stages = "images", "validation images"
    if recipe.architecture.size == "native":
        least = recipe.architecture.strides[-1]
        fit_, check = (
            Originals(dataset, least, progress=progress, stage=stage, skip_bad=skip_bad)
            for dataset, stage in zip((training, validation), stages, strict=True)
        )
        return fit_, check
    side = recipe.architecture.side
    sides = round(side * _OVERSAMPLING), side
    share = len(training) * sides[0] ** 2 / (len(training) * sides[0] ** 2 + len(validation) * sides[1] ** 2)

    def squares(dataset: Dataset, own: int, part: float, stage: str) -> Squares:
        return Squares(
            dataset,
            own,
            budget=budget * part,
            folder=out,
            progress=progress,
            stage=stage,
            skip_bad=skip_bad,
            ranks=ranks,
        )

    fitting = squares(training, sides[0], share, stages[0])
    checking = squares(validation, sides[1], 1 - share, stages[1])
    progress.say(f"pixels of {len(fitting)} images: {fitting.place}")
    return fitting, checking


def tune_everything(
    localizer: Localizer,
    fitting: Shown,
    checking: Shown,
    recipe: Recipe,
    loss: Loss,
    fabric: Fabric,
    progress: Progress,
    keeper: Keeper,
    *,
    resident: Resident | None = None,
) -> tuple[list[Epoch], int]:
    """Train backbone, vectorizer and head together for `recipe.finetune_epochs` passes over the images.

    Each pass shows each image once, in a window drawn anew (the whole image when `recipe.windows` is 1). The
    backbone's batch normalisation keeps its statistics: batches are small, and ImageNet's are good.

    resident: `fitting` on a GPU. Windows and colours are then made there, by other random numbers than on a CPU.
    """
    localizer.requires_grad_(True)
    for name in unreached(localizer.backbone, recipe.architecture.strides[-1]):
        localizer.backbone.get_parameter(name).requires_grad_(False)
    ranks = Ranks(fabric)
    steps = -(-len(fitting) // recipe.batch)

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch, 1]).permutation(len(fitting))
        groups = [
            order[at : at + recipe.batch] for at in range(start * recipe.batch, len(order), recipe.batch)
        ]
        parts = [ranks.part(len(rows)) for rows in groups]
        own = [rows[part.rows] for rows, part in zip(groups, parts, strict=True)]
        if resident is not None:
            made = from_resident(resident, own, recipe, epoch)
        else:
            made = _from_host(fitting, own, recipe, epoch, fabric.device, beside=ranks.local_size)
        for (pixels, targets), part in zip(made, parts, strict=True):
            yield pixels, targets, part

    def score(module: nn.Module) -> Tensor:
        return _ious(module, checking, fabric)

    schedule = Schedule(
        "finetune", recipe.finetune_epochs, steps, replace(recipe.optimizer_config, lr=recipe.finetune_lr), recipe.ema,
        recipe.seed + 1, recipe.patience, recipe.backbone_lr, recipe.freeze,
    )  # fmt: skip

    # Images of their own sizes would be compiled for each size; and ranks meet in the midst of the network.
    alike = isinstance(fitting, Squares) and ranks.size == 1
    if alike and pays(fabric.device, recipe.finetune_epochs * steps):
        freeze_depth(localizer.backbone, recipe.freeze)  # as `fit` will: it is compiled for what is trained
        compiled(localizer, lambda: loss_of(localizer, next(batches(0, 0)), loss, fabric), progress.say)
    try:
        with folded(localizer.backbone):
            return fit(
                localizer, batches, score, loss, schedule,
                fabric=fabric, progress=progress, keeper=keeper, to_train=to_train,
            )  # fmt: skip
    finally:
        eager(localizer)


def unreached(backbone: nn.Module, coarsest: int) -> list[str]:
    """Names of parameters that no map depends on: some networks of timm keep stages beyond the last that is asked for.

    coarsest: stride of the coarsest map. Ranks would wait for gradients of these in vain.
    """
    shape_only = copy.deepcopy(backbone).to("meta").requires_grad_(True).eval()
    maps = shape_only(torch.empty(1, 3, 2 * coarsest, 2 * coarsest, device="meta"))
    torch.stack([feature.sum() for feature in maps]).sum().backward()  # type: ignore[no-untyped-call]
    return [name for name, parameter in shape_only.named_parameters() if parameter.grad is None]


def from_resident(
    resident: Resident, groups: Sequence[np.ndarray], recipe: Recipe, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pixels and targets of some groups of rows, made on the device on which the images lie."""
    device, side = resident.pixels.device, recipe.architecture.side
    # All that an epoch takes from the CPU goes up at once: steps need not wait for it.
    numbers = None if recipe.crops == 1 else uploaded(draws(recipe.seed, epoch, len(resident)), device)
    places = np.cumsum([len(rows) for rows in groups])[:-1].tolist()
    order = uploaded(torch.from_numpy(np.concatenate(groups)), device)
    for rows in torch.tensor_split(order, places):
        pixels, targets = resident.batch(rows, side, numbers)
        yield pixels, within_reach(targets, recipe.architecture.cells)


def _from_host(
    images: Shown,
    groups: Sequence[np.ndarray],
    recipe: Recipe,
    epoch: int,
    device: torch.device,
    *,
    beside: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same, made by the CPU's threads."""
    for pixels, targets in threaded_map(
        lambda rows: _batch(images, rows, recipe, epoch), groups, beside=beside
    ):
        # Made floats where they are used: bytes get there four times as fast.
        floats = uploaded(pixels, device).to(torch.float32, memory_format=torch.channels_last)
        yield floats, uploaded(targets, device)


def _batch(images: Shown, rows: np.ndarray, recipe: Recipe, epoch: int) -> tuple[Tensor, Tensor]:
    """Pixels (n, 3, h, w) uint8 and targets (n, 4) for one step."""
    size, least = recipe.architecture.size, recipe.architecture.strides[-1]
    side = size if isinstance(size, int) else partial(native_size.own_size, least=least)
    shown, targets = [], []
    for row in rows:
        rng = generator(recipe.seed, epoch + 1, images.dataset.names[row])
        view = views(*images.image(row), 1, side, rng, first_whole=recipe.crops == 1)
        shown.append(view.pixels[0])
        targets.append(view.targets[0])
    wanted = within_reach(torch.from_numpy(np.stack(targets)).float(), recipe.architecture.cells)
    return torch.from_numpy(np.stack(shown)), wanted


def loss_of(localizer: Localizer, batch: Batch, loss: Loss, fabric: Fabric) -> Tensor:
    """The loss of a batch in a step of training, for `compiled` to learn what will be computed."""
    to_train(localizer)
    inputs, targets, _ = batch
    kind = fabric.device.type
    with fabric.autocast():
        # Fabric shows them in the lower precision, in which levels are exact too.
        inputs = inputs.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else inputs
        output = localizer(inputs)
    return loss(output, targets)


def to_train(module: nn.Module) -> None:
    """Training mode, except for the backbone's normalisation layers."""
    module.train()
    assert isinstance(module, Localizer)  # noqa: S101
    module.backbone.eval()


def _ious(module: nn.Module, images: Shown, fabric: Fabric) -> Tensor:
    """IoU of each image with the object."""
    ranks = Ranks(fabric)
    having = np.flatnonzero(np.isfinite(images.boxes).all(axis=1))
    found = torch.zeros(len(having))
    own = np.arange(len(having))[ranks.rank :: ranks.size]
    together = 32 if isinstance(images, Squares) else 1
    with torch.inference_mode():
        for places in np.array_split(own, -(-len(own) // together) or 1):
            if not len(places):
                continue
            rows = having[places]
            pixels = uploaded(torch.from_numpy(images.pixels(rows)), fabric.device).permute(0, 3, 1, 2)
            with fabric.autocast():
                boxes = module(pixels.float()).boxes
            truth = torch.from_numpy(images.boxes[rows]).float()
            found[torch.from_numpy(places)] = box_iou(boxes.float().cpu().clamp(0, 1), truth)
    return ranks.total(found)


def seconds_of_tuning(
    localizer: Localizer, images: int, recipe: Recipe, loss: Loss, fabric: Fabric, ranks: Ranks
) -> float:
    """How long `tune_everything` will take, from one step on a grey batch after one to warm up. Changes nothing."""
    size, steps = recipe.architecture.size, -(-images // recipe.batch)
    height, width = (
        (480, 640) if isinstance(size, str) else (size, size)
    )  # images of their own sizes: a usual one
    wanted = {name: parameter.requires_grad for name, parameter in localizer.named_parameters()}
    localizer.requires_grad_(True).eval()
    part = ranks.part(min(recipe.batch, images))
    pixels = torch.full((part.stop - part.start, 3, height, width), 127.0, device=fabric.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    targets = torch.tensor([[0.25, 0.25, 0.75, 0.75]], device=fabric.device).expand(len(pixels), 4)
    seconds = 0.0
    with folded(localizer.backbone):
        for _ in range(2):
            started = time.perf_counter()
            with fabric.autocast():
                output = localizer(pixels)
            loss(output, targets).backward()  # type: ignore[no-untyped-call]
            seconds = time.perf_counter() - started
    localizer.zero_grad(set_to_none=True)
    for name, parameter in localizer.named_parameters():
        parameter.requires_grad_(wanted[name])
    return seconds * steps * recipe.finetune_epochs
