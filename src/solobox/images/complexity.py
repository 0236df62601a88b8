"""Files that are within every limit of size and yet take minutes to decode: refused before Pillow sees them.

A progressive JPEG may refine its pixels in thousands of scans, a PNG may hold a colour profile thousands of times, and
what Pillow reads in Python, a byte or a block at a time, may be millions of them. Cameras and editors write nothing of
the kind. Damage is passed over in silence here: whoever decodes the file reports it.
"""

import contextlib
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from PIL.TiffImagePlugin import TiffImageFile

from solobox.errors import ImageError

MIN_SCANS: Final = 32
"""Scans that a JPEG of any size may have. Encoders write up to about 20."""
_MAX_SCANS = 100
_MAX_PIXELS_OF_SCANS = 1_000_000_000
_MAX_SEGMENTS = 5_000
_MAX_BLOCKS = 50_000
_MAX_CHUNKS = 10_000
_BYTES_OF_CHUNK = 2048  # encoders write pixels in chunks of at least this
_MAX_TAGS = 4_000
_MAX_TILES = 100_000
_MAX_RLE_BYTES = 4_000_000
_MAX_TILE_BYTES = 16_000_000
_MAX_ANIMATED_PIXELS = 20_000_000
"""Of an animated WebP, for whose first frame libwebp holds its canvas several times: 18 bytes a pixel."""

_MAX_EXIF_BYTES = 1 << 20

_PNG = b"\x89PNG\r\n\x1a\n"
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of a value by its type."""
_TIFF_TILES = {273, 279, 324, 325}
"""Tags with one value for each strip or tile."""
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


@dataclass(frozen=True, slots=True)
class Structure:
    """What the parts of an image file say of it.

    has_several_scans: of a JPEG: libjpeg then holds all of its coefficients, at whatever reduced size it decodes, and
        otherwise a few rows.
    is_animated: of a PNG. exif: of a PNG, its first EXIF block, wherever it is.
    """

    has_several_scans: bool = False
    is_animated: bool = False
    exif: bytes = b""


def check_complexity(file: BinaryIO) -> Structure:
    """Check a seekable file from its start, where it is left.

    Raises ImageError, ``image-too-complex``.
    """
    start = file.read(8)
    try:
        for magic, check in _CHECKS.items():
            if start.startswith(magic):
                with contextlib.suppress(struct.error, IndexError):
                    return check(file) or _SIMPLE
    finally:
        file.seek(0)
    return _SIMPLE


def check_tiles(image: TiffImageFile, max_pixels: int) -> None:
    """Check the size of a tile or strip of a TIFF: libtiff decodes one as a whole, however small the image is.

    Raises ImageError, ``image-too-complex``.
    """
    tags = image.tag_v2
    if tags.get(259, 1) == 1:  # not compressed, so that the file has all these bytes
        return
    bits = max(tags.get(258, (1,)))
    samples = tags.get(277, 1) if tags.get(284, 1) == 1 else 1
    width, height = tags.get(322, tags[256]), tags.get(323, min(tags.get(278, tags[257]), tags[257]))
    size = width * height * samples * bits // 8
    whole = tags[256] * tags[257] * samples * bits // 8
    if size > max(_MAX_TILE_BYTES, min(2 * whole, 4 * max_pixels)):
        raise _too_complex(f"one of its tiles or strips takes {size:,} bytes")


def _check_jpeg(file: BinaryIO) -> Structure:
    """Count segments, as Pillow reads them, and scans."""
    position, pixels, components, progressive = 2, 0, 0, False
    for _ in range(_MAX_SEGMENTS):
        file.seek(position)
        head = file.read(12)
        if head[0] != 0xFF:
            return _SIMPLE
        marker = head[1]
        if marker == 0xFF:  # filler
            position += 1
            continue
        if marker in (0, _TEM, _SOI, _EOI) or marker in _RESTARTS:
            position += 2
            continue
        if marker == _SOS:
            several = progressive or head[4] < components  # else libjpeg accepts one scan
            if several and pixels:
                _check_scans(file, position, pixels)
            return Structure(has_several_scans=several)
        if marker in _FRAMES:
            height, width, components = struct.unpack(">HHB", head[5:10])
            pixels, progressive = width * height, marker in _PROGRESSIVE
        position += 2 + int(struct.unpack(">H", head[2:4])[0])
    raise _too_complex(f"it has more than {_MAX_SEGMENTS} segments before its pixels")


def _check_scans(file: BinaryIO, position: int, pixels: int) -> None:
    limit = max(MIN_SCANS, min(_MAX_SCANS, _MAX_PIXELS_OF_SCANS // pixels))
    file.seek(position)
    data = file.read()
    scans, at = 0, 0
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None or data[match.start() + 1] == _EOI:
            return
        at = match.start()
        scans += data[at + 1] == _SOS
        if scans > limit:
            raise _too_complex(f"its {pixels:,} pixels come in more than {limit} scans")
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise _too_complex(f"it has more than {_MAX_SEGMENTS} segments between its scans")


def _check_png(file: BinaryIO) -> Structure:
    """Count chunks, up to the last one."""
    limit = _MAX_CHUNKS + file.seek(0, 2) // _BYTES_OF_CHUNK
    position, profiles, is_animated, exif = 8, 0, False, b""
    for _ in range(limit):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head.endswith(b"IEND"):
            return Structure(is_animated=is_animated, exif=exif)
        length, name = struct.unpack(">I4s", head)
        profiles += name == b"iCCP"
        if profiles > 1:
            raise _too_complex("it has more than one colour profile")
        is_animated |= name == b"acTL"
        if name == b"eXIf" and not exif:
            exif = file.read(min(length, _MAX_EXIF_BYTES))
        position += 12 + length
    raise _too_complex(f"it has more than {limit} chunks")


def _check_gif(file: BinaryIO) -> None:
    """Count what comes before the first frame: blocks, and what is none, which Pillow skips."""
    file.seek(10)
    flags = file.read(3)[0]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(_MAX_BLOCKS):
        file.seek(position)
        kind = file.read(1)[0]
        if in_extension:
            position += 1 + kind
            in_extension = kind > 0
        elif kind in (0x2C, 0x3B):
            return
        else:
            in_extension = kind == 0x21
            position += 2 if in_extension else 1
    raise _too_complex(f"it has more than {_MAX_BLOCKS} blocks before its first frame")


def _check_tiff(file: BinaryIO) -> None:
    """Count tags, their bytes, which may overlap, and tiles: Pillow reads all of them."""
    length = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    order = "<" if head.startswith(b"II") else ">"
    big = b"+" in head[:4]
    first = int(struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0])
    entry, counter = (
        struct.Struct(order + ("HHQQ" if big else "HHII")),
        struct.Struct(order + ("Q" if big else "H")),
    )
    file.seek(first)
    count = int(counter.unpack(file.read(counter.size))[0])
    if count > _MAX_TAGS:
        raise _too_complex(f"it has {count:,} tags")
    size = 0
    for tag, kind, values, _ in entry.iter_unpack(file.read(entry.size * count)):
        size += values * _TIFF_SIZES.get(kind, 0)
        if tag in _TIFF_TILES and values > _MAX_TILES:
            raise _too_complex(f"it has {values:,} tiles or strips")
    if size > 2 * length + _MAX_TAGS:
        raise _too_complex(f"its tags announce {size:,} bytes in a file of {length:,}")


def _check_bmp(file: BinaryIO) -> None:
    """Pillow decodes runs in Python."""
    file.seek(0)
    header = file.read(34)
    if struct.unpack_from("<I", header, 14)[0] >= 40 and struct.unpack_from("<I", header, 30)[0] in (1, 2):
        length = file.seek(0, 2)
        if length > _MAX_RLE_BYTES:
            raise _too_complex(f"its {length:,} bytes are run-length encoded")


def _check_webp(file: BinaryIO) -> None:
    file.seek(8)
    kind, _, flags, canvas = struct.unpack("<8sIB3x6s", file.read(22))
    if kind == b"WEBPVP8X" and flags & 2:
        width, height = (int.from_bytes(canvas[at : at + 3], "little") + 1 for at in (0, 3))
        if width * height > _MAX_ANIMATED_PIXELS:
            raise _too_complex(f"it is an animation of {width} x {height} pixels")


def _too_complex(why: str) -> ImageError:
    return ImageError(
        f"it would take too long or too much memory to decode: {why}. Open it in an image editor and save it again.",
        code="image-too-complex",
    )


_SIMPLE = Structure()
_CHECKS: Mapping[bytes, Callable[[BinaryIO], Structure | None]] = {
    b"\xff\xd8\xff": _check_jpeg,
    _PNG: _check_png,
    b"GIF8": _check_gif,
    b"BM": _check_bmp,
    b"RIFF": _check_webp,
    **dict.fromkeys(_TIFF_STARTS, _check_tiff),
}
"""By how a file starts."""
