"""The gradient of a batch in parts, on threads that hardly wait for each other: training on a CPU that others use too.

Each thread computes whole parts of the batch, and waits only where statistics of the whole batch are needed. See
`model.threads` for what PyTorch's own threads do.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn

from solobox.model.sync_layers import BatchSlice, Dropout2d, set_batch_slice, sync_layers
from solobox.model.threads import one_thread
from solobox.training.distributed import Distributed
from solobox.training.stages import Batch, Stage

PARTS = 4
"""Parts of a batch. The number is fixed, so that the result depends neither on the number of threads nor on what else
the processors do. With more of them, operations become too small (bench/LOG.md)."""

_MIN_ROWS = 4
_MIN_VALUES = 500_000
"""Rows and input values of a part, at least: of less, starting the operations takes longer than computing them."""


@contextmanager
def gradients(
    stage: Stage, wrapped: _FabricModule, fabric: Fabric
) -> Iterator["WholeBatches | MicroBatches"]:
    """What computes the gradients of a stage's module. wrapped: the module as Fabric has set it up."""
    if fabric.device.type == "cpu" and fabric.world_size == 1 and stage.divisible:
        with MicroBatches(stage, fabric) as micro_batches, one_thread():
            yield micro_batches
    else:
        yield WholeBatches(stage, wrapped, fabric)


def parts_of(batch: Batch) -> int:
    """Into how many parts a batch is cut; it depends on shapes alone."""
    inputs = [batch.inputs] if isinstance(batch.inputs, Tensor) else batch.inputs
    values = sum(each.numel() for each in inputs)
    return max(1, min(PARTS, len(batch.targets) // _MIN_ROWS, values // _MIN_VALUES))


class WholeBatches:
    """Computes gradients of a whole batch, or of a rank's rows of it, at once."""

    def __init__(self, stage: Stage, wrapped: _FabricModule, fabric: Fabric) -> None:
        self._stage, self._wrapped, self._fabric, self._group = stage, wrapped, fabric, Distributed(fabric)
        self._layers = sync_layers(stage.module)

    def backward(self, batch: Batch, *, seed: int, scale: float, sync: bool) -> tuple[Tensor, Tensor]:
        """Add the gradient of `scale` times the loss of a batch to the gradients of the module.

        seed: of dropout. sync: whether ranks exchange gradients now. Returns the loss, a scalar, and the stage's IoUs
        of the batch, (n,), without gradients.
        """
        stage, rows = self._stage, batch.rows
        torch.manual_seed(seed)
        set_batch_slice(self._layers, None if rows.is_all else rows)
        with self._fabric.no_backward_sync(self._wrapped, enabled=not sync):
            output = self._wrapped(batch.inputs)
            loss = stage.loss(output, batch.targets) * self._group.weight(rows)
            self._fabric.backward(loss * scale)
        set_batch_slice(self._layers, None)
        return loss.detach(), _ious(stage, output, batch.targets)


class MicroBatches:
    """Computes the gradients of a stage's module, on the CPU of a single process.

    They are those of the whole batch, up to the order of additions, where the loss of a batch is the mean of those of
    its rows. At most as many threads compute at once as PyTorch uses in the calling thread.

    Use it as a context: its threads end with it.
    """

    def __init__(self, stage: Stage, fabric: Fabric) -> None:
        self._stage, self._fabric = stage, fabric
        self._threads = torch.get_num_threads()
        self._free = threading.Semaphore(self._threads)
        self._replicas = [_replica(stage.module) for _ in range(PARTS)]
        for replica in self._replicas:
            stage.train_mode(replica)
        # A thread for each part, since all parts of a batch wait for each other.
        self._pool = ThreadPoolExecutor(PARTS, "micro-batch", torch.set_num_threads, (1,))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._threads)  # what threads that begin later use

    def backward(self, batch: Batch, *, seed: int, scale: float, sync: bool = True) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `WholeBatches.backward`."""
        total, count = len(batch.targets), parts_of(batch)
        bounds = [total * part // count for part in range(count + 1)]
        sums = _Sums(count, self._free)

        def compute(part: int) -> tuple[Tensor, Tensor]:
            with self._free:
                try:
                    rows = BatchSlice(bounds[part], bounds[part + 1], total)
                    _share(self._replicas[part], rows, partial(sums.add, part), seed)
                    return self._backward(self._replicas[part], batch, rows, scale)
                except BaseException:
                    sums.abort()
                    raise

        futures: list[Future[tuple[Tensor, Tensor]]] = []
        try:
            futures += (self._pool.submit(compute, part) for part in range(count))
            errors = [future.exception() for future in futures]
        except BaseException:  # Ctrl-C: no part may wait for one that is not started
            sums.abort()
            raise
        broken = [error for error in errors if error is not None]
        for error in sorted(broken, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error  # what made the others stop
        self._add_gradients(count)
        losses, ious = zip(*(future.result() for future in futures), strict=True)
        return torch.stack(losses).sum(), torch.cat(ious)

    def _backward(
        self, module: nn.Module, batch: Batch, rows: BatchSlice, scale: float
    ) -> tuple[Tensor, Tensor]:
        inputs, targets = batch.inputs, batch.targets[rows.rows]
        part = inputs[rows.rows] if isinstance(inputs, Tensor) else [each[rows.rows] for each in inputs]
        with self._fabric.autocast():
            output = module(part)
        loss = self._stage.loss(output, targets) * ((rows.stop - rows.start) / rows.total)
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), _ious(self._stage, output, targets)

    def _add_gradients(self, count: int) -> None:
        """Add the gradients of the replicas to those of the module, in the order of the parts."""
        replicas = (replica.parameters() for replica in self._replicas[:count])
        for parameter, *copies in zip(self._stage.module.parameters(), *replicas, strict=True):
            for each in copies:
                if each.grad is not None:
                    parameter.grad = each.grad if parameter.grad is None else parameter.grad.add_(each.grad)
                each.grad = None


def _ious(stage: Stage, output: Any, targets: Tensor) -> Tensor:
    return targets.new_empty(0) if stage.train_iou is None else stage.train_iou(output, targets)


class _Sums:
    """Sums over the threads that compute the parts of a batch; each of them gets the same bits.

    free: what a thread holds while it computes.
    """

    def __init__(self, count: int, free: threading.Semaphore) -> None:
        self._free, self._barrier = free, threading.Barrier(count)
        # Two of them in turn: no thread is two sums ahead of another.
        self._terms: list[list[Tensor]] = [[torch.empty(0)] * count for _ in range(2)]
        self._turns = [0] * count

    def add(self, part: int, tensor: Tensor) -> Tensor:
        """The sum of what all parts bring, as a new tensor."""
        terms = self._terms[self._turns[part]]
        self._turns[part] ^= 1
        terms[part] = tensor
        self._free.release()
        try:
            self._barrier.wait()
        finally:
            self._free.acquire()
        return torch.stack(terms).sum(dim=0)

    def abort(self) -> None:
        """Make all that wait, or will, raise BrokenBarrierError."""
        self._barrier.abort()


def _replica(module: nn.Module) -> nn.Module:
    """A copy of a module with the same memory for weights and buffers, and gradients of its own."""
    weights = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        for weight in module.parameters()
    }
    replica = copy.deepcopy(module, weights | {id(buffer): buffer for buffer in module.buffers()})
    for layer in sync_layers(replica):
        if isinstance(layer, Dropout2d):
            layer.generator = torch.Generator()
    return replica


def _share(replica: nn.Module, rows: BatchSlice, all_reduce: Callable[[Tensor], Tensor], seed: int) -> None:
    """Set what the layers that depend on the whole batch need."""
    layers = sync_layers(replica)
    set_batch_slice(layers, rows)
    for layer in layers:
        if isinstance(layer, Dropout2d):
            assert layer.generator is not None  # noqa: S101
            layer.generator.manual_seed(seed)
        else:
            layer.all_reduce = all_reduce
