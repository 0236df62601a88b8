"""Frames of a clip or a camera, one after the other: upright RGB with their times. PyAV (FFmpeg) decodes.

Constant memory: one frame is held at a time. A frame that cannot be decoded has an error, and the others
follow.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solobox.errors import ConfigError, DataError, reason
from solobox.images.pixel_limit import MAX_PIXELS
from solobox.predict.inputs import is_camera

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TIMEOUT = 10.0
"""Seconds that a camera may take for an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a clip.

    number: from 0, in display order; frames that could not be decoded count.
    time: seconds since the first frame; NaN where the clip does not say.
    pixels: shape (h, w, 3), uint8, RGB, upright, C-contiguous; None where `error` is set.
    error: why it could not be decoded, or the empty string.
    """

    number: int
    time: float
    pixels: NDArray[np.uint8] | None
    error: str = ""


def pyav() -> ModuleType:
    """PyAV. Raises ConfigError ``missing-package`` where it is not installed."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise ConfigError(
            "clips and cameras need PyAV (av), which is not installed: install Solobox with its [video] extra",
            code="missing-package",
        ) from error
    return av


class Clip:
    """An open clip or camera; see `open_clip`.

    name: its path or number. rate: mean frame rate in hertz, None where it does not say.
    time_base: the unit of its times in seconds. count: frames that its header announces, 0 where it does not say.
    """

    def __init__(self, name: str, container: "InputContainer", stream: "VideoStream") -> None:
        self.name = name
        self.rate: Fraction | None = stream.average_rate or stream.guessed_rate or None
        self.time_base: Fraction = stream.time_base or Fraction(1, 90_000)
        self.count: int = stream.frames
        self._container, self._stream = container, stream
        self._ended = ""
        # Times of packets without their end, which some decoders do not notice.
        self._cut_off: set[int | None] = set()
        self._number = 0
        self._start: int | None = None

    def frames(self) -> Iterator[Frame]:
        """Its frames in display order; a camera has no end. To be called once.

        A frame that cannot be decoded has the reason as its `Frame.error`, and so has the early
        end of a clip, before as many frames as its header announces, or of a camera that stops. The display matrix is
        applied (rotation by right angles and mirroring); pixels that are not square stay as stored.

        Raises DataError ``clip-damaged`` where no frame can be decoded.
        """
        broken: list[tuple[int, str]] = []  # times of frames that were not decoded, until their turn comes
        whole = False
        count = 0
        for packet in self._packets():
            count += packet.size > 0
            try:
                decoded = self._stream.decode(packet)
            except pyav().FFmpegError as error:
                if packet.size == 0:
                    raise DataError(f"{self.name}: {reason(error)}") from error
                at = packet.pts if packet.pts is not None else packet.dts
                if at is None:
                    yield self._lost(None, reason(error))
                else:
                    broken.append((at, reason(error)))
                continue
            for frame in decoded:
                bad = "its data are damaged" if frame.is_corrupt or frame.pts in self._cut_off else ""
                for item in sorted(broken):
                    if frame.pts is None or item[0] < frame.pts:
                        broken.remove(item)
                        yield self._lost(*item)
                whole = whole or not bad
                yield self._lost(frame.pts, bad) if bad else self._decoded(frame)
        for item in sorted(broken):
            yield self._lost(*item)
        if not self._ended and count < self.count:
            self._ended = f"its header announces {self.count} images, and it has {count}"
        if not whole:
            raise DataError(
                f"{self.name}: no image could be decoded ({self._ended or 'is the file damaged?'})",
                code="clip-damaged",
            )
        if self._ended:
            yield Frame(self._number, float("nan"), None, f"{self.name}: ends early: {self._ended}")

    def _packets(self) -> Iterator["av.Packet[VideoStream]"]:
        """Compressed frames; the last packet is empty and flushes the decoder."""
        av = pyav()
        waited_since = time.monotonic()
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    waited_since = time.monotonic()
                    if packet.is_corrupt:
                        self._cut_off.add(packet.pts)
                    yield packet
                return
            except av.error.BlockingIOError:  # some cameras do not wait for the next frame
                if time.monotonic() - waited_since > _TIMEOUT:
                    self._ended = f"no image came in {_TIMEOUT:g} s"
                    return
                time.sleep(0.005)
            except av.FFmpegError as error:
                self._ended = reason(error)
                return

    def _decoded(self, frame: "av.VideoFrame") -> Frame:
        _check_size(self.name, frame.width, frame.height)
        stored = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
        pixels = upright(stored, _matrix(frame))
        return self._numbered(frame.pts, pixels, "")

    def _lost(self, pts: int | None, why: str) -> Frame:
        return self._numbered(pts, None, f"{self.name}: image {self._number} cannot be decoded: {why}")

    def _numbered(self, pts: int | None, pixels: NDArray[np.uint8] | None, error: str) -> Frame:
        seconds = float("nan")
        if pts is not None:
            self._start = pts if self._start is None else self._start
            seconds = float((pts - self._start) * self.time_base)
        elif self.rate:
            seconds = float(self._number / self.rate)
        number, self._number = self._number, self._number + 1
        return Frame(number, seconds, pixels, error)


@contextmanager
def open_clip(source: str) -> Iterator[Clip]:
    """A clip by its path, or a camera by its number, while the block runs.

    Cameras are FFmpeg's devices: v4l2 on Linux, avfoundation on macOS, dshow on Windows.

    Raises DataError: ``clip-unreadable``, ``clip-empty`` without a video stream, ``image-too-many-pixels``,
    ``no-camera``; ConfigError ``missing-package``.
    """
    av = pyav()
    container = _open_camera(source) if is_camera(source) else _open_file(source)
    with container:
        if not container.streams.video:
            raise DataError(f"{source}: it has no images (no video stream)", code="clip-empty")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DataError(f"{source}: no decoder for its codec is installed", code="clip-unreadable")
        _check_size(source, stream.codec_context.width, stream.codec_context.height)
        # By default decoders drop damaged images silently; with this flag they return them, marked.
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        yield Clip(source, container, stream)


@contextmanager
def until_interrupted(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """The frames until Ctrl-C (or SIGTERM), which ends them as if the clip were over; a second one aborts."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    old = {number: signal.getsignal(number) for number in numbers}

    def stop(*_: object) -> None:
        stopped.set()
        for number, handler in old.items():
            signal.signal(number, handler)

    def until_stopped() -> Iterator[Frame]:
        for frame in frames:
            yield frame
            if stopped.is_set():
                return

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield until_stopped()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def upright(pixels: NDArray[np.uint8], matrix: NDArray[np.int32] | None) -> NDArray[np.uint8]:
    """Turn and mirror an image as a display matrix says.

    pixels: shape (h, w, 3). matrix: shape (3, 3), FFmpeg's: ``[x, y, 1] @ matrix`` are the coordinates where a stored
    point is shown, in units of 1/65536. None for an image that is upright. Any other angle becomes the nearest right
    one; a singular matrix leaves the image alone.
    """
    if matrix is None:
        return np.ascontiguousarray(pixels)
    a, b, c, d = (float(value) for value in matrix[:2, :2].ravel())
    if a * d - b * c == 0:
        return np.ascontiguousarray(pixels)
    if abs(b) + abs(c) > abs(a) + abs(d):  # x comes from y: the axes are swapped
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: "av.VideoFrame") -> NDArray[np.int32] | None:
    entries: Any = frame.side_data  # PyAV's stubs say that it is a dictionary, which it is not
    for data in entries:
        if data.type.name == "DISPLAYMATRIX":
            return np.frombuffer(bytes(data), dtype=np.int32, count=9).reshape(3, 3)
    return None


def _open_file(source: str) -> "InputContainer":
    path = Path(source)
    if path.is_dir():
        raise DataError(f"{source}: this is a folder, not a clip", code="clip-unreadable")
    if not path.exists():
        raise DataError(f"{source}: there is no such file. Check the path", code="clip-unreadable")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{source}: the file is empty (0 bytes)", code="clip-unreadable")
    av = pyav()
    try:
        # As a file: a name with a colon, or a playlist, must not make FFmpeg open a network connection.
        container: InputContainer = av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        what = "this is not a clip that can be read, or it is damaged"
        raise DataError(f"{source}: {what} ({reason(error)})", code="clip-unreadable") from error
    return container


def _open_camera(number: str) -> "InputContainer":
    av = pyav()
    device, file = camera(number)
    try:
        container: InputContainer = av.open(file, "r", format=device, timeout=_TIMEOUT)
    except (av.FFmpegError, ValueError) as error:
        what = f"camera {number} cannot be opened as {file} ({device}: {reason(error)})"
        raise DataError(
            f"{what}. Is it connected, free, and allowed to be used?", code="no-camera"
        ) from error
    return container


def camera(number: str) -> tuple[str, str]:
    """FFmpeg's device, and its name for this machine's camera of a number.

    Raises DataError ``no-camera`` where that can be told without opening it.
    """
    if sys.platform == "darwin":
        return "avfoundation", f"{int(number)}:none"
    if sys.platform == "win32":
        names = [
            device.name
            for device in pyav().device.enumerate_input_devices("dshow")
            if "video" in device.media_types
        ]
        if int(number) >= len(names):
            raise DataError(
                f"there is no camera {number}: {len(names)} are connected, counted from 0", code="no-camera"
            )
        return "dshow", f"video={names[int(number)]}"
    file = f"/dev/video{int(number)}"
    if not Path(file).exists():
        raise DataError(f"there is no camera {number} ({file} does not exist)", code="no-camera")
    return "v4l2", file


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: images of {width}x{height} are more than the limit of {MAX_PIXELS} pixels",
            code="image-too-many-pixels",
        )
