"""Images in, predictions out: decoding in threads, and whatever is ready goes through the model together."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from solobox.errors import ImageError
from solobox.images import reading
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import Answer
from solobox.serve.errors import Problem, busy
from solobox.serve.metrics import Metrics
from solobox.serve.settings import Settings
from solobox.uncertainty.conformal import Calibration
from solobox.utils.concurrency import processors

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
_LOG = logging.getLogger("solobox.serve")


class Model(Protocol):
    """What the server uses of `solobox.predict.onnx_model.Model`."""

    @property
    def side(self) -> int:
        """Pixels of the squares."""

    @property
    def calibration(self) -> Calibration | None:
        """For margins."""

    @property
    def has_presence(self) -> bool:
        """Whether it tells presence."""

    @property
    def has_familiarity(self) -> bool:
        """Whether it tells familiarity."""

    def answer(self, squares: Pixels, /) -> Answer:
        """What it says of (B, side, side, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """An image as the model sees it, and its width and height in pixels as it is."""

    pixels: Pixels
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    pixels: Pixels
    row: "asyncio.Future[tuple[Answer, int]]"


class Engine:
    """The model, and the queue before it. Made and used in one event loop.

    An image holds a place (`admitted`) from when its request is taken until it is answered or given up. Decoding
    runs in a thread for each processor, the model in `runners` threads of its own, and each of these takes its share of
    the images that are ready when it is, up to `max_batch`: nobody waits for a batch to fill. Work whose caller was
    cancelled is dropped.
    """

    def __init__(self, model: Model, settings: Settings, metrics: Metrics, runners: int = 1) -> None:
        self.model = model
        self._settings, self._metrics = settings, metrics
        self.pending = 0
        self._ready: asyncio.Queue[_Job] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(processors(), thread_name_prefix="decode")
        self._runner = ThreadPoolExecutor(runners, thread_name_prefix="model")
        self._runners = runners
        self._tasks: list[asyncio.Task[None]] = []
        self._seconds_each = 0.0
        """A running mean of what the model takes for an image, for Retry-After."""
        self.has_spread = False
        """Whether the model tells how sure it is of each edge; known once it has run."""

    async def start(self) -> None:
        """Run the model once, so that the first client does not wait for its warming up, and begin."""
        side = self.model.side
        blank = np.full((1, side, side, 3), 127, np.uint8)
        answer = await asyncio.get_running_loop().run_in_executor(self._runner, self.model.answer, blank)
        self.has_spread = not bool(np.isnan(answer.std).any())
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._runners)]

    async def close(self) -> None:
        """Stop; what still waits is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._decoders, self._runner):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def well(self) -> bool:
        """Whether it takes work."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def ready(self) -> int:
        """Images that are decoded and wait for the model."""
        return self._ready.qsize()

    def refuse_if_full(self, count: int = 1) -> None:
        """Raise Problem (429) where there is no place; for before a body is read."""
        if self.pending + count > self._settings.max_queue:
            self._metrics.refused.inc(count)
            raise busy(max(1, math.ceil(self.pending * self._seconds_each)))

    @contextmanager
    def admitted(self, count: int) -> Iterator[None]:
        """Places for that many images while the block runs. Raises Problem (429)."""
        self.refuse_if_full(count)
        self.pending += count
        self._metrics.queue.set(self.pending)
        try:
            yield
        finally:
            self.pending -= count
            self._metrics.queue.set(self.pending)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run it in a decoding thread; one that has not begun when the caller is cancelled never does."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def decoded(self, content: bytes) -> Square:
        """An image file as the model sees it. Raises Problem for one that cannot be read."""
        try:
            return await self.in_thread(lambda: self._decode(content))
        except ImageError as error:
            raise Problem.of_image(error) from None

    def _decode(self, content: bytes) -> Square:
        limits, side = self._settings, self.model.side
        image = reading.read(content, at_least=side, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
        return Square(reading.to_square(image.pixels, side), image.size)

    async def predicted(self, square: Square, name: str = "") -> Prediction:
        """What the model says of it, without margins. Raises Problem (503) where the model fails."""
        job = _Job(square.pixels, asyncio.get_running_loop().create_future())
        self._ready.put_nowait(job)
        answer, row = await job.row
        return answer.of(row, name, square.size)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiting = [await self._ready.get()]
            share = math.ceil((1 + self._ready.qsize()) / self._runners)
            while len(waiting) < min(share, self._settings.max_batch) and not self._ready.empty():
                waiting.append(self._ready.get_nowait())
            jobs = [job for job in waiting if not job.row.done()]  # the others' callers have given up
            if not jobs:
                continue
            squares = np.stack([job.pixels for job in jobs])
            started = time.perf_counter()
            try:
                answer = await loop.run_in_executor(self._runner, self.model.answer, squares)
            except Exception:  # noqa: BLE001  (one batch must not end the work)
                _LOG.exception("the model failed on a batch of %d", len(jobs))
                _settle(jobs, None)
                continue
            seconds = time.perf_counter() - started
            self._seconds_each += 0.1 * (seconds / len(jobs) / self._runners - self._seconds_each)
            self._metrics.model.observe(seconds)
            self._metrics.batch.observe(len(jobs))
            _settle(jobs, answer)


def _settle(jobs: Sequence[_Job], answer: Answer | None) -> None:
    for row, job in enumerate(jobs):
        if job.row.done():
            continue
        if answer is not None:
            job.row.set_result((answer, row))
        else:
            job.row.set_exception(
                Problem(503, "model_failed", "the model could not be run", "Send it again in a while.")
            )
