"""The loop: steps, a running average of the weights, a score after each epoch, the best epoch kept."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.config.optim import OptimizerConfig
from solobox.errors import ConfigError, Paused
from solobox.model.losses import Loss, box_iou
from solobox.model.sync_layers import Part, sharing, tell
from solobox.training.distributed import Ranks
from solobox.training.optim import EarlyStopping, groups, make, rate, set_rate
from solobox.utils.progress import Progress

if TYPE_CHECKING:
    from solobox.model.heads import Output

Batch = tuple[Any, Tensor, Part]
"""What the module takes, the targets (B, 4) as fractions of the input's sides, and which part of a batch this is.

A row of targets is NaN where the object is not in the image."""

_LOOK = 20
"""Steps between two looks at what is elsewhere: each makes a GPU, or the other ranks, wait."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the history. `val_iou` is the mean over the validation images."""

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
    """How long and how fast to train.

    epochs: at most. batches: in an epoch. patience: see `EarlyStopping`. backbone_lr, freeze: see `groups`.
    ema: decay of the running average at each step, 0 for none. seed: decides dropout, step by step.
    """

    stage: str
    epochs: int
    batches: int
    optimizer_config: OptimizerConfig
    ema: float
    seed: int
    patience: int = 0
    backbone_lr: float = 1.0
    freeze: int = 0

    @property
    def steps(self) -> int:
        """Changes of the weights in an epoch."""
        return -(-self.batches // self.optimizer_config.accumulate)


class Keeper(Protocol):
    """Where the state of a running stage goes, so that it can go on later; and who says when to pause.

    On several ranks each has one of its own, all are asked, and the main one's alone writes.
    """

    def resumed(self) -> dict[str, Any] | None:
        """The state to go on from, or None to begin."""

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Keep the state after an epoch."""

    def pause(self, *, epoch_ended: bool) -> bool:
        """Whether to stop now, after a step or after an epoch; what was done is then kept and `Paused` raised."""


class Forgets:
    """A keeper that keeps nothing and never pauses."""

    def resumed(self) -> None:
        """Nothing to go on from."""

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Forget the state."""

    def pause(self, *, epoch_ended: bool) -> bool:  # noqa: ARG002
        """Go on."""
        return False


def fit(
    module: nn.Module,
    batches: Callable[[int, int], Iterator[Batch]],
    score: Callable[[nn.Module], Tensor],
    loss: Loss,
    schedule: Schedule,
    *,
    fabric: Fabric,
    progress: Progress,
    keeper: Keeper | None = None,
    to_train: Callable[[nn.Module], object] = nn.Module.train,
) -> tuple[list[Epoch], int]:
    """Train the parameters of `module` that want gradients; it ends with the chosen epoch's averaged weights.

    Chosen is the last epoch that is not worse than the best one by more than chance would make it, see `not_worse`.

    module: takes a batch's first part and gives an `Output`.
    batches: of an epoch and a place in it, both counted from 0: the batches from there on, `schedule.batches` in a
        whole epoch, of each what this rank is shown (`Ranks.part`). A function of these two alone.
    score: of a module in evaluation mode, one figure for each validation image, higher is better; on every rank
        the same.
    fabric: of one process, or of several that train together: they give what one would on the same batches, up to the
        order in which numbers are added.
    to_train: how the module is put into training mode.
    keeper: keeps the state after each epoch. Going on from such a state gives, bit for bit, what an uninterrupted
        run gives on the same machine, if that trains on the CPU; GPUs add in an order of their own.

    Gives the history and the chosen epoch's place in it. Raises Paused when the keeper says so. The global random
    state is left as it was.
    """
    keeper, ranks = keeper or Forgets(), Ranks(fabric)
    parts = groups(module, backbone_lr=schedule.backbone_lr, freeze=schedule.freeze)
    settings = schedule.optimizer_config
    run = _Run(
        module, make(settings, parts), copy.deepcopy(module).eval(), EarlyStopping(schedule.patience), fabric
    )
    wrapped, optimizer = fabric.setup(module, run.optimizer)
    layers = sharing(module)
    state = keeper.resumed()
    if state is not None:
        run.load(state)
    follow = _Follower(run.average, module)
    total = schedule.epochs * schedule.steps
    progress.start(schedule.stage, schedule.epochs * schedule.batches)
    progress.advance(run.epoch * schedule.batches + run.place)
    on_cpu, note = fabric.device.type == "cpu", ""
    with torch.random.fork_rng(devices=_devices(fabric)):
        while run.epoch < schedule.epochs and not run.stopping.done:
            to_train(module)
            started = time.perf_counter()
            for inputs, targets, part in batches(run.epoch, run.place):
                step = run.epoch * schedule.steps + run.place // settings.accumulate
                first = run.place - run.place % settings.accumulate
                last = min(first + settings.accumulate, schedule.batches) - 1
                torch.manual_seed(_mix(schedule.seed, run.epoch * schedule.batches + run.place))
                tell(layers, None if part.is_all else part)
                weight = ranks.weight(part)
                with fabric.no_backward_sync(wrapped, enabled=run.place != last):
                    output: Output = wrapped(inputs)
                    value = loss(output, targets) * weight
                    fabric.backward(value / (last - first + 1))
                run.add(value.detach(), *_overlap(output.boxes.detach(), targets, weight))
                looks = (
                    (on_cpu and ranks.size == 1) or run.place % _LOOK == 0 or run.place == schedule.batches
                )
                if looks:
                    # Before the weights follow it, where that costs nothing.
                    run.look(ranks, f"step {step + 1} of the {schedule.stage} stage")
                if run.place == last + 1:
                    # one cycle of a single step would be all end and no cycle
                    set_rate(optimizer, rate(settings, step, max(total, 2)))
                    if settings.clip:
                        # An infinite gradient is for the scaler of 16-mixed to skip, and for `look` to tell of.
                        fabric.clip_gradients(
                            wrapped, optimizer, max_norm=settings.clip, error_if_nonfinite=False
                        )
                    optimizer.step()
                    optimizer.zero_grad()
                    if schedule.ema:
                        follow(min(schedule.ema, (2 + step) / (11 + step)))
                note = run.note(schedule.epochs) if looks else note
                progress.advance(note=note)
                # Between two steps there are no gradients, which are no part of the state.
                between = run.place % settings.accumulate == 0 and run.place < schedule.batches
                asked = between and (ranks.size == 1 or on_cpu or step % _LOOK == 0)
                if asked and ranks.any(keeper.pause(epoch_ended=False)):
                    run.seconds += time.perf_counter() - started
                    run.look(ranks, f"step {step + 1} of the {schedule.stage} stage")
                    keeper.save(run.state(), run.history)
                    raise Paused(f"paused in epoch {run.epoch + 1} of the {schedule.stage} stage")
            tell(layers, None)
            run.seconds += time.perf_counter() - started
            if not schedule.ema:
                follow(0.0)
            run.end_epoch(score(run.average).float(), schedule, rate(settings, step, max(total, 2)))
            keeper.save(run.state(), run.history)
            over = run.epoch == schedule.epochs or run.stopping.done
            if ranks.any(keeper.pause(epoch_ended=True)) and not over:
                raise Paused(f"paused after epoch {run.epoch} of the {schedule.stage} stage")
    module.load_state_dict(run.chosen)
    module.eval()
    return run.history, run.kept


class _Run:
    """What changes while a stage trains: all that has to be kept to go on with it later."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: nn.Module,
        stopping: EarlyStopping,
        fabric: Fabric,
    ) -> None:
        self.module, self.optimizer, self.average, self.stopping = module, optimizer, average, stopping
        self._precision = fabric.strategy.precision
        self.epoch = self.place = self.kept = 0
        self.seconds = 0.0
        self._device = fabric.device
        self.sums = self._nothing()
        self.history: list[Epoch] = []
        self.best: Tensor | None = None
        self.chosen: dict[str, Tensor] = {}

    def add(self, loss: Tensor, iou: Tensor, present: Tensor) -> None:
        """A batch is done. The sums stay on the device: to fetch them would make it wait."""
        self.sums += torch.stack([loss, iou, present]).to(self.sums.dtype)
        self.place += 1

    def look(self, ranks: Ranks, where: str) -> None:
        """Make the sums those of all ranks. Raises ConfigError where the loss is no longer a number."""
        self.sums = ranks.mean(self.sums)
        value = float(self.sums[0])
        if not math.isfinite(value):
            raise ConfigError(f"the loss is {value} at {where}: lower the learning rate")

    def note(self, epochs: int) -> str:
        """Where it is, for the progress bar."""
        loss, iou = self._means(self.place)
        return f"epoch {self.epoch + 1}/{epochs} loss {loss:.3f} IoU {iou:.3f}"

    def end_epoch(self, scores: Tensor, schedule: Schedule, lr: float) -> None:
        """All batches of an epoch are done, and its averaged weights reached `scores`."""
        loss, iou = self._means(schedule.batches)
        reached = float(scores.mean())
        self.history.append(Epoch(schedule.stage, self.epoch + 1, loss, iou, reached, lr, self.seconds))
        is_best = self.best is None or reached > float(self.best.mean())
        if self.best is None or is_best:
            self.best = scores
        if not_worse(scores, self.best):
            self.kept, self.chosen = self.epoch, copy.deepcopy(self.average.state_dict())
        self.stopping.update(is_best)
        self.epoch, self.place, self.seconds = self.epoch + 1, 0, 0.0
        self.sums = self._nothing()

    def _means(self, batches: int) -> tuple[float, float]:
        """Loss of a batch, and IoU of an image with the object (0 where there was none)."""
        loss, iou, present = self.sums.tolist()
        return loss / batches, iou / present if present else 0.0

    def _nothing(self) -> Tensor:
        return torch.zeros(3, dtype=torch.float64, device=self._device)

    def state(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        return {
            "module": dict(self.module.state_dict()),
            "average": dict(self.average.state_dict()),
            "chosen": dict(self.chosen),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "sums": self.sums.cpu(),
            "precision": self._precision.state_dict(),
            "epoch": self.epoch,
            "place": self.place,
            "kept": self.kept,
            "seconds": self.seconds,
            "stopping": self.stopping.state_dict(),
            "history": [line.to_dict() for line in self.history],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._precision.load_state_dict(state.get("precision", {}))
        self.chosen, self.best = state["chosen"], state["best"]
        self.sums = state["sums"].to(self._device)
        self.epoch, self.place, self.kept = state["epoch"], state["place"], state["kept"]
        self.seconds = state["seconds"]
        self.stopping.load_state_dict(state["stopping"])
        self.history = [Epoch(**line) for line in state["history"]]


def _overlap(boxes: Tensor, targets: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The sum of IoUs and the number of images with the object, both as shares of a batch and weighted."""
    overlap = box_iou(boxes, targets)
    present = torch.isfinite(overlap)
    return torch.where(present, overlap, 0).mean() * weight, present.float().mean() * weight


def not_worse(scores: Tensor, best: Tensor) -> bool:
    """Whether scores (N,) of an epoch are within one standard error of those of the best, image by image.

    The one-standard-error rule (Breiman et al., 1984): with a few validation images the highest mean is mostly
    luck, and of epochs that cannot be told apart the later one, at the lower learning rate, is the better bet.
    """
    behind = best - scores
    error = behind.std() / len(behind) ** 0.5 if len(behind) > 1 else torch.zeros(())
    return bool(behind.mean() <= error)


def _devices(fabric: Fabric) -> Sequence[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []


def _mix(seed: int, step: int) -> int:
    """One number of two, since the generator takes one; 64-bit multiplicative hashing."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 1) % 2**63


class _Follower:
    """Moves the running average a step towards the module: floating point tensors; others are copied.

    The lists are made once and all tensors of one moved by one call: a few kernels on a GPU rather than one for each
    tensor. Both modules must keep their tensors, whose numbers alone may change.
    """

    def __init__(self, average: nn.Module, module: nn.Module) -> None:
        self._moved: tuple[list[Tensor], list[Tensor]] = [], []
        self._copied: tuple[list[Tensor], list[Tensor]] = [], []
        for own, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
            lists = self._moved if own.is_floating_point() else self._copied
            lists[0].append(own)
            lists[1].append(new)

    @torch.no_grad()
    def __call__(self, decay: float) -> None:
        """decay: what stays of the average."""
        torch._foreach_lerp_(*self._moved, 1 - decay)
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)
