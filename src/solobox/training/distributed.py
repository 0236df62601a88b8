"""Distributed training: launching the processes (ranks), dividing the work, and collective operations.

Fabric (`devices`), torchrun or SLURM starts the processes. Every rank runs the whole program; only rank 0 writes files,
logs and reports.
"""

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from solobox.config.recipe import Accelerator, Precision, Recipe
from solobox.errors import ConfigError, SoloboxError
from solobox.model.runtime import has_fast_bf16
from solobox.model.sync_layers import BatchSlice
from solobox.utils.concurrency import is_main_process

T = TypeVar("T")

# Fabric reports its precision with every start; `lightning_fabric` sets its level to INFO when it is imported.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

_TIMEOUT = timedelta(days=1)
"""How long a rank waits for others, which may decode larger images. The launcher detects dead processes."""


def check_accelerator(accelerator: str) -> None:
    """Raise ConfigError ``no-accelerator`` for ``cuda`` where PyTorch finds no GPU."""
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "accelerator cuda: PyTorch finds no GPU here. Use `auto` or `cpu`, or install a PyTorch for its driver",
            code="no-accelerator",
        )


def launch_fabric(accelerator: str, precision: Any, *, devices: int, nodes: int) -> Fabric:
    """Launch a Fabric with so many devices on each of so many hosts.

    accelerator: see `Recipe`. devices, nodes: 0 for those of torchrun or SLURM, or 1.

    Raises ConfigError (code ``distributed``) where that is impossible or contradicts the launcher.
    """
    check_accelerator(accelerator)
    if accelerator == "auto":  # Fabric's own choice would be Apple's MPS, which has no float64
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    launched = started_processes()
    requested = devices or launched[0], nodes or launched[1]
    if launched != (1, 1) and requested != launched:
        raise ConfigError(
            f"devices {requested[0]} and nodes {requested[1]} contradict the launcher, which started {launched[0]} "
            f"processes on each of {launched[1]} hosts: leave --devices and --nodes out, or make them agree",
            code="distributed",
        )
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if launched == (1, 1) and requested[1] > 1 and missing:
        raise ConfigError(
            f"{requested[1]} nodes cannot find each other: start this with torchrun or "
            f"SLURM on each of them, or set {', '.join(missing)}",
            code="distributed",
        )
    distributed = requested != (1, 1)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            strategy=DDPStrategy(timeout=_TIMEOUT) if distributed else "auto",
            devices=requested[0],
            num_nodes=requested[1],
            precision=precision,
        )
        if distributed:
            fabric.launch()
            atexit.register(_leave_group)
    except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(
            f"{requested[0]} devices on {requested[1]} hosts cannot be used here: {error}", code="distributed"
        ) from error
    if fabric.world_size != requested[0] * requested[1]:
        raise ConfigError(
            f"{requested[0]} devices on {requested[1]} hosts need as many processes, not {fabric.world_size}: "
            "start as many as devices (with SLURM: --ntasks-per-node)",
            code="distributed",
        )
    if not distributed and not is_main_process():
        raise ConfigError(
            "by the environment (RANK, SLURM_PROCID, ...), this process is not the first of its job, but it was not "
            "started for distributed training: use torchrun, or a SLURM job that is not `interactive`",
            code="distributed",
        )
    return fabric


def _leave_group() -> None:
    """At exit: Fabric does this for NCCL only, and Gloo's threads abort a process that ends while they wait."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def started_processes() -> tuple[int, int]:
    """Processes on each host, and hosts, as torchrun or SLURM started them; (1, 1) where neither did."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return local, max(int(os.environ.get("WORLD_SIZE", "1")) // local, 1)
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return max(int(os.environ["SLURM_NTASKS"]) // nodes, 1), nodes
    return 1, 1


class Distributed:
    """The group of processes (ranks) that train together; its methods are collective operations.

    fabric: whose processes have been launched; None for a single process.

    size, rank, is_rank_zero: the number of ranks, this rank, and whether it is the one that writes and reports.
    local_size, local_rank, node: the same on this host, and the number of the host.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric if fabric is not None and fabric.world_size > 1 else None
        self.size, self.rank, self.local_rank, self.node, self.local_size = 1, 0, 0, 0, 1
        if self._fabric is not None:
            self.size, self.rank = self._fabric.world_size, self._fabric.global_rank
            self.local_rank, self.node = self._fabric.local_rank, self._fabric.node_rank
            self.local_size = int(getattr(self._fabric.strategy, "num_processes", 1))
        self.is_rank_zero = self.rank == 0

    def batch_slice(self, total: int) -> BatchSlice:
        """The rows of a batch that this rank computes; a batch smaller than the group goes to every rank as a whole."""
        if total < self.size:
            return BatchSlice(0, total, total)
        each, rest = divmod(total, self.size)
        start = self.rank * each + min(self.rank, rest)
        return BatchSlice(start, start + each + (self.rank < rest), total)

    def weight(self, rows: BatchSlice) -> float:
        """The weight of this rank's loss: with it, the mean over ranks is the mean over the batch."""
        return 1.0 if rows.is_all else (rows.stop - rows.start) * self.size / rows.total

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, bit for bit the same on each."""
        if self._fabric is None:
            return tensor
        copy = tensor.to(self._fabric.device, copy=True)
        torch.distributed.all_reduce(copy)
        return copy.to(tensor.device)

    def all_reduce_mean(self, tensor: Tensor) -> Tensor:
        """The mean over all ranks."""
        return self.all_reduce_sum(tensor) / self.size if self._fabric else tensor

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """Whether the flag is true on any rank."""
        return bool(self.all_reduce_sum(torch.tensor(float(flag)))) if self._fabric else flag

    def all_gather(self, value: T) -> list[T]:
        """The value of each rank, by rank."""
        if self._fabric is None:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """At the end of the block, raise on all ranks what it raised on any, so that none waits forever."""
        if self._fabric is None:
            yield
            return
        error: SoloboxError | None = None
        try:
            yield
        except SoloboxError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 (raised again on all ranks)
            error = ConfigError(f"rank {self.rank}: {type(raised).__name__}: {raised}")
        for other in self.all_gather(error):
            if other is not None:
                raise other

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """The result of `work`, which rank 0 alone does. What it raises is raised on every rank."""
        return self._results(work if self.is_rank_zero else None)[0]

    def on_local_rank_zero(self, work: Callable[[], T]) -> T:
        """The result of `work`, done once on each host. What it raises is raised on every rank."""
        return self._results(work if self.local_rank == 0 else None)[self.node]

    def local_share(self, items: Sequence[T]) -> Sequence[T]:
        """The items for this rank, of items that are divided among the ranks of each host."""
        return items[self.local_rank :: self.local_size]

    def _results(self, work: Callable[[], T] | None) -> dict[int, T]:
        """The results of the ranks with `work`, by host."""
        results: dict[int, T] = {}
        with self.raise_together():
            if work is not None:
                results[self.node] = work()
        return {node: value for other in self.all_gather(results) for node, value in other.items()}


def resolve_precision(precision: Precision, accelerator: Accelerator) -> Any:
    """The precision in Fabric's terms; `auto` is bf16 where the hardware has it."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available() and accelerator != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if has_fast_bf16() else "32-true"


def single_device(fabric: Fabric, recipe: Recipe) -> Fabric:
    """A fabric of this process and its device alone, for what rank 0 trains by itself."""
    precision = resolve_precision(recipe.precision, recipe.accelerator)
    return Fabric(strategy=SingleDeviceStrategy(fabric.device), precision=precision)
