"""What this machine gives this process."""

import functools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def processors() -> int:
    """Processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_main_process() -> bool:
    """Whether this is the first of the processes that torchrun, SLURM or training itself started together.

    The others do the same work and say nothing.
    """
    return all(
        os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    )


def processes_have_met() -> bool:
    """Whether the processes that were started together are in touch: from then on the first one speaks for all."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's core, one for the whole life of the process. Raises ImportError where it is not installed.

    On processors with AVX-512 its CPU plugin gives the thread that loads it an alternate stack for signals, and puts
    back the stack before when it goes. Of two plugins that come and go, the last one puts back memory that the other
    has freed, and the next Ctrl-C is a segmentation fault. One that never goes puts nothing back.
    """
    import openvino

    return openvino.Core()  # noqa: TID251


def threaded_map(
    work: Callable[[T], R], items: Iterable[T], *, workers: int = 0, beside: int = 1
) -> Iterator[R]:
    """`work` on each item in order, in threads, a few items ahead of the reader: at most twice as many as threads.

    workers: threads, 0 for as many as there are processors. beside: how many processes do so on this machine; they
    share the processors.
    """
    workers = workers or max(processors() // beside, 1)
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
            for future in waiting:  # the reader has had enough: do not make it wait for what it will not read
                future.cancel()
