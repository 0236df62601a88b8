"""A stand-in for a model, importable in Ray's workers, whose box says which image it was; and images."""

import io
import os
import signal
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.errors import ImageError
from solobox.images.reading import read
from solobox.predict.job import Engine, Job, Outcome, Task
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from solobox.ray import FolderJob
from solobox.ray.engine import Load, Worker
from stand_in_predictor import StandIn

POISON = 151
"""An image of this width ends the process that looks at it."""


class SizeAsBox(StandIn):
    """Its box is the whole image, its presence the width in parts of 200 pixels."""

    def rows(self, images: Iterable[str | bytes], options: PredictOptions) -> Iterator[Prediction]:
        for item in images:
            name = item if isinstance(item, str) else "<bytes>"
            try:
                size = read(item).size
            except ImageError as error:
                yield Prediction(name, error=str(error))
                continue
            yield Prediction(name, np.array([0, 0, *size], dtype=float), size, presence=size[0] / 200)


class Slow(SizeAsBox):
    """Takes 20 ms for an image, and dies of poison."""

    def rows(self, images: Iterable[str | bytes], options: PredictOptions) -> Iterator[Prediction]:
        for prediction in super().rows(images, options):
            time.sleep(0.02)
            if prediction.size[0] == POISON:
                os.kill(os.getpid(), signal.SIGKILL)
            yield prediction


def load(model: bytes) -> SizeAsBox:
    assert model.startswith(b"a model")
    return SizeAsBox()


def load_slow(model: bytes) -> Slow:
    return Slow()


def one_by_one(load: Load) -> Engine:
    """An engine that does shards by one worker in this process, as an actor of Ray's does."""

    def engine(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
        assert isinstance(job, FolderJob)
        return map(Worker(job.folder.url, load).attempt, tasks)

    return engine


def size_of(number: int) -> tuple[int, int]:
    """Another one for each of 150 x 90 images, none of them poison."""
    return 1 + number % 150, 10 + number // 150 % 90


def jpeg(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (90, 120, 60)).save(file, "jpeg")
    return file.getvalue()


def write_images(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(size_of(number)))
    return [str(path) for path in paths]


def new_bucket() -> str:
    """An empty folder of a store that is not this machine's file system."""
    return f"memory://{uuid.uuid4().hex}"
