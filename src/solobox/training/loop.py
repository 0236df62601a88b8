"""The loop: steps, a running average of the weights, a score after each epoch, the best epoch kept."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.errors import ConfigError
from solobox.localizer.losses import Loss, box_iou
from solobox.training.progress import Progress

if TYPE_CHECKING:
    from solobox.localizer.head import Output

Batch = tuple[Any, Tensor]
"""What the module takes, and the targets (B, 4) as fractions of the input's sides."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the history. `val_iou` is the mean over the validation pictures."""

    stage: str
    epoch: int
    train_loss: float
    train_iou: float
    val_iou: float
    lr: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train. `seed` decides dropout, step by step."""

    stage: str
    epochs: int
    steps: int
    lr: float
    weight_decay: float
    ema: float
    seed: int


def fit(
    module: nn.Module,
    batches: Callable[[int], Iterator[Batch]],
    score: Callable[[nn.Module], Tensor],
    loss: Loss,
    schedule: Schedule,
    *,
    fabric: Fabric,
    progress: Progress,
    to_train: Callable[[nn.Module], object] = nn.Module.train,
) -> tuple[list[Epoch], int]:
    """Train the parameters of `module` that want gradients; it ends with the chosen epoch's averaged weights.

    Chosen is the last epoch that is not worse than the best one by more than chance would make it, see `not_worse`.

    module: takes a batch's first part and gives an `Output`.
    batches: the batches of an epoch, counted from 0; `schedule.steps` of them.
    score: of a module in evaluation mode, one figure for each validation picture, higher is better.
    to_train: how the module is put into training mode.

    Gives the history and the chosen epoch's place in it.

    AdamW on one cycle of the learning rate (Smith and Topin, 2018), gradients clipped to a norm of 1. The global
    random state is left as it was.
    """
    learnt = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=schedule.lr, weight_decay=schedule.weight_decay)
    total = schedule.epochs * schedule.steps
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.lr, total_steps=max(total, 2), pct_start=0.15, cycle_momentum=False
    )
    average = copy.deepcopy(module).eval()
    wrapped, optimizer = fabric.setup(module, optimizer)
    history: list[Epoch] = []
    kept = 0
    best: Tensor | None = None
    chosen: dict[str, Tensor] = {}
    progress.start(schedule.stage, total)
    step = 0
    with torch.random.fork_rng(devices=_devices(fabric)):
        for epoch in range(schedule.epochs):
            to_train(module)
            started, sums = time.perf_counter(), torch.zeros(2)
            rate = float(cycle.get_last_lr()[0])
            for inputs, targets in batches(epoch):
                torch.manual_seed(_mix(schedule.seed, step))
                output: Output = wrapped(inputs)
                value = loss(output, targets)
                if not torch.isfinite(value):
                    raise ConfigError(
                        f"the loss is {float(value)} at step {step + 1} of {schedule.stage}: lower the rate"
                    )
                optimizer.zero_grad()
                fabric.backward(value)
                torch.nn.utils.clip_grad_norm_(learnt, 1.0)
                optimizer.step()
                cycle.step()
                step += 1
                _follow(average, module, min(schedule.ema, (1 + step) / (10 + step)))
                with torch.no_grad():
                    iou = box_iou(output.boxes, targets).mean()
                    sums += torch.stack([value.detach(), iou]).cpu()
                progress.advance(
                    note=f"epoch {epoch + 1}/{schedule.epochs}  loss {sums[0] / _done(step, schedule):.3f}"
                )
            train_loss, train_iou = (sums / schedule.steps).tolist()
            seconds = time.perf_counter() - started
            scores = score(average).float()
            reached = float(scores.mean())
            history.append(Epoch(schedule.stage, epoch + 1, train_loss, train_iou, reached, rate, seconds))
            if best is None or float(scores.mean()) > float(best.mean()):
                best = scores
            if not_worse(scores, best):
                kept, chosen = len(history) - 1, copy.deepcopy(average.state_dict())
    module.load_state_dict(chosen)
    module.eval()
    return history, kept


def not_worse(scores: Tensor, best: Tensor) -> bool:
    """Whether scores (N,) of an epoch are within one standard error of those of the best, picture by picture.

    The one-standard-error rule (Breiman et al., 1984): with a few validation pictures the highest mean is mostly
    luck, and of epochs that cannot be told apart the later one, at the lower learning rate, is the better bet.
    """
    behind = best - scores
    error = behind.std() / len(behind) ** 0.5 if len(behind) > 1 else torch.zeros(())
    return bool(behind.mean() <= error)


def _done(step: int, schedule: Schedule) -> int:
    return (step - 1) % schedule.steps + 1


def _devices(fabric: Fabric) -> Sequence[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []


def _mix(seed: int, step: int) -> int:
    """One number of two, since the generator takes one; 64-bit multiplicative hashing."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 1) % 2**63


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the running average a step towards the module: floating point tensors; others are copied."""
    for own, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(new, 1 - decay)
        else:
            own.copy_(new)
