"""The quick stage: vectorizer and head, trained on feature maps that are kept."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.localizer.head import Output
from solobox.localizer.localizer import Localizer, decide
from solobox.localizer.losses import Loss, box_iou, within_reach
from solobox.training.features import Kept
from solobox.training.loop import Batch, Epoch, Keeper, Schedule, fit
from solobox.training.on_device import uploaded
from solobox.training.progress import Progress
from solobox.training.ranks import Ranks
from solobox.training.recipe import Recipe


class Decide(nn.Module):
    """The parts of a localizer after its trunk as a module of their own: maps in, `Output` out."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.extra, self.vectorizer, self.head = localizer.extra, localizer.vectorizer, localizer.head
        self.presence = localizer.presence

    def forward(self, maps: list[Tensor]) -> Output:
        """Feature maps in any float type; computed in the weights' type, or autocast's."""
        if not torch.is_autocast_enabled(maps[0].device.type):
            maps = [feature.float() for feature in maps]
        return decide(self.extra, self.vectorizer, self.head, self.presence, maps)


def ious(module: nn.Module, kept: Kept, fabric: Fabric) -> Tensor:
    """IoU of each kept picture with the object (N,) by a head, boxes clipped to the picture as in prediction.

    Of several ranks each measures its share, no picture twice; all get all figures.
    """
    ranks = Ranks(fabric)
    having = torch.isfinite(kept.targets).all(dim=1).nonzero().flatten()
    found = torch.zeros(len(having))
    with torch.inference_mode():
        for places in torch.split(torch.arange(len(having))[ranks.rank :: ranks.size], 64):
            if not len(places):  # fewer pictures than ranks
                continue
            rows = having[places]
            with fabric.autocast():
                boxes = module(kept.maps(rows, fabric.device)).boxes
            found[places] = box_iou(boxes.float().cpu().clamp(0, 1), kept.targets[rows])
    return ranks.total(found)


def fit_head(
    head: nn.Module,
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

    rows: of the views to train on, all by default.
    """
    ranks = ranks or Ranks()
    used = torch.arange(len(kept)) if rows is None else rows

    def batches(epoch: int, start: int) -> Iterator[Batch]:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(used))
        for together in torch.split(used[torch.from_numpy(order)], recipe.batch)[start:]:
            part = ranks.part(len(together))
            own = together[part.rows]
            targets = within_reach(kept.targets[own], recipe.architecture.cells)
            yield kept.maps(own, fabric.device), uploaded(targets, fabric.device), part

    schedule = Schedule(
        stage, recipe.passes(len(used)), -(-len(used) // recipe.batch), recipe.optimizing, recipe.ema,
        recipe.seed, recipe.patience,
    )  # fmt: skip
    return fit(head, batches, score, loss, schedule, fabric=fabric, progress=progress, keeper=keeper)
