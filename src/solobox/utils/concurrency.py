"""Processors, processes and threads."""

import functools
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from solobox.utils.signals import signals_held

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """How many processors this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun, SLURM or training itself started together.

    The others work as well, but print nothing.
    """
    return all(
        os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    )


def is_distributed() -> bool:
    """Whether the processes that were started together are connected: then the first one reports for all."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's core, one for the life of the process; ``ImportError`` where OpenVINO is not installed.

    On processors with AVX-512 its CPU plugin gives the thread that loads it another stack for signals, and restores
    the previous one when it is unloaded. If two plugins come and go, the second one restores memory that the first
    has freed, and the next Ctrl-C is a segmentation fault. A plugin that stays restores nothing.
    """
    with signals_held():
        import openvino

        return openvino.Core()  # noqa: TID251


def threaded_map(
    work: Callable[[T], R], items: Iterable[T], *, workers: int = 0, processes: int = 1
) -> Generator[R, None, None]:
    """Apply `work` to each item in threads, in order, with at most twice as many items in memory as threads.

    workers: threads; 0 for one per processor. processes: how many processes on this machine do the same at once; they
    share the processors.
    """
    workers = workers or max(processors() // processes, 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the caller stopped early: results that nobody reads are not computed
                future.cancel()
