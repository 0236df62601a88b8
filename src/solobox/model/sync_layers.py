"""Layers whose result depends on the whole batch, for a batch that several processes (ranks) or threads share.

Each of them gets some rows of the batch. With these layers, and gradients that are added up, training computes what one
alone would on all rows: batch normalization takes the statistics of the whole batch, and dropout draws the mask of the
whole batch from the common seed and uses its own rows of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """Rows from `start` up to, but without, `stop` of a batch of `total`: those that one rank or thread computes."""

    start: int
    stop: int
    total: int

    @property
    def is_all(self) -> bool:
        """Whether the batch is not divided."""
        return self.stop - self.start == self.total

    @property
    def rows(self) -> slice:
        """These rows of the batch."""
        return slice(self.start, self.stop)


def over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all ranks, as a new tensor."""
    total = tensor.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, with the statistics of the whole batch where `batch_slice` has only some of its rows.

    all_reduce: the sum of a tensor over all that share the batch, ranks by default.

    PyTorch's SyncBatchNorm would do that on GPUs alone.
    """

    batch_slice: BatchSlice | None = None
    all_reduce: Callable[[Tensor], Tensor] = staticmethod(over_ranks)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        """(B, C, h, w) to the same. A single value has no statistics; the running ones are then taken."""
        batch_slice = self.batch_slice
        if self.training and input.numel() == input.shape[1] and (batch_slice is None or batch_slice.is_all):
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if not self.training or batch_slice is None or batch_slice.is_all:
            return super().forward(input)
        assert self.weight is not None  # noqa: S101
        count = batch_slice.total * input.shape[2] * input.shape[3]
        out, mean, variance = _SharedNorm.apply(
            input, self.weight, self.bias, count, self.eps, self.all_reduce
        )
        self._update_running(mean, variance * (count / max(count - 1, 1)))
        normalized: Tensor = out
        return normalized

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, whose variance is the unbiased one. Threads have them in common."""
        if self.all_reduce is not over_ranks and self.batch_slice is not None and self.batch_slice.start:
            return
        assert self.running_mean is not None  # noqa: S101
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        assert self.momentum is not None  # noqa: S101
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class Dropout2d(nn.Dropout2d):
    """PyTorch's, with the mask of the whole batch where `batch_slice` has only some of its rows.

    generator: of the mask, PyTorch's default one if None. It must be in the same state for all that share the batch.
    """

    batch_slice: BatchSlice | None = None
    generator: torch.Generator | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        """(B, C, h, w) to the same."""
        batch_slice = self.batch_slice
        whole = batch_slice is None or (batch_slice.is_all and self.generator is None)
        if not self.training or batch_slice is None or whole or self.p == 0:
            return F.dropout2d(input, self.p, self.training)
        # The same draws as PyTorch makes for a batch of so many.
        mask = input.new_empty(batch_slice.total, input.shape[1], 1, 1)
        mask = mask.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)
        return input * mask[batch_slice.rows]


def sync_layers(module: nn.Module) -> list[BatchNorm2d | Dropout2d]:
    """The layers of a module that depend on the whole batch."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNorm2d | Dropout2d)]


def set_batch_slice(layers: Iterable[BatchNorm2d | Dropout2d], batch_slice: BatchSlice | None) -> None:
    """Set the rows of the next batch; None for a whole batch."""
    for layer in layers:
        layer.batch_slice = batch_slice


class _SharedNorm(torch.autograd.Function):
    """Batch normalization by the statistics of all that share a batch, which it returns too: mean and variance (C,)."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Tensor,
        count: int,
        eps: float,
        all_reduce: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Their type is that of the running statistics, which are not wanted here.
        running = torch.zeros_like(weight), torch.zeros_like(weight)
        statistics = torch.batch_norm_update_stats(input, *running, 0.0)
        own_mean, own_variance = (each.double() for each in statistics)
        squares = own_variance + own_mean.square()
        own = torch.stack([own_mean, squares]) * (input.numel() // input.shape[1])
        mean, squares = all_reduce(own) / count
        variance = (squares - mean.square()).clamp(min=0).to(weight.dtype)
        mean = mean.to(weight.dtype)
        ctx.save_for_backward(input, weight, mean, (variance + eps).rsqrt())
        ctx.count, ctx.eps, ctx.all_reduce = count, eps, all_reduce
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(input, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse = ctx.saved_tensors  # noqa: A001
        gradient = gradients[0]
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, input, weight, None, None, mean, inverse, True, ctx.eps, [False, True, True]
        )
        by_weight, by_bias = ctx.all_reduce(torch.stack([of_weight, of_bias])) / ctx.count
        # weight * inverse * (gradient - by_bias - by_weight * normalized), of which most is the same in all cells
        scale = weight * inverse
        slope = -scale * inverse * by_weight
        offset = -scale * by_bias - slope * mean
        scale, slope, offset = (each.to(input.dtype).view(1, -1, 1, 1) for each in (scale, slope, offset))
        of_input = torch.addcmul(offset, input, slope).addcmul_(gradient, scale)
        return of_input, of_weight, of_bias, None, None, None
