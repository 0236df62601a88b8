"""Images that are small and take minutes, or gigabytes, to decode: refused from the header by every reader."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solobox.errors import ImageError
from solobox.images.complexity import MIN_SCANS
from solobox.images.reading import probe, read

from error_codes import has_code  # isort: skip

TOO_COMPLEX = pytest.raises(ImageError, check=has_code("image-too-complex"))


def encode(codec: str, size: tuple[int, int] = (8, 8), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, 90).save(buffer, codec, **options)
    return buffer.getvalue()


def jpeg_scans(scans: int, size: tuple[int, int] = (16, 16)) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    content = encode("JPEG", size, progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


def in_jpeg(more: bytes) -> bytes:
    content = encode("JPEG")
    return content[:2] + more + content[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def in_png(more: bytes, *, late: bool = False) -> bytes:
    content = encode("PNG")
    at = len(content) - 12 if late else 33
    return content[:at] + more + content[at:]


def in_gif(more: bytes) -> bytes:
    content = encode("GIF")
    at = content.index(b"\x2c")
    return content[:at] + more + content[at:]


def profile() -> bytes:
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20)))


def tiff_tile(side: int, *, size: int = 16) -> bytes:
    """A TIFF of 16-bit RGBA with one compressed tile, which is larger than the image."""
    pixels = zlib.compress(bytes(side * side * 8))
    pixels += bytes(len(pixels) % 2)
    first = 8 + len(pixels)
    entries = [
        (256, 3, 1, size), (257, 3, 1, size), (258, 3, 4, first + 2 + 12 * 12 + 4), (259, 3, 1, 8), (262, 3, 1, 2),
        (277, 3, 1, 4), (284, 3, 1, 1), (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8),
        (325, 4, 1, len(pixels)), (338, 3, 1, 2),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", first)
    return (
        head + pixels + struct.pack("<H", len(entries)) + directory + bytes(4) + struct.pack("<4H", *[16] * 4)
    )


def tiff(*more: tuple[int, int, int, int], pixels: bytes = bytes(64), **changed: int) -> bytes:
    """A grey TIFF of 8 x 8 pixels. more: further tags. changed: values of the others."""
    tags = {"size": 8, "compression": 1} | changed
    first = 8 + len(pixels) + len(pixels) % 2
    entries = [
        (256, 4, 1, tags["size"]), (257, 4, 1, tags["size"]), (258, 3, 1, 8), (259, 3, 1, tags["compression"]),
        (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, tags["size"]), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    entries = sorted({entry[0]: entry for entry in (*entries, *more)}.values())
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<I", first) + pixels).ljust(first, b"\0") + directory + bytes(4)


def big_tiff(tags: int) -> bytes:
    entries = struct.pack("<HHQQ", 256, 3, 1, 8) * tags
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, tags) + entries + bytes(8)


def bmp_runs(count: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 100, 100, 1, 8, 1, 0, 0, 0, 256, 0)
    palette = b"".join(bytes([shade, 255 - shade, 0, 0]) for shade in range(256))
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + palette + b"\1\5" * count


def webp_animation(width: int, height: int) -> bytes:
    """Two small frames on a canvas of another size."""
    frames = [Image.new("RGB", (8, 8), shade) for shade in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    content = bytearray(buffer.getvalue())
    content[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(content)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of 10,000 scans": lambda: jpeg_scans(10_000),
    "large JPEG of 40 scans": lambda: jpeg_scans(40, (6000, 6000)),
    "JPEG of 300,000 segments": lambda: in_jpeg(b"\xff\xe1\0\x09Exif\0\0a" * 300_000),
    "JPEG of filler": lambda: in_jpeg(b"\xff" * 1_000_000),
    "JPEG of beginnings": lambda: in_jpeg(b"\xff\xd8" * 500_000),
    "JPEG of tables between scans": lambda: jpeg_scans(12)[:-2] + b"\xff\xfe\0\2" * 500_000 + b"\xff\xd9",
    "PNG of colour profiles": lambda: in_png(profile() * 2),
    "PNG of late colour profiles": lambda: in_png(profile() * 2, late=True),
    "PNG of empty chunks": lambda: in_png(chunk(b"teSt", b"") * 100_000),
    "GIF of garbage": lambda: in_gif(b"\1" * 1_000_000),
    "GIF of comments": lambda: in_gif(b"\x21\xfe\1a\0" * 100_000),
    "TIFF of one tile": lambda: tiff_tile(2500),
    "TIFF of overlapping tags": lambda: tiff(*((40_000 + n, 7, 1_000_000, 8) for n in range(3_000))) + bytes(1 << 20),
    "TIFF of 60,000 tags": lambda: tiff(*((1_000 + n, 3, 1, 0) for n in range(60_000))),
    "TIFF of a million tiles": lambda: tiff((324, 4, 1_000_000, 8)) + bytes(4_000_000),
    "BigTIFF of 100,000 tags": lambda: big_tiff(100_000),
    "BMP of runs": lambda: bmp_runs(2_500_000),
    "WebP animation of a huge canvas": lambda: webp_animation(1_048_656, 60),
}  # fmt: skip


@pytest.mark.parametrize("act", [read, probe])
@pytest.mark.parametrize("name", HOSTILE)
def test_they_are_refused_from_the_header(name: str, act: Callable[[bytes], object]) -> None:
    content = HOSTILE[name]()
    with TOO_COMPLEX:
        act(content)


def test_their_ordinary_relatives_are_read() -> None:
    ordinary = (
        webp_animation(8, 8),
        jpeg_scans(100),
        jpeg_scans(MIN_SCANS, (1200, 900)),
        in_jpeg((b"\xff\xe2\xff\xff" + bytes(65533)) * 300),  # a depth map, as telephones write it
        in_png(profile()),
        in_png(chunk(b"teSt", b"") * 5_000),
        in_gif(b"\x21\xfe" + (b"\xff" + bytes(255)) * 5_000 + b"\0"),
        tiff_tile(512),
        tiff(),
        tiff((40_000, 7, 60, 8)),
    )
    for content in ordinary:
        assert read(content).pixels.ndim == 3


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_a_compressed_tiff_in_one_strip_is_read(compression: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression=compression, tiffinfo={278: 2500})
    assert read(buffer.getvalue()).pixels.shape == (2500, 3000, 3)


def test_a_progressive_jpeg_in_a_tiff() -> None:
    size = 1024
    read(tiff(pixels=jpeg_scans(10, (size, size)), size=size, compression=7))
    with pytest.raises(ImageError):
        read(tiff(pixels=jpeg_scans(MIN_SCANS + 10, (size, size)), size=size, compression=7))
