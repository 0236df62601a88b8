"""What this machine gives this process."""

import os
import sys


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
