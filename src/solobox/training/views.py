"""From picture files to views: each file is decoded once, in threads that run ahead of the model."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np

from solobox.boxes import Floats
from solobox.errors import PictureError
from solobox.pictures import Picture, read
from solobox.training.windows import Pixels, Window, cut, random_window, recolour, whole

_OVERSAMPLING = 1.5
"""Pixels kept beyond the model's input, so that a window of two thirds of the picture is still sharp."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Views:
    """What one picture becomes: pixels (K, side, side, 3) uint8 and targets (K, 4) in fractions of each view."""

    pixels: Pixels
    targets: Floats


def generator(seed: int, epoch: int, name: str) -> np.random.Generator:
    """The generator for one picture in one epoch: a function of these alone, whatever ran before."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest, "big")])


def load(path: Path, side: int) -> Picture:
    """A picture reduced to what views of `side` pixels can use: at most 1.5 x `side` along each axis."""
    picture = read(path, at_least=round(side * _OVERSAMPLING))
    height, width = picture.pixels.shape[:2]
    limit = round(side * _OVERSAMPLING)
    small = min(width, limit), min(height, limit)
    if small == (width, height):
        return picture
    return Picture(_resize(picture.pixels, *small), picture.size)


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def views(
    picture: Picture,
    box: Floats,
    count: int,
    side: int,
    rng: np.random.Generator,
    *,
    first_whole: bool = True,
) -> Views:
    """`count` views of a picture: the whole one as it is (unless told otherwise), then random ones.

    box: ``x1, y1, x2, y2`` in pixels of the full picture (`picture.size`).
    """
    height, width = picture.pixels.shape[:2]
    own = box * np.array([width / picture.size[0], height / picture.size[1]] * 2)
    windows: list[Window] = [whole(width, height)] if first_whole else []
    windows += [random_window(rng, own, width, height) for _ in range(count - len(windows))]
    shown = [cut(picture.pixels, window, side) for window in windows]
    for index in range(1 if first_whole else 0, count):
        shown[index] = recolour(rng, shown[index])
    return Views(np.stack(shown), np.stack([window.to_window(own) for window in windows]))


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R | PictureError]:
    """`work` on each item in order, by as many threads as processors, a few items ahead of the reader.

    A PictureError is handed over in its place rather than raised.
    """

    def guarded(item: T) -> R | PictureError:
        try:
            return work(item)
        except PictureError as error:
            return error

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R | PictureError]] = deque()
        for item in items:
            waiting.append(pool.submit(guarded, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
