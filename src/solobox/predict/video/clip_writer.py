"""Write clips atomically, as VP9, which every browser plays and whose encoder has a permissive licence."""

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
from solobox.utils.atomic import explained, followed, remove_leftovers, unfinished

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_FORMATS: Final = {".mp4": "mp4", ".m4v": "mp4", ".webm": "webm", ".mkv": "matroska"}

_ENCODER: Final = "libvpx-vp9"
"""BSD licence. PyAV's wheels also have encoders under the GPL, which this program never calls."""

_QUALITY = {"crf": "31", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}
"""Constant quality, nearly without visible loss, and the preset for cameras, which is about as fast as a model."""


def check_clip_name(path: Path) -> None:
    """Raise ConfigError ``unknown-format`` for a name without the ending of a format that can be written."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(
            f"{path}: a drawn clip is written as {', '.join(_FORMATS)}; give it such a name",
            code="unknown-format",
        )


class ClipWriter:
    """A clip that is being written; see `write_clip`. count: images that have been added."""

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

        The first image sets the size; many players need an even one, so an odd width or height is padded with one more
        column or row. Later images are resized to it. A time that is NaN, or not later than the one before, becomes the
        next unit after that one.
        """
        av = pyav()
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        height, width = pixels.shape[:2]
        stream = self._stream = self._stream or self._begin(width, height)
        if (width, height) != (stream.width, stream.height):
            pixels = np.asarray(Image.fromarray(pixels).resize((stream.width, stream.height)))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        at = self._last + 1 if np.isnan(time) else round(Fraction(time) / self._time_base)
        self._last = max(at, self._last + 1)
        frame.pts, frame.time_base = self._last, self._time_base
        with self._explained():
            self._container.mux(stream.encode(frame))
        self.count += 1

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            with self._explained():
                self._container.mux(self._stream.encode(None))

    def _begin(self, width: int, height: int) -> "VideoStream":
        if _ENCODER not in pyav().codecs_available:
            raise ConfigError(
                f"this PyAV was built without {_ENCODER} and writes no VP9: install another build of it",
                code="missing-package",
            )
        with self._explained():
            stream = self._container.add_stream(_ENCODER, rate=self._rate, options=_QUALITY)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = self._time_base
            return stream

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        av = pyav()
        try:
            yield
        except av.FFmpegError as error:
            raise DataError(
                f"{self._path}: cannot be written: {error.strerror or error}", code="file-unwritable"
            ) from error


@contextlib.contextmanager
def write_clip(path: Path, rate: Fraction | None, time_base: Fraction) -> Iterator[ClipWriter]:
    """Open a clip that replaces `path` when the block ends and at least one image was added.

    rate: mean frame rate in hertz, for the header. time_base: the unit of times in seconds; that of the source clip
    keeps its times exactly. There is no sound.

    If a run stops early, an older clip at `path` stays. Raises ConfigError as `check_clip_name`, DataError
    ``file-unwritable``.
    """
    check_clip_name(path)
    path = followed(path)
    av = pyav()
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = unfinished(path)
    try:
        with explained(path):
            kind = _FORMATS[path.suffix.lower()]
            # The index first, so that browsers start at once.
            options = {"movflags": "+faststart"} if kind == "mp4" else {}
            container = av.open(f"file:{temporary}", "w", format=kind, options=options)
        with container:
            writer = ClipWriter(path, container, rate, time_base)
            yield writer
            writer.finish()
        if writer.count:
            with explained(path):
                temporary.replace(path)
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}", code="file-unwritable"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
