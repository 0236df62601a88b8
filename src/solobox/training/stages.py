"""The quick stage: vectorizer and head, trained on feature maps that are kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.config.recipe import Recipe
from solobox.model.heads import Output
from solobox.model.localizer import Localizer, decide
from solobox.model.losses import Loss, box_iou, within_reach
from solobox.model.presence import Presence
from solobox.training.distributed import Ranks
from solobox.training.feature_cache import Kept
from solobox.training.loop import Batch, Epoch, Keeper, Schedule, fit
from solobox.training.on_device import uploaded
from solobox.utils.progress import Progress


class Decide(nn.Module):
    """The parts of a localizer after its backbone as a module of their own: maps in, `Output` out."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.extra, self.vectorizer, self.head = localizer.extra, localizer.vectorizer, localizer.head
        self.presence = localizer.presence

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps in any float type; computed in the weights' type, or autocast's."""
        return decide(self.extra, self.vectorizer, self.head, self.presence, _as_computed(maps))


def ious(module: nn.Module, kept: Kept, fabric: Fabric) -> Tensor:
    """IoU of each kept image with the object (N,) by a head, boxes clipped to the image as in prediction.

    Of several ranks each measures its share, no image twice; all get all figures.
    """
    ranks = Ranks(fabric)
    having = torch.isfinite(kept.targets).all(dim=1).nonzero().flatten()
    found = torch.zeros(len(having))
    with torch.inference_mode():
        for places in torch.split(torch.arange(len(having))[ranks.rank :: ranks.size], 64):
            if not len(places):  # fewer images than ranks
                continue
            rows = having[places]
            with fabric.autocast():
                boxes = module(kept.maps(rows, fabric.device)).boxes
            found[places] = box_iou(boxes.float().cpu().clamp(0, 1), kept.targets[rows])
    return ranks.total(found)


class _Boxes(nn.Module):
    """What finds the box, of a `Decide`."""

    def __init__(self, parts: Decide) -> None:
        super().__init__()
        self.extra, self.vectorizer, self.head = parts.extra, parts.vectorizer, parts.head

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps to boxes."""
        return decide(self.extra, self.vectorizer, self.head, None, _as_computed(maps))


class _Branch(nn.Module):
    """The branch of presence as training's loop wants it: beside its logits, boxes that mean nothing."""

    def __init__(self, presence: Presence) -> None:
        super().__init__()
        self.presence = presence

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps to logits."""
        logits = self.presence(_as_computed(maps))
        return Output(logits.new_zeros(len(logits), 4), presence=logits)


def fit_head(
    head: Decide,
    kept: Kept,
    score: Callable[[nn.Module], Tensor],
    recipe: Recipe,
    loss: Loss,
    *,
    fabric: Fabric,
    progress: Progress,
    keeper: Keeper | None = None,
    ranks: Ranks | None = None,
    rows: Tensor | None = None,
    stage: str = "head",
) -> tuple[list[Epoch], int]:
    """Train `head` in place on kept maps; what it gives, `score` and `keeper` are those of `fit`.

    rows: of the views to train on, all by default. Boxes are learnt from those with the object alone, as if there were
    no others, and then presence, which shares no weights with them, from all: together the one cost the other 0.006 of
    IoU (bench/LOG.md).
    """
    used = torch.arange(len(kept)) if rows is None else rows
    having = used[torch.isfinite(kept.targets[used]).all(dim=1)]
    found = _fit(
        _Boxes(head), kept, score, recipe, loss, having, fabric=fabric, progress=progress, keeper=keeper,
        ranks=ranks, stage=stage,
    )  # fmt: skip
    if head.presence is not None:
        fit_presence(
            head.presence, kept, recipe, used, fabric=fabric, progress=progress, ranks=ranks,
            stage="presence" if stage == "head" else f"{stage}, presence",
        )  # fmt: skip
    return found


def fit_presence(
    presence: Presence,
    kept: Kept,
    recipe: Recipe,
    rows: Tensor,
    *,
    fabric: Fabric,
    progress: Progress,
    ranks: Ranks | None = None,
    stage: str = "presence",
) -> None:
    """Train the branch in place on some of the views that are kept, with the object and without.

    It ends with the last epoch: nothing is held out to choose by.
    """
    loss, patient = Loss(()), replace(recipe, patience=0)
    _fit(
        _Branch(presence), kept, lambda _: torch.zeros(1), patient, loss, rows,
        fabric=fabric, progress=progress, ranks=ranks, stage=stage,
    )  # fmt: skip


def _fit(
    module: nn.Module,
    kept: Kept,
    score: Callable[[nn.Module], Tensor],
    recipe: Recipe,
    loss: Loss,
    used: Tensor,
    *,
    fabric: Fabric,
    progress: Progress,
    stage: str,
    keeper: Keeper | None = None,
    ranks: Ranks | None = None,
) -> tuple[list[Epoch], int]:
    ranks = ranks or Ranks()

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(used))
        for together in torch.split(used[torch.from_numpy(order)], recipe.batch)[start:]:
            part = ranks.part(len(together))
            own = together[part.rows]
            targets = within_reach(kept.targets[own], recipe.architecture.cells)
            yield kept.maps(own, fabric.device), uploaded(targets, fabric.device), part

    schedule = Schedule(
        stage, recipe.passes(len(used)), -(-len(used) // recipe.batch), recipe.optimizer_config, recipe.ema,
        recipe.seed, recipe.patience,
    )  # fmt: skip
    return fit(module, batches, score, loss, schedule, fabric=fabric, progress=progress, keeper=keeper)


def _as_computed(maps: list[Tensor]) -> list[Tensor]:
    """Kept maps in the type of the weights, or as they are where autocast will see to it."""
    return maps if torch.is_autocast_enabled(maps[0].device.type) else [feature.float() for feature in maps]
