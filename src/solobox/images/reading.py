"""Any image file or bytes into upright RGB pixels, or one clear error.

Pillow does the decoding, from a short list of formats. What is added here: limits that are checked on the
header, before anything large is allocated; the EXIF orientation; every pixel mode brought to 8-bit RGB; and
one kind of error, `ImageError`, which names the image and says what to do. No state outside a call is
changed, so threads may decode side by side.
"""

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from solobox.errors import ImageError, reason

Source: TypeAlias = str | Path | bytes

MAX_PIXELS: Final = 80_000_000
"""Width times height above which an image is refused."""
MAX_BYTES: Final = 200_000_000
"""Size of the file above which an image is refused."""

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
"""The formats that are read, by Pillow's name, and the endings of their files' names."""

SUFFIXES: Final = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""All endings of image files' names, in lower case, with the dot."""

# No photograph packs this many pixels in a byte; a file that claims to is broken or means to exhaust memory.
_MAX_PIXELS_PER_BYTE = 10_000
_SMALL = 1_000_000

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_READ_HERE = "JPEG, PNG, WebP, BMP, GIF or TIFF"
_LEAVE_OUT = "Copy it again from where it came, or leave it out."
_PNG = b"\x89PNG\r\n\x1a\n"
_quiet_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An upright RGB image.

    pixels: shape (h, w, 3), uint8, RGB, C-contiguous and writable.
    size: width and height in pixels of the full upright image. Boxes are in these pixels. It is larger than
        ``(w, h)`` when the image was decoded at reduced size.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself before it is decoded.

    format: Pillow's name of the format, a key of `FORMATS`.
    size: width and height in pixels once upright.
    stored_size: width and height in pixels as stored in the file.
    orientation: the EXIF orientation, 1 to 8; 1 (upright) where there is none or an impossible one.
    """

    format: str
    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int


class _Jpeg(JpegImageFile):
    """Pillow's JPEG (an MPO is its first frame) without the hunt for a resolution in the EXIF block.

    That hunt warns about damaged blocks, and nothing here wants the resolution.
    """

    def getexif(self) -> Image.Exif:
        return Image.Exif()


def is_image_name(path: str | Path) -> bool:
    """Whether the name's ending (in any case) is one of a format that is read."""
    return Path(path).suffix.lower() in SUFFIXES


def read(
    source: Source,
    *,
    at_least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    name: str | None = None,
) -> DecodedImage:
    """Decode an image to upright RGB.

    source: a path, or the bytes of a file. name: what errors call it, by default its path or its length in bytes.
    at_least: the smallest side that is of use, in pixels. A JPEG may then be decoded at a half, a quarter or
        an eighth of its size, which is several times faster, as long as both sides stay at or above this.
    max_pixels, max_bytes: the largest image and file that are accepted; checked before decoding.

    Transparent parts come out on white. Grey of more than 8 bits is scaled, not clipped: 16-bit values by
    their full range; 32-bit and floating-point ones by the smallest of the ranges 0..1 (floating point
    alone), 0..255 and 0..65535 that holds them all, else from their least to their greatest. Of several
    frames or pages the first is taken.

    Raises ImageError, which names the image, the reason and the remedy.
    """
    if at_least is not None and at_least < 1:
        raise ValueError(f"at_least is a number of pixels, 1 or more, not {at_least}")
    with _named(source, name), _opened(source, max_bytes) as (file, length):
        file = io.BytesIO(file.read(max_bytes + 1))  # decoders seek about, and the file may change meanwhile
        with _quiet(file):
            image, header = _open(file)
            _check_pixels(header, length, max_pixels)
            if image is None:
                file.seek(0)
                image = WebPImageFile(file)
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            _forget_xmp(image)
            image.load()
        rgb = to_rgb(image)
        # Pillow turns a TIFF upright itself when it is loaded, and no other format.
        if header.orientation != 1 and header.format != "TIFF":
            rgb = rgb.transpose(_TRANSPOSE[header.orientation])
        return DecodedImage(np.array(rgb), header.size)


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of an image's file, for `read`. Raises ImageError where it cannot be opened or is too large."""
    with _named(path), _opened(path, max_bytes) as (file, _):
        return file.read(max_bytes + 1)


def probe(source: Source, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Header:
    """Read an image's header alone: format, sizes, orientation. The pixels may still turn out broken.

    Takes the same source and limits as `read`, and raises ImageError like it.
    """
    with _named(source), _opened(source, max_bytes) as (file, length), _quiet(file):
        _, header = _open(file)
        _check_pixels(header, length, max_pixels)
        return header


def to_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Squash an image to a square, each axis by its own factor, with antialiasing.

    pixels: shape (h, w, 3), uint8. Gives shape (side, side, 3), uint8, C-contiguous and writable.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 of shape (h, w, 3), not {pixels.dtype} of shape {pixels.shape}")
    image = Image.fromarray(pixels)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=None))


@contextlib.contextmanager
def _opened(source: Source, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """Give the source as an open file, and its length in bytes, which is within the limit."""
    if isinstance(source, bytes):
        _check_bytes(len(source), max_bytes)
        yield io.BytesIO(source), len(source)
        return
    path = Path(source)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("this is a folder, not an image. Give the images in it.")
        if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for its writer
            raise ImageError("this is not an ordinary file. Copy the image to one.")
        _check_bytes(status.st_size, max_bytes)
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageError("there is no such file. Check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened ({reason(error)}). Check the path and permissions.") from error
    with file:
        yield file, status.st_size


def _check_bytes(length: int, max_bytes: int) -> None:
    if length == 0:
        raise ImageError(f"the file is empty (0 bytes). {_LEAVE_OUT}", code="image-empty")
    if length > max_bytes:
        raise ImageError(
            f"its {length} bytes are more than the limit of {max_bytes}. Save it smaller, or raise max_bytes.",
            code="image-too-large",
        )


def _check_pixels(header: Header, length: int, max_pixels: int) -> None:
    width, height = header.size
    pixels = width * height
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height}). Leave it out.")
    if pixels > max_pixels:
        raise ImageError(
            f"{width}x{height} are {pixels} pixels, more than the limit of {max_pixels}. "
            "Save it smaller, or raise max_pixels.",
            code="image-too-many-pixels",
        )
    if pixels > _SMALL and pixels > _MAX_PIXELS_PER_BYTE * length:
        raise ImageError(
            f"it claims {width}x{height} pixels in {length} bytes, so it is broken or made to do harm. "
            f"{_LEAVE_OUT}",
            code="image-too-many-pixels",
        )


@contextlib.contextmanager
def _named(source: Source, name: str | None = None) -> Iterator[None]:
    """Turn whatever is raised into a ImageError with the image's name.

    Damaged files bring nearly every kind of exception out of a decoder, so all kinds are caught.
    """
    name = name or (f"the image of {len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}", code=error.code) from error.__cause__
    except MemoryError as error:
        raise ImageError(
            f"{name}: there is not enough memory to decode it. Save it smaller.", code="image-too-many-pixels"
        ) from error
    except Exception as error:
        why = reason(error)
        if "truncat" in why.lower() or isinstance(error, (EOFError, struct.error)):
            told = f"the file is truncated, its end is missing ({why})"
        else:
            told = f"the file is damaged or of an unsupported kind ({why})"
        raise ImageError(f"{name}: {told}. {_LEAVE_OUT}") from error


@contextlib.contextmanager
def _quiet(file: BinaryIO) -> Iterator[None]:
    """Silence the warnings that Pillow's readers of TIFF, GIF and animated PNG give about odd headers.

    Warning filters belong to the process and not to the thread, so threads take turns here. The readers of
    the common formats give no warnings and do not pass through.
    """
    start = file.read(8)
    warns = start.startswith((b"II", b"MM", b"GIF8")) or (
        start == _PNG and _find_chunk(file, b"acTL", png=True)
    )
    file.seek(0)
    if warns:
        with _quiet_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    else:
        yield


def _open(file: BinaryIO) -> tuple[ImageFile.ImageFile | None, Header]:
    """Read the header from the start of a seekable file.

    The plugins are called by name and not through `Image.open`, which would add a size limit of its own,
    with a warning, and the many formats that are not wanted. For a WebP the image is None: its plugin
    decodes into buffers of full size as soon as it is made, so it has to wait for the limits.
    """
    start = file.read(64)
    file.seek(0)
    image: ImageFile.ImageFile
    if start.startswith(b"\xff\xd8\xff"):
        image = _Jpeg(file)
        exif = image.info.get("exif", b"")
    elif start.startswith(_PNG):
        image = PngImageFile(file)
        exif = image.info.get("exif") or _late_png_exif(file)
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return None, _webp_header(file)
    elif start.startswith(b"BM"):
        image, exif = BmpImageFile(file), b""
    elif start.startswith((b"GIF87a", b"GIF89a")):
        image, exif = GifImageFile(file), b""
    elif start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        tiff = TiffImageFile(file)
        return tiff, _tiff_header(tiff)
    else:
        raise ImageError(
            f"{_what_else(start)}. Convert it to {_READ_HERE}, or leave it out.",
            code="image-unsupported-format",
        )
    return image, _header(str(image.format), image.size, _exif_orientation(exif))


def _header(name: str, stored_size: tuple[int, int], orientation: int) -> Header:
    size = stored_size if orientation < 5 else (stored_size[1], stored_size[0])
    return Header(name, size, stored_size, orientation)


def _what_else(start: bytes) -> str:
    """Name the usual things that lie about under an image's name."""
    if start[4:8] == b"ftyp":
        return "this is a HEIC, AVIF or video file, which is not read here"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the image (fetch it with `git lfs pull`)"
    if start.lstrip().startswith((b"<", b"{")):
        return "this is text (a web page or an error message saved as an image?)"
    return "this is not an image, or not of a format that is read here"


def _webp_header(file: BinaryIO) -> Header:
    """Read size and orientation of a WebP from its chunks; no pixel is touched."""
    start = file.read(30)
    kind, body = start[12:16], start[20:]
    if kind == b"VP8X":
        size = int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = struct.unpack("<I", body[1:5])[0]
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        size = width & 0x3FFF, height & 0x3FFF
    else:
        raise SyntaxError("unknown kind of WebP")
    end = 8 + struct.unpack("<I", start[4:8])[0]
    if file.seek(0, os.SEEK_END) < end:
        raise EOFError(f"truncated: {end} bytes are announced")
    exif = b""
    if kind == b"VP8X" and body[0] & 0x08:
        exif = _find_chunk(file, b"EXIF", png=False)
    return _header("WEBP", size, _exif_orientation(exif))


def _late_png_exif(file: BinaryIO) -> bytes:
    """Find the EXIF block of a PNG that keeps it after the pixels, as some tools write it; else nothing."""
    position = file.tell()
    exif = _find_chunk(file, b"eXIf", png=True)
    file.seek(position)
    return exif


def _find_chunk(file: BinaryIO, wanted: bytes, *, png: bool) -> bytes:
    """Find the body of a chunk in a PNG (length, name, body, checksum) or in RIFF (name, length, body)."""
    position = 8 if png else 12
    for _ in range(100_000):  # a hostile file could hold millions of empty chunks
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        if png:
            length, name = struct.unpack(">I4s", head)
            position += 12 + length
        else:
            name, length = struct.unpack("<4sI", head)
            position += 8 + length + length % 2
        if name == wanted:
            return file.read(min(length, 1 << 20))
    return b""


def _exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, out of a raw EXIF block; 1 where it has none, is damaged or absurd.

    Pillow's own reader walks the whole block and warns of any damage in it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        first = struct.unpack_from(order + "I", tiff, 4)[0]
        count = struct.unpack_from(order + "H", tiff, first)[0]
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                code = {1: "B", 3: "H", 4: "I"}.get(kind)
                value = struct.unpack_from(order + code, tiff, entry + 8)[0] if code else 1
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _tiff_header(image: TiffImageFile) -> Header:
    tags = image.tag_v2
    stored = tags[256], tags[257]
    if tags.get(322, 1) * tags.get(323, 1) > MAX_PIXELS:
        raise ImageError(
            "the tiles of this TIFF are absurdly large. Save it anew, or leave it out.",
            code="image-too-many-pixels",
        )
    orientation = tags.get(_ORIENTATION_TAG, 1)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    return _header("TIFF", stored, orientation)


# --- pixels ---------------------------------------------------------------------------------------


def _forget_xmp(image: ImageFile.ImageFile) -> None:
    # For a TIFF Pillow would fall back on an orientation in the XMP block, which the header did not count.
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring any of Pillow's modes to 8-bit RGB (see `read`)."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        return Image.fromarray(_wide_to_8_bits(np.asarray(image), mode)).convert("RGB")
    if mode == "LAB":
        raise ImageError(
            f"its colours are Lab, which is not read here. Convert it to RGB, as {_READ_HERE}.",
            code="image-unsupported-format",
        )
    if mode == "La":
        image = image.convert("LA")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image if mode == "RGB" else image.convert("RGB")


def _wide_to_8_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits, shape (h, w), to uint8 by the ranges that `read` names."""
    grey = np.nan_to_num(values.astype(np.float64))
    lower, upper = float(grey.min()), float(grey.max())
    if mode.startswith("I;16"):
        lower, upper = 0.0, 65535.0
    elif lower >= 0 and upper <= 65535:
        ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        lower, upper = 0.0, next(top for top in ranges if upper <= top)
    elif not np.isfinite(upper - lower):  # near the largest numbers that there are
        grey, lower, upper = grey / 4, lower / 4, upper / 4
    span = upper - lower
    return np.rint((grey - lower) / span * 255 if span > 0 else grey * 0).astype(np.uint8)
