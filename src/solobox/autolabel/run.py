"""A labeler over many images, on every core, in the order of the images."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from solobox.autolabel.candidates import Candidate
from solobox.autolabel.registry import Labeler
from solobox.boxes import clip, is_valid, scale
from solobox.errors import ConfigError, ImageError
from solobox.images.reading import read
from solobox.utils.concurrency import threaded_map

SIDE: Final = 1024
"""Longer side in pixels that a labeler sees, at most: what matters is large enough to be seen there."""


@dataclass(frozen=True, slots=True)
class ImageCandidates:
    """The candidates of one image.

    candidates: in the labeler's order; boxes are in pixels of the full upright image, inside it.
    error: why the image could not be read or the labeler failed on it, or the empty string.
    """

    image: Path
    candidates: tuple[Candidate, ...] = ()
    error: str = ""


def label(
    images: Iterable[str | Path], labeler: Labeler, workers: int | None = None
) -> Generator[ImageCandidates, None, None]:
    """Run a labeler over images; one `ImageCandidates` for each, in their order.

    labeler: see `registry.find`. It is called in several threads at once. What it raises for an image becomes the
        `error` of that image; a ``ConfigError`` or an ``ImportError`` ends the run.
    workers: threads; by default one for each core that this process may use. OpenCV's detectors and the decoding
        of images use all of them; a labeler in pure Python uses one core at a time.

    A few images per thread are in memory at any time. ``ConfigError`` for less than one worker.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is 1 or more, not {workers}")
    return _label(map(Path, images), labeler, workers or 0)


def _label(images: Iterable[Path], labeler: Labeler, workers: int) -> Generator[ImageCandidates, None, None]:
    with (
        _single_threaded_opencv(),
        closing(threaded_map(partial(find_candidates, labeler=labeler), images, workers=workers)) as results,
    ):
        yield from results


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Keep OpenCV from using all cores for each image, which only takes them from the other images."""
    try:
        import cv2
    except ImportError:  # your own labeler may not need it
        yield
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def find_candidates(image: Path, labeler: Labeler) -> ImageCandidates:
    """Run a labeler on one image; see `label`."""
    try:
        decoded = read(image, at_least=SIDE)
    except ImageError as error:
        return ImageCandidates(image, error=f"cannot be read: {error}")
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    factor = SIDE / max(height, width)
    if factor < 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    try:
        return ImageCandidates(image, _to_full_size(labeler(pixels), pixels.shape[1::-1], decoded.size))
    except (ConfigError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 (one odd image must not end hours of work)
        return ImageCandidates(image, error=f"the labeler failed: {type(error).__name__}: {error}")


def _to_full_size(
    candidates: Sequence[Candidate], size: tuple[int, ...], full_size: tuple[int, int]
) -> tuple[Candidate, ...]:
    """Scale boxes to the full image and clip them to it; those outside are dropped. Sizes: (width, height)."""
    if not isinstance(candidates, (list, tuple)) or not all(isinstance(c, Candidate) for c in candidates):
        raise TypeError(f"it returned {candidates!r:.100} instead of a list of Candidate")
    if not candidates:
        return ()
    boxes = scale([candidate.box for candidate in candidates], full_size[0] / size[0], full_size[1] / size[1])
    boxes = clip(boxes, *full_size)
    rows = zip(candidates, boxes.tolist(), is_valid(boxes).tolist(), strict=True)
    return tuple(
        Candidate((x1, y1, x2, y2), candidate.score)
        for candidate, (x1, y1, x2, y2), is_inside in rows
        if is_inside
    )
