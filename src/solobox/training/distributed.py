"""Several processes (ranks) that train one model together: what each does of the work, and how they agree.

They are started by Fabric (`devices`), by torchrun or by SLURM. Every rank runs the whole program; what there can be
but one of (files, trackers, the console) is the main rank's, and what each computes a part of is put together here.
"""

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
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from solobox.config.recipe import Accelerator, Precision
from solobox.errors import ConfigError, SoloboxError
from solobox.model.runtime import has_fast_bf16
from solobox.model.sync_layers import Part
from solobox.utils.concurrency import is_main_process

T = TypeVar("T")


_PATIENCE = timedelta(days=1)
"""How long a rank waits for the others, which may have more or larger images to decode. One that died is noticed by
what started it, not by this."""


def launched(accelerator: str, precision: Any, *, devices: int, nodes: int) -> Fabric:
    """A Fabric for so many devices on each of so many hosts, whose processes have met.

    devices, nodes: 0 for what torchrun or SLURM has started, or else one.

    Raises ConfigError where that cannot be had, or is not what this process was started as.
    """
    started = _started()
    wanted = devices or started[0], nodes or started[1]
    if started != (1, 1) and wanted != started:
        raise ConfigError(
            f"devices {wanted[0]} and nodes {wanted[1]} were asked for, but this run was started with {started[0]} "
            f"processes on each of {started[1]} hosts: leave --devices and --nodes out, or make them agree"
        )
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if started == (1, 1) and wanted[1] > 1 and missing:
        raise ConfigError(
            f"{wanted[1]} nodes were asked for, but nothing says how they find each other: start this with torchrun or "
            f"SLURM on each of them, or set {', '.join(missing)}"
        )
    several = wanted != (1, 1)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            strategy=DDPStrategy(timeout=_PATIENCE) if several else "auto",
            devices=wanted[0],
            num_nodes=wanted[1],
            precision=precision,
        )
        if several:
            fabric.launch()
    except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"{wanted[0]} devices on {wanted[1]} hosts cannot be used here: {error}") from error
    if fabric.world_size != wanted[0] * wanted[1]:
        raise ConfigError(
            f"{wanted[0]} devices on {wanted[1]} hosts were asked for, but {fabric.world_size} processes were started: "
            "start as many as devices (with SLURM: --ntasks-per-node)"
        )
    if not several and not is_main_process():
        raise ConfigError(
            "this process is not the first of its job, by its environment (RANK, SLURM_PROCID, ...), but was not "
            "started in a way that several can train together: use torchrun, or a SLURM job that is not `interactive`"
        )
    return fabric


def _started() -> tuple[int, int]:
    """Processes on each host, and hosts, as torchrun or SLURM started them; (1, 1) where neither did."""
    if TorchElasticEnvironment.detect():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return local, max(int(os.environ.get("WORLD_SIZE", "1")) // local, 1)
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return max(int(os.environ["SLURM_NTASKS"]) // nodes, 1), nodes
    return 1, 1


class Ranks:
    """The processes that train together, as one of them sees them.

    fabric: whose processes have met; None for a process alone, for which everything here is free.

    size: how many there are. rank: which one this is, from 0, the main one. local_size, local, node: the same among
    those of this host, and which host it is.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric if fabric is not None and fabric.world_size > 1 else None
        self.size, self.rank, self.local, self.node, self.local_size = 1, 0, 0, 0, 1
        if self._fabric is not None:
            self.size, self.rank = self._fabric.world_size, self._fabric.global_rank
            self.local, self.node = self._fabric.local_rank, self._fabric.node_rank
            self.local_size = int(getattr(self._fabric.strategy, "num_processes", 1))
        self.is_main = self.rank == 0

    def part(self, total: int) -> Part:
        """What this rank is shown of a batch; one with fewer rows than ranks is shown to all of them whole."""
        if total < self.size:
            return Part(0, total, total)
        each, over = divmod(total, self.size)
        start = self.rank * each + min(self.rank, over)
        return Part(start, start + each + (self.rank < over), total)

    def weight(self, part: Part) -> float:
        """What to multiply means over `part` by, so that their mean over all ranks is that over the whole batch."""
        return 1.0 if part.is_all else (part.stop - part.start) * self.size / part.total

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, the same on each to the bit."""
        return self._reduced(tensor, "sum")

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over all ranks."""
        return self._reduced(tensor, "sum") / self.size if self._fabric else tensor

    def greatest(self, tensor: Tensor) -> Tensor:
        """The greatest value of all ranks, number by number."""
        return self._reduced(tensor, "max")

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """Whether any rank says so."""
        return bool(self.greatest(torch.tensor(float(flag)))) if self._fabric else flag

    def gathered(self, value: T) -> list[T]:
        """What each rank has, by rank."""
        if self._fabric is None:
            return [value]
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """What the block raises on any rank is raised on all of them at its end, so that none waits in vain."""
        if self._fabric is None:
            yield
            return
        error: SoloboxError | None = None
        try:
            yield
        except SoloboxError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001 (the others have to be told, whatever it is)
            error = ConfigError(f"rank {self.rank}: {type(raised).__name__}: {raised}")
        for found in self.gathered(error):
            if found is not None:
                raise found

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` gives, done by the main rank alone. What it raises is raised on every rank."""
        return self._given(work if self.is_main else None)[0]

    def on_host(self, work: Callable[[], T]) -> T:
        """What `work` gives, done once on each host. What it raises is raised on every rank."""
        return self._given(work if self.local == 0 else None)[self.node]

    def on_this_host(self, items: Sequence[T]) -> Sequence[T]:
        """Of work that is done once on each host, the items that are for this rank."""
        return items[self.local :: self.local_size]

    def _given(self, work: Callable[[], T] | None) -> dict[int, T]:
        """What the ranks that have work to do make of it, by host."""
        made: dict[int, T] = {}
        with self.agreeing():
            if work is not None:
                made[self.node] = work()
        return {node: value for found in self.gathered(made) for node, value in found.items()}

    def _reduced(self, tensor: Tensor, how: str) -> Tensor:
        if self._fabric is None:
            return tensor
        there = tensor.to(self._fabric.device, copy=True)
        operation = torch.distributed.ReduceOp.MAX if how == "max" else torch.distributed.ReduceOp.SUM
        torch.distributed.all_reduce(there, op=operation)
        return there.to(tensor.device)


def precision_of(wanted: Precision, accelerator: Accelerator) -> Any:
    """The precision that is meant, as Fabric calls it."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available() and accelerator != "cpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if has_fast_bf16() else "32-true"
