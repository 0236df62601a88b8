"""Dynamic batching: images are decoded in threads, and those that are ready go through the model together."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from solobox.errors import ImageError
from solobox.predict.onnx_model import OnnxModel
from solobox.predict.predictor import NetworkInput, Pixels, RawOutput, resize_to_square
from solobox.serve.drift import DriftMonitor
from solobox.serve.errors import HTTPError, server_busy
from solobox.serve.prometheus import ServerMetrics
from solobox.serve.settings import ServerSettings
from solobox.utils.concurrency import processors

T = TypeVar("T")
_LOG = logging.getLogger("solobox.serve")


@dataclass(frozen=True, slots=True, eq=False)
class _QueuedImage:
    pixels: Pixels
    output: "asyncio.Future[RawOutput]"


class Batcher:
    """The model and the queue before it. Create and use it in one event loop.

    An image occupies a slot (`slots`) from when its request is accepted until it is answered or given up. Images are
    decoded by one thread for each processor. The model runs in `workers` threads; each takes its share of the images
    that are ready, up to `max_batch`, and never waits for a batch to fill. Work whose caller was cancelled is dropped.
    """

    def __init__(
        self, model: OnnxModel, settings: ServerSettings, metrics: ServerMetrics, workers: int = 1
    ) -> None:
        self.model = model
        self._settings, self._metrics = settings, metrics
        self._drift = DriftMonitor(model, metrics)
        self.pending = 0
        """Occupied slots."""
        self.has_std = False
        """Whether the model gives a standard deviation of each edge; set by `start`."""
        self._queue: asyncio.Queue[_QueuedImage] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(processors(), thread_name_prefix="decode")
        self._runners = ThreadPoolExecutor(workers, thread_name_prefix="model")
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._seconds_per_image = 0.0  # a running mean, for Retry-After

    async def start(self) -> None:
        """Warm the model up, so that the first client does not wait for that, and start."""
        side = self.model.side
        blank = np.full((1, side, side, 3), 127, np.uint8)
        output = await asyncio.get_running_loop().run_in_executor(self._runners, self.model.infer, blank)
        self.has_std = not bool(np.isnan(output.std).any())
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]

    async def close(self) -> None:
        """Stop; waiting images are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._decoders, self._runners):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def healthy(self) -> bool:
        """Whether all workers run."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    @property
    def queued(self) -> int:
        """Decoded images that wait for the model."""
        return self._queue.qsize()

    def refuse_if_full(self, count: int = 1) -> None:
        """Raise HTTPError (429) where there are no `count` free slots; call it before a body is read."""
        if self.pending + count > self._settings.max_queue:
            self._metrics.refused.inc(count)
            raise server_busy(max(1, math.ceil(self.pending * self._seconds_per_image)))

    @contextmanager
    def slots(self, count: int) -> Iterator[None]:
        """Occupy `count` slots while the block runs. Raises HTTPError (429)."""
        self.refuse_if_full(count)
        self.pending += count
        self._metrics.queue.set(self.pending)
        try:
            yield
        finally:
            self.pending -= count
            self._metrics.queue.set(self.pending)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` in a decoding thread; work that waits for a thread is dropped when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def preprocess(self, content: bytes) -> NetworkInput:
        """Decode an image file and resize it for the model. Raises HTTPError for one that cannot be read."""
        side, limits = self.model.side, self._settings
        try:
            return await self.in_thread(
                lambda: resize_to_square(
                    content, side, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes
                )
            )
        except ImageError as error:
            raise HTTPError.from_image_error(error) from None

    async def infer(self, pixels: Pixels) -> RawOutput:
        """Run the model on one image, (S, S, 3) uint8, together with others. Raises HTTPError (503) where it fails."""
        job = _QueuedImage(pixels, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(job)
        return await job.output

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            taken = [await self._queue.get()]
            share = math.ceil((1 + self._queue.qsize()) / self._workers)
            while len(taken) < min(share, self._settings.max_batch) and not self._queue.empty():
                taken.append(self._queue.get_nowait())
            jobs = [job for job in taken if not job.output.done()]  # the callers of the others have given up
            if not jobs:
                continue
            batch = np.stack([job.pixels for job in jobs])
            started = time.perf_counter()
            try:
                output = await loop.run_in_executor(self._runners, self.model.infer, batch)
            except Exception:  # noqa: BLE001  (one batch must not end the work)
                _LOG.exception("the model failed on a batch of %d", len(jobs))
                _resolve(jobs, None)
                continue
            seconds = time.perf_counter() - started
            self._seconds_per_image += 0.1 * (seconds / len(jobs) / self._workers - self._seconds_per_image)
            self._metrics.model.observe(seconds)
            self._metrics.batch.observe(len(jobs))
            self._drift.observe(output)
            _resolve(jobs, output)


def _resolve(jobs: Sequence[_QueuedImage], output: RawOutput | None) -> None:
    for row, job in enumerate(jobs):
        if job.output.done():
            continue
        if output is None or not np.isfinite(output.boxes[row]).all():
            job.output.set_exception(
                HTTPError(503, "model-failed", "the model could not be run", "Send it again later.")
            )
        else:
            fields = (output.boxes, output.std, output.presence, output.familiarity)
            job.output.set_result(RawOutput(*(field[row : row + 1] for field in fields)))
