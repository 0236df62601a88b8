"""The stages of training: the head on cached features, the branch of presence, and fine-tuning of the whole network."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from solobox.config.optim import OptimizerConfig
from solobox.config.recipe import Recipe
from solobox.model import native_size
from solobox.model.heads import Output
from solobox.model.localizer import Localizer, run_head
from solobox.model.losses import BoxLoss, box_iou, clip_to_reach, with_presence
from solobox.model.presence import Presence
from solobox.model.sync_layers import BatchSlice
from solobox.model.threads import single_threaded_map
from solobox.training.augment import augment, image_rng
from solobox.training.distributed import Distributed
from solobox.training.feature_cache import FeatureCache, upload
from solobox.training.image_cache import ImageCache, ImageSource
from solobox.utils.concurrency import threaded_map

if TYPE_CHECKING:
    from solobox.model.refiner import Refiner

_VAL_BATCH_SIZE, _CPU_BATCH_SIZE = 64, 16


class Batch(NamedTuple):
    """The module's inputs, the loss's targets, and the rows of the batch that they are on this rank."""

    inputs: Any
    targets: Tensor
    rows: BatchSlice


Batches: TypeAlias = Callable[[int, int], Iterator[Batch]]
"""The batches of an epoch from a batch on, both counted from 0: they depend on these two numbers only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of training: module, batches, loss and schedule. `loop.fit` runs it.

    module: what is trained: its parameters that require gradients.
    batches, batches_per_epoch: see `Batches`.
    loss: of the module's output and a batch's targets, a scalar: the mean over the batch.
    validate: one score for each validation image (n,), higher is better, of a module in evaluation mode; the same on
        every rank. None: nothing is held out, and the last epoch is the result.
    train_iou: IoU of those images of a batch that have a box, for the history; None where the stage predicts no boxes.
    epochs: at most. patience: stop after so many epochs in a row without a new best one; 0 for never.
    ema: decay of the averaged weights at each step, 0 for none.
    seed: of dropout, step by step. backbone_lr, freeze: see `param_groups`.
    train_mode: how the module is put into training mode.
    divisible: whether its batches have several rows, which threads can share.
    """

    name: str
    module: nn.Module
    batches: Batches
    batches_per_epoch: int
    loss: Callable[[Any, Tensor], Tensor]
    validate: Callable[[nn.Module], Tensor] | None
    train_iou: Callable[[Any, Tensor], Tensor] | None
    epochs: int
    optimizer: OptimizerConfig
    ema: float
    seed: int
    patience: int = 0
    backbone_lr: float = 1.0
    freeze: int = 0
    train_mode: Callable[[nn.Module], object] = nn.Module.train
    divisible: bool = True

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.batches_per_epoch // self.optimizer.accumulate)

    def shortened(self, effort: float) -> "Stage":
        """With a share of its epochs, at least one."""
        return replace(self, epochs=max(round(self.epochs * effort), 1))


def initial_localizer(recipe: Recipe, *, presence: bool, backbone: nn.Module | None = None) -> Localizer:
    """The localizer that training begins with: its random weights depend on the recipe's seed alone.

    presence: whether it learns that. backbone: instead of the recipe's, see `Localizer`.
    """
    with torch.random.fork_rng(devices=[]):  # the weights are made on the CPU, and the GPUs are left alone
        torch.default_generator.manual_seed(recipe.seed)
        return Localizer(
            replace(recipe.architecture, presence=presence),
            pretrained=recipe.pretrained,
            pretrained_head=recipe.pretrained_head,
            backbone=backbone,
        )


class LocalizerHead(nn.Module):
    """Everything of a localizer after its backbone: feature maps in, `Output` out. It shares the localizer's weights.

    presence: whether the branch of presence is part of it.
    """

    def __init__(self, localizer: "Localizer | LocalizerHead | Refiner", *, presence: bool = True) -> None:
        super().__init__()
        self.extra: nn.Module = localizer.extra
        self.vectorizer: nn.Module = localizer.vectorizer
        self.head: nn.Module = localizer.head
        self.presence: Presence | None = localizer.presence if presence else None

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps in any float type; computed in the type of the weights, or autocast's."""
        return run_head(self.extra, self.vectorizer, self.head, self.presence, _as_float32(maps))


class _PresenceLogits(nn.Module):
    def __init__(self, presence: Presence) -> None:
        super().__init__()
        self.presence = presence

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.presence(_as_float32(maps))
        return logits


def _as_float32(maps: list[Tensor]) -> list[Tensor]:
    """Cached maps as float32, or unchanged where autocast converts them."""
    return maps if torch.is_autocast_enabled(maps[0].device.type) else [feature.float() for feature in maps]


# The head and presence, on cached features --------------------------------------------------------------


def head_stage(
    head: LocalizerHead,
    features: FeatureCache,
    recipe: Recipe,
    loss: BoxLoss,
    *,
    fabric: Fabric,
    validation: FeatureCache | None = None,
    rows: Tensor | None = None,
    name: str = "head",
) -> Stage:
    """Vectorizer and head, trained on the crops that have a box.

    Trained together with presence, the boxes lost 0.006 of IoU (bench/LOG.md).

    validation: without it the last epoch is kept. rows: the crops to train on, default all.
    """
    rows = torch.arange(len(features)) if rows is None else rows
    rows = rows[features.has_box[rows]]
    cells = recipe.architecture.cells
    return _feature_stage(
        name, LocalizerHead(head, presence=False), features, rows, recipe, fabric,
        targets=lambda chosen: clip_to_reach(features.boxes[chosen], cells), loss=loss, train_iou=_box_iou,
        validate=None if validation is None else partial(feature_ious, features=validation, fabric=fabric),
        patience=0 if validation is None else recipe.patience,
    )  # fmt: skip


def presence_stage(
    presence: Presence,
    features: FeatureCache,
    recipe: Recipe,
    *,
    fabric: Fabric,
    rows: Tensor | None = None,
    name: str = "presence",
) -> Stage:
    """The branch of presence, trained on crops with and without the object; nothing is held out to choose an epoch."""
    rows = torch.arange(len(features)) if rows is None else rows
    return _feature_stage(
        name, _PresenceLogits(presence), features, rows, recipe, fabric,
        targets=lambda chosen: features.has_box[chosen].float(), loss=F.binary_cross_entropy_with_logits,
        train_iou=None, validate=None, patience=0,
    )  # fmt: skip


def _feature_stage(
    name: str,
    module: nn.Module,
    features: FeatureCache,
    rows: Tensor,
    recipe: Recipe,
    fabric: Fabric,
    *,
    targets: Callable[[Tensor], Tensor],
    **options: Any,
) -> Stage:
    group = Distributed(fabric)

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(rows))
        for batch in torch.split(rows[torch.from_numpy(order)], recipe.batch)[first:]:
            batch_slice = group.batch_slice(len(batch))
            chosen = batch[batch_slice.rows]
            yield Batch(
                features.maps(chosen, fabric.device), upload(targets(chosen), fabric.device), batch_slice
            )

    return Stage(
        name=name, module=module, batches=batches, batches_per_epoch=-(-len(rows) // recipe.batch),
        epochs=recipe.passes(len(rows)), optimizer=recipe.optimizer_config, ema=recipe.ema, seed=recipe.seed, **options,
    )  # fmt: skip


def _box_iou(output: Output, targets: Tensor) -> Tensor:
    """IoU (n,) of the images of a batch that have a box."""
    has_box = torch.isfinite(targets).all(dim=1)
    return box_iou(output.boxes.detach()[has_box], targets[has_box])


def feature_ious(module: nn.Module, features: FeatureCache, fabric: Fabric) -> Tensor:
    """IoU of each crop with a box (n,) by a head; boxes are clipped to the image, as in prediction."""
    rows = features.has_box.nonzero().flatten()
    return _ious(
        lambda chosen: (features.maps(rows[chosen], fabric.device), features.boxes[rows[chosen]]),
        len(rows), module, fabric, _VAL_BATCH_SIZE,
    )  # fmt: skip


def _ious(
    batch: Callable[[Tensor], tuple[Any, Tensor]], count: int, module: nn.Module, fabric: Fabric, size: int
) -> Tensor:
    """IoU of `count` images, each computed by one rank and sent to all. batch: inputs and boxes by index."""
    group, on_cpu = Distributed(fabric), fabric.device.type == "cpu"
    ious = torch.zeros(count)

    def compute(chosen: Tensor) -> Tensor:
        inputs, targets = batch(chosen)
        with torch.inference_mode(), fabric.autocast():
            boxes = module(inputs).boxes
        return box_iou(boxes.float().cpu().clamp(0, 1), targets)

    own = torch.arange(count)[group.rank :: group.size]
    chunks = [
        chunk for chunk in torch.split(own, min(size, _CPU_BATCH_SIZE) if on_cpu else size) if len(chunk)
    ]
    parts = (
        single_threaded_map(compute, chunks, processes=group.local_size) if on_cpu else map(compute, chunks)
    )
    for chunk, part in zip(
        chunks, parts, strict=True
    ):  # there may be fewer images than ranks, and none for this one
        ious[chunk] = part
    return group.all_reduce_sum(ious)


# Fine-tuning, on images ---------------------------------------------------------------------------------


def finetune_stage(
    localizer: Localizer,
    images: ImageSource,
    validation: ImageSource,
    recipe: Recipe,
    loss: BoxLoss,
    *,
    fabric: Fabric,
) -> Stage:
    """Backbone, vectorizer and head together, on one new random crop of each image in each epoch.

    The full image is used where `recipe.crops` is 1. The backbone's batch normalization keeps its statistics: batches
    are small, and ImageNet's are good.
    """
    localizer.requires_grad_(True)
    for name in unused_parameters(localizer.backbone, recipe.architecture.strides[-1]):
        localizer.backbone.get_parameter(name).requires_grad_(False)
    group, rows = Distributed(fabric), images.rows

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch, 1]).permutation(rows)
        batches = [order[at : at + recipe.batch] for at in range(0, len(order), recipe.batch)][first:]
        slices = [group.batch_slice(len(batch)) for batch in batches]
        chosen = [batch[batch_slice.rows] for batch, batch_slice in zip(batches, slices, strict=True)]
        prepare = partial(_image_batch, images, recipe, epoch)
        prepared = threaded_map(prepare, chosen, processes=group.local_size)
        for (pixels, targets), batch_slice in zip(prepared, slices, strict=True):
            # Converted to floats on the device: bytes get there four times as fast.
            floats = upload(pixels, fabric.device).to(torch.float32, memory_format=torch.channels_last)
            yield Batch(floats, upload(targets, fabric.device), batch_slice)

    return Stage(
        name="finetune", module=localizer, batches=batches, batches_per_epoch=-(-len(rows) // recipe.batch),
        loss=with_presence(loss), train_iou=_box_iou,
        validate=partial(image_ious, images=validation, fabric=fabric),
        epochs=recipe.finetune_epochs, optimizer=replace(recipe.optimizer_config, lr=recipe.finetune_lr),
        ema=recipe.ema, seed=recipe.seed + 1, patience=recipe.patience, backbone_lr=recipe.backbone_lr,
        freeze=recipe.freeze, train_mode=_train_mode, divisible=recipe.batch > 1,
    )  # fmt: skip


def _train_mode(module: nn.Module) -> None:
    """Training mode, except for the backbone's normalization layers."""
    module.train()
    module.get_submodule("backbone").eval()


def _image_batch(
    images: ImageSource, recipe: Recipe, epoch: int, rows: npt.NDArray[np.intp]
) -> tuple[Tensor, Tensor]:
    """Pixels (n, 3, h, w) uint8 and boxes (n, 4) for one step."""
    architecture = recipe.architecture
    native = partial(native_size.native_size, min_side=architecture.strides[-1])
    size = architecture.size if isinstance(architecture.size, int) else native
    pixels, boxes = [], []
    for row in rows.tolist():
        decoded = images.pixels(row)
        if decoded is None:
            raise ValueError(f"row {row} could not be decoded")
        rng = image_rng(recipe.seed, epoch + 1, images.dataset.names[row])
        crops = augment(decoded, images.box(row), 1, size, rng, first_full=recipe.crops == 1)
        pixels.append(crops.pixels[0])
        boxes.append(crops.boxes[0])
    targets = torch.from_numpy(np.stack(boxes)).float()
    return torch.from_numpy(np.stack(pixels)), clip_to_reach(targets, architecture.cells)


def image_ious(module: nn.Module, images: ImageSource, fabric: Fabric) -> Tensor:
    """IoU of each image with a box (n,) by a localizer; boxes are clipped to the image, as in prediction."""
    rows = images.rows[images.dataset.has_box[images.rows]]

    def batch(chosen: Tensor) -> tuple[Tensor, Tensor]:
        selected = rows[chosen.numpy()]
        pixels = upload(torch.from_numpy(images.as_predicted(selected)), fabric.device).permute(0, 3, 1, 2)
        return pixels.float(), torch.from_numpy(images.boxes(selected)).float()

    return _ious(
        batch, len(rows), module, fabric, _VAL_BATCH_SIZE // 2 if isinstance(images, ImageCache) else 1
    )


def unused_parameters(backbone: nn.Module, coarsest: int) -> list[str]:
    """Names of parameters that no feature map depends on: some timm networks keep stages beyond the last one in use.

    coarsest: stride of the coarsest map. DDP would wait forever for their gradients.
    """
    network = copy.deepcopy(backbone).to("meta").requires_grad_(True).eval()
    maps = network(torch.empty(1, 3, 2 * coarsest, 2 * coarsest, device="meta"))
    torch.stack([feature.sum() for feature in maps]).sum().backward()  # type: ignore[no-untyped-call]
    return [name for name, parameter in network.named_parameters() if parameter.grad is None]


def estimate_finetuning(
    localizer: Localizer, images: int, recipe: Recipe, loss: BoxLoss, fabric: Fabric
) -> float:
    """Seconds that fine-tuning will take, by one step with a grey batch after a warm-up step. Changes nothing."""
    size, steps = recipe.architecture.size, -(-images // recipe.batch)
    height, width = (480, 640) if isinstance(size, str) else (size, size)  # a usual native size
    before = {name: parameter.requires_grad for name, parameter in localizer.named_parameters()}
    localizer.requires_grad_(True).eval()
    batch_slice = Distributed(fabric).batch_slice(min(recipe.batch, images))
    pixels = torch.full((batch_slice.stop - batch_slice.start, 3, height, width), 127.0, device=fabric.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    targets = torch.tensor([[0.25, 0.25, 0.75, 0.75]], device=fabric.device).expand(len(pixels), 4)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        with fabric.autocast():
            output = localizer(pixels)
        with_presence(loss)(output, targets).backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - started
    localizer.zero_grad(set_to_none=True)
    for name, parameter in localizer.named_parameters():
        parameter.requires_grad_(before[name])
    return seconds * steps * recipe.finetune_epochs
