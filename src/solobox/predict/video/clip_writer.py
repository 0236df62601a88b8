"""Clips written: H.264 as every player shows it, whole or not at all."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from solobox.errors import ConfigError, DataError
from solobox.predict.video.frames import pyav
from solobox.utils.atomic import explained, remove_leftovers, unfinished

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_FORMATS: Final = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

_QUALITY = {"crf": "20", "preset": "veryfast"}
"""x264's constant quality, at which hardly a loss is seen, and a speed that does not hold a model up."""


def check_clip_name(path: Path) -> None:
    """Raise ConfigError, which names those that are, where a clip of that name's ending is not written here."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"{path}: a drawn clip is written as {', '.join(_FORMATS)}; give it such a name")


class ClipWriter:
    """A clip that is being written; see `writing_clip`. `count` images have been added."""

    def __init__(
        self, path: Path, container: "OutputContainer", rate: Fraction | None, time_base: Fraction
    ) -> None:
        self.count = 0
        self._path, self._container = path, container
        self._rate, self._time_base = rate or Fraction(30), time_base
        self._stream: VideoStream | None = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], time: float) -> None:
        """Add an image, shape (h, w, 3), uint8, RGB, to be shown from `time` on, in seconds.

        The first one settles the size: an odd width or height gets one more column or row, the last one twice, which
        H.264 asks for; later ones of other sizes are brought to it. A time that is NaN, or not later than the one
        before, becomes the one before and a little.
        """
        av = pyav()
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        height, width = pixels.shape[:2]
        stream = self._stream = self._stream or self._begun(width, height)
        if (width, height) != (stream.width, stream.height):
            pixels = np.asarray(Image.fromarray(pixels).resize((stream.width, stream.height)))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        at = self._last + 1 if np.isnan(time) else round(Fraction(time) / self._time_base)
        self._last = max(at, self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        with self._told():
            self._container.mux(stream.encode(frame))
        self.count += 1

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            with self._told():
                self._container.mux(self._stream.encode(None))

    def _begun(self, width: int, height: int) -> "VideoStream":
        if "libx264" not in pyav().codecs_available:
            raise ConfigError(
                "this PyAV was built without libx264 and writes no H.264: install another build of it"
            )
        with self._told():
            stream = self._container.add_stream("libx264", rate=self._rate, options=_QUALITY)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = self._time_base
            return stream

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        av = pyav()
        try:
            yield
        except av.FFmpegError as error:
            raise DataError(f"{self._path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def writing_clip(path: Path, rate: Fraction | None, time_base: Fraction) -> Iterator[ClipWriter]:
    """Open a clip that takes the place of `path` when the block is done and at least one image was added.

    rate: images a second, on average, for the header. time_base: the unit of times, in seconds; that of the clip
    which the images come from keeps their times as they were. There is no sound.

    It is written beside, so that a run that breaks off leaves what was at `path` before. Raises ConfigError as
    `check_clip_name`, DataError where it cannot be written.
    """
    check_clip_name(path)
    av = pyav()
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    beside = unfinished(path)
    try:
        with explained(path):
            kind = _FORMATS[path.suffix.lower()]
            options = (
                {} if kind == "matroska" else {"movflags": "+faststart"}
            )  # so that browsers begin at once
            container = av.open(f"file:{beside}", "w", format=kind, options=options)
        with container:
            writer = ClipWriter(path, container, rate, time_base)
            yield writer
            writer.finish()
        if writer.count:
            with explained(path):
                beside.replace(path)
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
