"""A labeler over many images, on every core, in the order of the images."""

import contextlib
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.autolabel.candidates import Candidate
from solobox.autolabel.registry import Labeler
from solobox.boxes import clip, is_valid, scale
from solobox.errors import ConfigError, ImageError, SoloboxError
from solobox.images.reading import read
from solobox.utils.concurrency import processors

SIDE: Final = 1024
"""Longer side in pixels of what a labeler sees, at most: what matters is large enough to be seen there."""

_AHEAD: Final = 4  # images handed out for each worker: enough that none waits, few enough to hold in memory


@dataclass(frozen=True, slots=True)
class Found:
    """What a labeler found in one image.

    image: the image.
    candidates: all of them, in the labeler's order; boxes are in pixels of the full upright image, inside it.
    error: why the image could not be read or the labeler failed on it, or the empty string.
    """

    image: Path
    candidates: tuple[Candidate, ...] = ()
    error: str = ""


def label(
    images: Iterable[str | Path], labeler: Labeler, workers: int | None = None
) -> Generator[Found, None, None]:
    """Run a labeler over images; one `Found` for each, in their order.

    labeler: see `registry.find`. It is handed to the other processes, so it has to be a function at the top of a
        module. What it raises on an image is that image's `error`; a ``ConfigError`` or an ``ImportError``
        ends the run.
    workers: processes; by default one for each core that this process may use. With 1 all is done in this process.

    A few images for each worker are on their way at any time; closing the generator ends the rest. A script
    that calls this with several workers needs ``if __name__ == "__main__":``, as all that starts processes does.
    ``ConfigError`` for less than one worker, ``SoloboxError`` when a worker process dies.
    """
    workers = processors() if workers is None else workers
    if workers < 1:
        raise ConfigError(f"workers is 1 or more, not {workers}")
    paths = map(Path, images)
    first = list(islice(paths, workers))
    workers = min(workers, len(first))
    ordered = _chain(first, paths)
    if workers <= 1:
        return (look(path, labeler) for path in ordered)
    return _in_processes(ordered, labeler, workers)


def look(image: Path, labeler: Labeler) -> Found:
    """Run a labeler on one image, in this process; see `label`."""
    try:
        decoded = read(image, at_least=SIDE)
    except ImageError as error:
        return Found(image, error=f"cannot be read: {error}")
    pixels = _reduced(decoded.pixels)
    height, width = pixels.shape[:2]
    try:
        candidates = labeler(pixels)
        return Found(image, _in_full(candidates, (width, height), decoded.size))
    except (ConfigError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 (one odd image must not end hours of work)
        return Found(image, error=f"the labeler failed: {type(error).__name__}: {error}")


def _reduced(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _in_full(
    candidates: Sequence[Candidate], seen: tuple[int, int], full: tuple[int, int]
) -> tuple[Candidate, ...]:
    """Candidates in pixels of the full image, cut at its edges; what lies outside of it altogether is dropped."""
    if not isinstance(candidates, (list, tuple)) or not all(isinstance(c, Candidate) for c in candidates):
        raise TypeError(f"it gave {candidates!r:.100} in place of a list of Candidate")
    if not candidates:
        return ()
    boxes = scale([candidate.box for candidate in candidates], full[0] / seen[0], full[1] / seen[1])
    boxes = clip(boxes, *full)
    return tuple(
        Candidate((x1, y1, x2, y2), candidate.score)
        for candidate, (x1, y1, x2, y2), inside in zip(
            candidates, boxes.tolist(), is_valid(boxes).tolist(), strict=True
        )
        if inside
    )


def _chain(first: list[Path], rest: Iterator[Path]) -> Iterator[Path]:
    yield from first
    yield from rest


def _in_processes(images: Iterator[Path], labeler: Labeler, workers: int) -> Generator[Found, None, None]:
    # Processes are spawned and not forked: a fork of a process with threads (a progress bar, torch) may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (labeler,))
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # or the first process would start it, and that lets Ctrl-C through again
    waiting: deque[Future[Found]] = deque()
    try:
        for image in images:
            with _no_interrupt():
                waiting.append(pool.submit(_task, image))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise SoloboxError(
            "a worker process died, as when memory runs out or the labeler crashes; nothing was written. "
            "Try fewer workers; with 1 all runs in this process and shows where it crashes."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, and so leave it to this one to stop them.

    Here it takes effect when the block ends: in the midst of starting one, that would find itself without its orders.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    ours = callable(handler) and threading.current_thread() is threading.main_thread()
    noted = False

    def note(*_: object) -> None:  # it may come by way of another thread, which does not hold it back
        nonlocal noted
        noted = True

    if ours:
        signal.signal(signal.SIGINT, note)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if ours:
            signal.signal(signal.SIGINT, handler)
    if noted:
        signal.raise_signal(signal.SIGINT)


_labeler: Labeler | None = None


def _start(labeler: Labeler) -> None:
    global _labeler  # noqa: PLW0603 (a process of its own, which does nothing else)
    _labeler = labeler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError):  # a user's labeler may do without
        import cv2

        cv2.setNumThreads(1)  # there are as many processes as cores


def _task(image: Path) -> Found:
    assert _labeler is not None  # noqa: S101 (set by _start)
    return look(image, _labeler)
