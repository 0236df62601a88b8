"""The training loop: optimizer steps, averaged weights, validation after each epoch, the best epoch kept."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from solobox.errors import ConfigError, Paused
from solobox.training.distributed import Distributed
from solobox.training.micro_batches import gradients
from solobox.training.optim import learning_rate, make_optimizer, param_groups, set_learning_rate
from solobox.training.stages import Stage
from solobox.utils.progress import Progress

SYNC_EVERY = 20
"""Steps between two synchronizations of the metrics: each makes a GPU, or the other ranks, wait."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the history.

    train_loss: mean over the batches. train_iou: mean over the training images with a box, None for a stage that
    predicts none. val_iou: mean over the validation images, None where there are none. lr: the last learning rate.
    """

    stage: str
    epoch: int
    train_loss: float
    train_iou: float | None
    val_iou: float | None
    lr: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


Callback: TypeAlias = Callable[[Epoch, nn.Module], object]
"""Called after each epoch with its metrics and the module with the averaged weights, in evaluation mode."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """The history of a stage, and the index of the epoch whose weights were kept."""

    history: list[Epoch]
    best: int


class Checkpointer(Protocol):
    """Stores the state of a running stage, and decides when to pause. Every rank has one; rank 0 writes."""

    def resume(self) -> dict[str, Any] | None:
        """The state to continue from, or None to start."""

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Store the state, after an epoch or before a pause."""

    def should_pause(self, *, epoch_ended: bool) -> bool:
        """Whether to stop now, after a step or an epoch; the state is then saved and `Paused` raised."""


class NullCheckpointer:
    """Stores nothing and never pauses."""

    def resume(self) -> None:
        """Nothing to continue from."""

    def save(self, state: dict[str, Any], history: Sequence[Epoch]) -> None:
        """Drop the state."""

    def should_pause(self, *, epoch_ended: bool) -> bool:  # noqa: ARG002
        """Never."""
        return False


def fit(
    stage: Stage,
    *,
    fabric: Fabric,
    progress: Progress,
    checkpointer: Checkpointer | None = None,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Train `stage.module` in place; it ends in evaluation mode with the averaged weights of the best epoch.

    The best epoch is the last one that is not worse than the highest score by more than chance explains, see
    `within_one_standard_error`; without validation it is the last one.

    fabric: of one process, or of several that train together. The result is that of one process on the same batches,
        up to the order of additions.
    checkpointer: stores the state after each epoch. A run that continues from it gives, bit for bit, what an
        uninterrupted run gives on the same machine, on a CPU; on GPUs the order of additions varies.

    Raises Paused when the checkpointer says so, ConfigError ``loss-not-finite``. The global random state is restored.
    """
    checkpointer, group = checkpointer or NullCheckpointer(), Distributed(fabric)
    module, config = stage.module, stage.optimizer
    groups = param_groups(module, config, backbone_lr=stage.backbone_lr, freeze=stage.freeze)
    optimizer = make_optimizer(config, groups)
    run = _FitState(stage, optimizer, fabric)
    wrapped, stepper = fabric.setup(module, optimizer)
    if (state := checkpointer.resume()) is not None:
        run.load(state)
    total = stage.epochs * stage.steps_per_epoch
    progress.start(stage.name, stage.epochs * stage.batches_per_epoch)
    progress.advance(run.epoch * stage.batches_per_epoch + run.batch)
    on_cpu, note = fabric.device.type == "cpu", ""
    devices = [fabric.device.index or 0] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), gradients(stage, wrapped, fabric) as computed:
        while not run.done:
            stage.train_mode(module)
            started = time.perf_counter()
            for batch in stage.batches(run.epoch, run.batch):
                step = run.epoch * stage.steps_per_epoch + run.batch // config.accumulate
                first = run.batch - run.batch % config.accumulate
                last = min(first + config.accumulate, stage.batches_per_epoch) - 1
                seed = _mix(stage.seed, run.epoch * stage.batches_per_epoch + run.batch)
                loss, ious = computed.backward(
                    batch, seed=seed, scale=1 / (last - first + 1), sync=run.batch == last
                )
                run.add(loss, ious, 1 if batch.rows.is_all else group.size)
                sync = (on_cpu and group.size == 1) or run.batch % SYNC_EVERY == 0
                sync = sync or run.batch == stage.batches_per_epoch
                if sync:  # on one CPU before each step, so that a NaN loss never reaches the weights
                    run.sync_metrics(group, step)
                if run.batch == last + 1:
                    # A one-cycle schedule of a single step would be its end alone.
                    set_learning_rate(stepper, learning_rate(config, step, max(total, 2)))
                    if config.clip:
                        # An infinite gradient is skipped by the scaler of 16-mixed, and reported by `sync_metrics`.
                        fabric.clip_gradients(
                            wrapped, stepper, max_norm=config.clip, error_if_nonfinite=False
                        )
                    stepper.step()
                    stepper.zero_grad()
                    if stage.ema:
                        run.average.update_parameters(module)
                note = run.note() if sync else note
                progress.advance(note=note)
                # Between two steps there are no gradients, which are not part of the state.
                between_steps = run.batch % config.accumulate == 0 and run.batch < stage.batches_per_epoch
                may_pause = between_steps and (group.size == 1 or on_cpu or step % SYNC_EVERY == 0)
                if may_pause and group.any(checkpointer.should_pause(epoch_ended=False)):
                    run.seconds += time.perf_counter() - started
                    run.sync_metrics(group, step)
                    checkpointer.save(run.state(), run.history)
                    raise Paused(f"paused in epoch {run.epoch + 1} of the {stage.name} stage")
            run.seconds += time.perf_counter() - started
            averaged = run.averaged().eval()
            scores = None if stage.validate is None else stage.validate(averaged).float()
            run.end_epoch(scores, learning_rate(config, step, max(total, 2)))
            checkpointer.save(run.state(), run.history)
            if group.is_rank_zero:
                for callback in callbacks:
                    callback(run.history[-1], averaged)
            if group.any(checkpointer.should_pause(epoch_ended=True)) and not run.done:
                raise Paused(f"paused after epoch {run.epoch} of the {stage.name} stage")
    module.load_state_dict(run.best_weights)
    module.eval()
    return FitResult(run.history, run.best)


class _FitState:
    """The state of a running stage: everything that a checkpoint holds."""

    def __init__(self, stage: Stage, optimizer: torch.optim.Optimizer, fabric: Fabric) -> None:
        self.stage, self.module, self.optimizer = stage, stage.module, optimizer
        self.average = AveragedModel(stage.module, multi_avg_fn=ema_update(stage.ema), use_buffers=True)
        self._precision, self._device = fabric.strategy.precision, fabric.device
        self.epoch = self.batch = self.best = self.bad_epochs = 0
        self.seconds = 0.0
        self.sums = self._zeros()
        self.history: list[Epoch] = []
        self.best_scores: Tensor | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or `patience` of them in a row were no new best."""
        return self.epoch == self.stage.epochs or 0 < self.stage.patience <= self.bad_epochs

    def averaged(self) -> nn.Module:
        """The module to validate: with averaged weights, or itself without averaging."""
        return self.average.module if self.stage.ema else self.module

    def add(self, loss: Tensor, ious: Tensor, ranks: int) -> None:
        """Add a batch to the sums. They stay on the device, which need not wait. ranks: those that share the batch."""
        metrics = torch.stack(
            [loss.double(), ious.double().sum() * ranks, loss.new_tensor(len(ious) * ranks).double()]
        )
        self.sums += metrics
        self.batch += 1

    def sync_metrics(self, group: Distributed, step: int) -> None:
        """Average the sums over all ranks. Raises ConfigError where the loss is not finite."""
        self.sums = group.all_reduce_mean(self.sums)
        loss = float(self.sums[0])
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss is {loss} at step {step + 1} of the {self.stage.name} stage: lower the learning rate",
                code="loss-not-finite",
            )

    def note(self) -> str:
        """Text for the progress bar."""
        loss, iou = self._means(self.batch)
        text = f"epoch {self.epoch + 1}/{self.stage.epochs} loss {loss:.3f}"
        return text if iou is None else f"{text} IoU {iou:.3f}"

    def end_epoch(self, scores: Tensor | None, lr: float) -> None:
        """End an epoch: history, early stopping, best weights. scores: (n,) of the validation images."""
        loss, iou = self._means(self.stage.batches_per_epoch)
        mean = None if scores is None else float(scores.mean())
        self.history.append(Epoch(self.stage.name, self.epoch + 1, loss, iou, mean, lr, self.seconds))
        if scores is None:
            keep = True
        else:
            highest = self.best_scores is None or scores.mean() > self.best_scores.mean()
            if self.best_scores is None or highest:
                self.best_scores = scores
            self.bad_epochs = 0 if highest else self.bad_epochs + 1
            keep = within_one_standard_error(scores, self.best_scores)
        if keep:
            self.best, self.best_weights = self.epoch, copy.deepcopy(dict(self.averaged().state_dict()))
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        self.sums = self._zeros()

    def _means(self, batches: int) -> tuple[float, float | None]:
        """Loss of a batch, and IoU of a training image with a box."""
        loss, iou, images = self.sums.tolist()
        return loss / batches, None if self.stage.train_iou is None else iou / max(images, 1)

    def _zeros(self) -> Tensor:
        return torch.zeros(3, dtype=torch.float64, device=self._device)

    def state(self) -> dict[str, Any]:
        """The state as tensors and plain values."""
        return {
            "module": dict(self.module.state_dict()),
            "average": dict(self.average.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "precision": self._precision.state_dict(),
            "bad_epochs": self.bad_epochs,
            "sums": self.sums.cpu(),
            "history": [epoch.to_dict() for epoch in self.history],
            "best_scores": self.best_scores,
            "best_weights": dict(self.best_weights),
            "best": self.best,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        for stateful, name in (
            (self.module, "module"), (self.average, "average"), (self.optimizer, "optimizer"),
            (self._precision, "precision"),
        ):  # fmt: skip
            stateful.load_state_dict(state[name])
        self.sums = state["sums"].to(self._device)
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best_scores, self.best_weights = state["best_scores"], state["best_weights"]
        for name in ("best", "bad_epochs", "epoch", "batch", "seconds"):
            setattr(self, name, state[name])


def ema_update(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average for `AveragedModel`, with a warm-up.

    The decay of update n is ``(1 + n) / (10 + n)`` at most. Integers, such as counts of batches, are copied.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for mean, value in zip(averaged, current, strict=True):
                mean.copy_(value)
            return
        weight = 1 - ((1 + torch.as_tensor(count)) / (10 + torch.as_tensor(count))).clamp(max=decay)
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, weight.to(mean.dtype))  # a tensor, so that a GPU does not wait

    return update


def within_one_standard_error(scores: Tensor, best: Tensor) -> bool:
    """Whether scores (n,) of an epoch are within one standard error of the best ones, image by image.

    The one-standard-error rule (Breiman et al., 1984). With a few validation images the highest mean is mostly luck;
    of epochs that do not differ significantly, the later one, at a lower learning rate, is the better choice.
    """
    behind = best - scores
    error = behind.std() / len(behind) ** 0.5 if len(behind) > 1 else torch.zeros(())
    return bool(behind.mean() <= error)


def _mix(seed: int, step: int) -> int:
    """One seed from two numbers, by 64-bit multiplicative hashing."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 1) % 2**63
