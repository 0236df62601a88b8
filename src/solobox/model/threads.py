"""PyTorch's operations on one thread each, in threads that compute separate things.

PyTorch's own threads share each operation, hundreds for a batch, and none goes on before the last of them is done. One
other program that takes a processor now and then makes all of them wait, each time (bench/busy.py).
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from solobox.utils.concurrency import threaded_map

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations that the calling thread starts in the block use no other threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def single_threaded_map(
    work: Callable[[T], R], items: Iterable[T], *, processes: int = 1
) -> Generator[R, None, None]:
    """As `threaded_map`, in inference mode; operations that `work` starts use no other threads."""

    def alone(item: T) -> R:
        torch.set_num_threads(1)  # of this thread
        with torch.inference_mode():
            return work(item)

    before = torch.get_num_threads()
    try:
        yield from threaded_map(alone, items, processes=processes)
    finally:
        torch.set_num_threads(before)  # it is also what later threads begin with
