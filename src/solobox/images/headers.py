"""The headers of image files: format, size and orientation, before any pixel is decoded.

Pillow's plugins are called by name and not through `Image.open`, which would add another size limit, with a
warning, and many more formats.
"""

import contextlib
import ctypes
import functools
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from PIL import Image, ImageFile, _imaging
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from solobox.errors import ImageError
from solobox.images import heif
from solobox.images.avif_size import check_avif
from solobox.images.bitfields import BitfieldsBmp
from solobox.images.complexity import MIN_SCANS, Structure, check_tiles

SUPPORTED: Final = "JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF"
"""The formats in words, for messages."""

_ORIENTATION_TAG = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_OTHERS = (
    (4, b"ftypcrx", "a camera's raw file"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file"),
    *(
        (0, magic, "a camera's raw file")
        for magic in (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR")
    ),
)
"""What an unsupported file is: where its mark is, the mark, and the name in words."""
_warnings_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Header:
    """What an image file says before it is decoded.

    format: Pillow's name of the format, a key of `reading.FORMATS`.
    size: width and height in pixels once upright.
    stored_size: width and height in pixels as stored in the file.
    orientation: the EXIF orientation, 1 to 8; 1 (upright) where there is none or an impossible one.
    """

    format: str
    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int


class Jpeg(JpegImageFile):
    """Pillow's JPEG (an MPO is its first frame) without the search for a resolution in the EXIF block.

    That search warns about damaged blocks, and the resolution is not needed here.

    has_several_scans: as its `Structure` says.
    """

    has_several_scans = False

    def getexif(self) -> Image.Exif:
        """None: see the class."""
        return Image.Exif()


@contextlib.contextmanager
def ignore_warnings(file: BinaryIO, structure: Structure) -> Iterator[None]:
    """Ignore the warnings that Pillow's readers of TIFF, GIF and animated PNG give about odd headers.

    Warning filters belong to the process and not to the thread, so threads take turns here. The readers of
    the common formats give no warnings and do not pass through.
    """
    start = file.read(8)
    file.seek(0)
    if structure.is_animated or start.startswith((b"II", b"MM", b"GIF8")):
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    else:
        yield


@functools.cache
def _configure_libtiff() -> None:
    """Keep libtiff from writing its errors to stderr, past logging: Pillow raises an error for each.

    A TIFF may hold a progressive JPEG, whose scans libtiff counts itself; its own limit is 100.
    """
    os.environ.setdefault("LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER", str(MIN_SCANS))
    with contextlib.suppress(OSError, AttributeError):  # a Pillow with another libtiff, or none
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def open_header(
    file: BinaryIO, structure: Structure, max_pixels: int
) -> tuple[ImageFile.ImageFile | None, Header]:
    """Read the header from the start of a seekable file, of which `check_complexity` gives the structure.

    Gives Pillow's image, not yet decoded, and the header. For a WebP the image is None: its plugin allocates buffers of
    full size when it is created, so that must wait until the size was checked.

    Raises ImageError, ``image-unsupported-format`` or ``image-too-complex``, and whatever Pillow raises for
    damage.
    """
    start = file.read(64)
    file.seek(0)
    image: ImageFile.ImageFile
    if start.startswith(b"\xff\xd8\xff"):
        image = Jpeg(file)
        image.has_several_scans = structure.has_several_scans
        exif = image.info.get("exif", b"")
    elif start.startswith(_PNG):
        image = PngImageFile(file)
        exif = image.info.get("exif") or structure.exif
    elif start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return None, _webp_header(file)
    elif start.startswith(b"BM"):
        image, exif = BitfieldsBmp(file), b""
    elif start.startswith((b"GIF87a", b"GIF89a")):
        image, exif = GifImageFile(file), b""
    elif start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        _refuse_raw(file, start)
        _configure_libtiff()
        tiff = TiffImageFile(file)
        check_tiles(tiff, max_pixels)
        return tiff, _tiff_header(tiff)
    elif container := heif.format_of(start):
        image = heif.open_image(file, container)
        if container == "AVIF" and image.width * image.height <= max_pixels:  # else that is its fault
            file.seek(0)
            check_avif(file.read(), max_pixels)
        exif = image.info.get("exif", b"") if container == "AVIF" else b""
    else:
        raise ImageError(
            f"{_describe_other(start)}. Convert it to {SUPPORTED}, or leave it out.",
            code="image-unsupported-format",
        )
    return image, _header(str(image.format), image.size, _exif_orientation(exif))


def _header(name: str, stored_size: tuple[int, int], orientation: int) -> Header:
    size = stored_size if orientation < 5 else (stored_size[1], stored_size[0])
    return Header(name, size, stored_size, orientation)


def _describe_other(start: bytes) -> str:
    """What a file that is not a supported image usually is."""
    for at, magic, name in _OTHERS:
        if start.startswith(magic, at):
            return f"this is {name}, which is not supported"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the image (fetch it with `git lfs pull`)"
    if start.lstrip().startswith((b"<", b"{")):
        return "this is text (a web page or an error message saved as an image?)"
    return "this is not an image, or of a format that is not supported"


def _refuse_raw(file: BinaryIO, start: bytes) -> None:
    """Refuse a TIFF that is a camera's raw file: its first image is a thumbnail, or needs a raw converter."""
    order = "<" if start.startswith(b"II") else ">"
    tags: dict[int, int] = {}
    if start[2:4] in (b"*\0", b"\0*"):
        with contextlib.suppress(struct.error):
            file.seek(struct.unpack_from(order + "I", start, 4)[0])
            count = struct.unpack(order + "H", file.read(2))[0]
            for tag, kind, _, value in struct.iter_unpack(order + "HHI4s", file.read(12 * count)):
                tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0]
    file.seek(0)
    is_thumbnail = tags.get(254, 0) & 1 and 330 in tags
    is_raw = 50706 in tags or tags.get(259) in _RAW_COMPRESSIONS or tags.get(262) in _RAW_COLORS
    if start[8:10] == b"CR" or is_thumbnail or is_raw:
        raise ImageError(
            f"this is a camera's raw file, which is not supported. Convert it to {SUPPORTED}, or leave it out.",
            code="image-unsupported-format",
        )


_RAW_COMPRESSIONS = {32767, 34713, 65000, 65535}  # Sony, Nikon, Kodak, Pentax
_RAW_COLORS = {32803, 34892}  # a colour filter array, and what was one


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
        exif = _find_chunk(file, b"EXIF")
    return _header("WEBP", size, _exif_orientation(exif))


def _find_chunk(file: BinaryIO, chunk: bytes) -> bytes:
    """Find the body of a chunk in RIFF: name, length, body."""
    position = 12
    for _ in range(100_000):  # a hostile file could hold millions of empty chunks
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        position += 8 + length + length % 2
        if name == chunk:
            return file.read(min(length, 1 << 20))
    return b""


def _exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from a raw EXIF block; 1 where it has none or is damaged.

    Pillow's reader parses the whole block and warns of any damage in it.
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
    orientation = tags.get(_ORIENTATION_TAG, 1)
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        orientation = 1
    return _header("TIFF", stored, orientation)
