"""Layers whose result depends on the whole batch, for a batch that several processes (ranks) share.

Each rank gets some rows of the batch. With these layers, and gradients that are averaged over the ranks, training
computes what one process alone would on all rows: batch normalization takes the statistics of the whole batch, and
dropout draws the mask of the whole batch from the common seed and uses the rank's rows of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class BatchSlice:
    """Rows from `start` up to, but without, `stop` of a batch of `total`: those that one rank computes."""

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


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, with the statistics of the whole batch where `batch_slice` has only some of its rows.

    PyTorch's SyncBatchNorm would do that on GPUs alone.
    """

    batch_slice: BatchSlice | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        """(B, C, h, w) to the same. A single value has no statistics; the running ones are then taken."""
        batch_slice = self.batch_slice
        if self.training and input.numel() == input.shape[1] and (batch_slice is None or batch_slice.is_all):
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if not self.training or batch_slice is None or batch_slice.is_all:
            return super().forward(input)
        wide = input.float()
        count = batch_slice.total * input.shape[2] * input.shape[3]
        mean = _all_reduce(wide.sum(dim=(0, 2, 3))) / count
        centered = wide - mean.view(1, -1, 1, 1)
        variance = _all_reduce(centered.square().sum(dim=(0, 2, 3))) / count
        self._update_running(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, whose variance is the unbiased one."""
        assert self.running_mean is not None  # noqa: S101
        assert self.running_var is not None  # noqa: S101
        assert self.num_batches_tracked is not None  # noqa: S101
        assert self.momentum is not None  # noqa: S101
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class Dropout2d(nn.Dropout2d):
    """PyTorch's, with the mask of the whole batch where `batch_slice` has only some of its rows.

    All ranks must have the same random state.
    """

    batch_slice: BatchSlice | None = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        """(B, C, h, w) to the same."""
        batch_slice = self.batch_slice
        if not self.training or batch_slice is None or batch_slice.is_all or self.p == 0:
            return F.dropout2d(input, self.p, self.training)
        # The same draws as PyTorch makes for a batch of so many.
        mask = (
            input.new_empty(batch_slice.total, input.shape[1], 1, 1).bernoulli_(1 - self.p).div_(1 - self.p)
        )
        return input * mask[batch_slice.rows]


def sync_layers(module: nn.Module) -> list[BatchNorm2d | Dropout2d]:
    """The layers of a module that depend on the whole batch."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNorm2d | Dropout2d)]


def set_batch_slice(layers: Iterable[BatchNorm2d | Dropout2d], batch_slice: BatchSlice | None) -> None:
    """Set the rows of the next batch; None for a whole batch."""
    for layer in layers:
        layer.batch_slice = batch_slice


def _all_reduce(tensor: Tensor) -> Tensor:
    """The sum over all ranks, differentiable."""
    total: Tensor = _Sum.apply(tensor)
    return total


class _Sum(torch.autograd.Function):
    """The sum over all ranks; the gradient of a sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradients[0])


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(total)
    return total
