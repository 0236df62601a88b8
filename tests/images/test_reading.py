import io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from solobox.errors import ConfigError, ImageError
from solobox.images.headers import Header
from solobox.images.pixel_limit import allow_pixels
from solobox.images.reading import (
    FORMATS,
    SUFFIXES,
    decode,
    is_image_name,
    probe,
    read,
    to_square,
)


def encode(image: Image.Image, codec: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    return buffer.getvalue()


def colours(width: int = 48, height: int = 32) -> Image.Image:
    """A smooth image that no flip or turn leaves as it is."""
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes, late: bytes = b""
) -> bytes:
    """A PNG made by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + late
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def exif(value: int, kind: str = "H") -> bytes:
    """An EXIF block with the orientation alone, as a SHORT or a LONG."""
    entry = struct.pack("<HHI", 0x0112, {"H": 3, "I": 4}[kind], 1) + struct.pack("<" + kind, value).ljust(
        4, b"\0"
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_deflate"},
}
ALL: dict[str, dict[str, Any]] = {**LOSSLESS, "JPEG": {"quality": 95}, "GIF": {}}
EXIF_FORMATS = ["JPEG", "PNG", "WEBP", "TIFF"]


@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_formats_give_the_very_pixels(codec: str) -> None:
    data = encode(colours(), codec, **LOSSLESS[codec])
    image = read(data)
    np.testing.assert_array_equal(image.pixels, pixels_of(colours()))
    assert image.size == (48, 32)
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable
    assert probe(data) == Header(codec, (48, 32), (48, 32), 1)


def test_jpeg_is_close_and_gif_is_within_its_palette() -> None:
    for codec, tolerance in (("JPEG", 12), ("GIF", 60)):
        image = read(encode(colours(), codec, **ALL[codec]))
        difference = np.abs(image.pixels.astype(int) - pixels_of(colours()))
        assert difference.mean() < tolerance / 4
        assert difference.max() <= tolerance


def test_paths_and_bytes_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encode(colours(), "PNG"))
    for source in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(read(source).pixels, pixels_of(colours()))
        assert probe(source).size == (48, 32)


def test_the_format_is_found_by_content_and_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(colours(), "WEBP", lossless=True))
    assert probe(path).format == "WEBP"


def test_the_first_frame_of_several() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    for codec in ("GIF", "TIFF", "WEBP", "PNG", "MPO"):
        options = {"lossless": True} if codec == "WEBP" else {}
        data = encode(frames[0], codec, save_all=True, append_images=frames[1:], **options)
        pixels = read(data).pixels
        assert (np.abs(pixels.astype(int) - [255, 0, 0]) <= 2).all(), codec
    assert probe(data).format == "JPEG"


@pytest.mark.parametrize("codec", EXIF_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(codec: str, orientation: int) -> None:
    options = (
        {**ALL[codec], "exif": exif(orientation)} if codec != "TIFF" else {"tiffinfo": {274: orientation}}
    )
    data = encode(colours(), codec, **options)
    image, header = read(data), probe(data)
    with Image.open(io.BytesIO(data)) as opened:
        expected = pixels_of(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(image.pixels, expected)
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(decode(opened).pixels, image.pixels)
    assert header.orientation == orientation
    assert header.stored_size == (48, 32)
    assert header.size == image.size == ((48, 32) if orientation < 5 else (32, 48))
    # ... and one of them by hand: 6 means "turn clockwise", so the left column comes on top
    if orientation == 6 and codec != "JPEG":
        np.testing.assert_array_equal(image.pixels[0, ::-1], pixels_of(colours())[:, 0])


@pytest.mark.parametrize(("value", "kind"), [(0, "H"), (9, "H"), (65535, "H"), (65537, "I"), (6 << 16, "I")])
@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP"])
def test_an_impossible_orientation_is_none(codec: str, value: int, kind: str) -> None:
    data = encode(colours(), codec, **ALL[codec], exif=exif(value, kind))
    assert probe(data).orientation == 1
    np.testing.assert_array_equal(read(data).pixels, read(encode(colours(), codec, **ALL[codec])).pixels)


def test_an_impossible_orientation_in_tiff_is_none() -> None:
    data = encode(colours(), "TIFF", tiffinfo={274: 0})
    assert probe(data).orientation == 1
    np.testing.assert_array_equal(read(data).pixels, pixels_of(colours()))


def test_a_long_orientation_counts_and_so_does_big_endian() -> None:
    assert probe(encode(colours(), "JPEG", exif=exif(6, "I"))).orientation == 6
    block = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 8, 0) + bytes(4)
    assert probe(encode(colours(), "JPEG", exif=block)).orientation == 8


def test_damaged_exif_is_no_orientation() -> None:
    for block in (
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        exif(6)[:-8],
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0junkjunk",
    ):
        assert probe(encode(colours(), "JPEG", exif=block)).orientation == 1
        assert read(encode(colours(), "JPEG", exif=block)).size == (48, 32)


def test_png_exif_after_the_pixels_counts() -> None:
    row = bytes([0, 10, 20, 30, 40, 50, 60])
    data = png(2, 1, 8, 2, row, late=chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")))
    assert probe(data).orientation == 6
    np.testing.assert_array_equal(read(data).pixels, [[[10, 20, 30]], [[40, 50, 60]]])


def test_orientation_in_xmp_alone_does_not_count() -> None:
    packet = b'<x:xmpmeta xmlns:tiff="t"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for codec in ("TIFF", "WEBP", "JPEG"):
        options = {"tiffinfo": {700: packet}} if codec == "TIFF" else {"xmp": packet}
        data = encode(colours(), codec, **options)
        assert read(data).pixels.shape == (32, 48, 3)
        assert probe(data).size == (48, 32)
        if codec != "TIFF":  # Pillow turns a TIFF when it is loaded
            with Image.open(io.BytesIO(data)) as opened:
                assert decode(opened).size == (48, 32)


def test_a_truncated_pil_image_is_an_image_error() -> None:
    data = encode(colours(), "PNG")
    with Image.open(io.BytesIO(data[:-60])) as opened, pytest.raises(ImageError):
        decode(opened)


# --- modes ----------------------------------------------------------------------------------------


def grey(*values: int) -> NDArray[np.uint8]:
    return np.repeat(np.array(values, dtype=np.uint8)[None, :, None], 3, axis=2)


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 128, 257, 256 * 100, 32768, 65535]], dtype=np.uint16)
    for codec in ("PNG", "TIFF"):
        np.testing.assert_array_equal(
            read(encode(Image.fromarray(values), codec)).pixels, grey(0, 0, 1, 100, 128, 255)
        )


def test_big_endian_sixteen_bit_tiff() -> None:
    little = encode(Image.fromarray(np.array([[0, 30000, 65535]], dtype=np.uint16)), "TIFF")
    with Image.open(io.BytesIO(little)) as opened:
        values = np.asarray(opened)
    entries = [
        (256, 4, 3),
        (257, 4, 1),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 200),
        (278, 4, 1),
        (279, 4, 6),
    ]
    directory = struct.pack(">H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack(">HHI", tag, kind, 1) + (
            struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        )
    big = (b"MM\0*" + struct.pack(">I", 8) + directory + bytes(4)).ljust(200, b"\0") + values.astype(
        ">u2"
    ).tobytes()
    np.testing.assert_array_equal(read(big).pixels, grey(0, 117, 255))


def test_thirty_two_bit_grey() -> None:
    def tiff(*values: int) -> bytes:
        return encode(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF")

    np.testing.assert_array_equal(read(tiff(0, 100, 255)).pixels, grey(0, 100, 255))
    np.testing.assert_array_equal(read(tiff(0, 257, 65535)).pixels, grey(0, 1, 255))
    np.testing.assert_array_equal(read(tiff(-100, 0, 100)).pixels, grey(0, 128, 255))
    np.testing.assert_array_equal(read(tiff(0, 1 << 29, 1 << 30)).pixels, grey(0, 128, 255))


def test_floating_point_grey() -> None:
    def tiff(*values: float) -> bytes:
        return encode(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")

    np.testing.assert_array_equal(read(tiff(0, 0.5, 1)).pixels, grey(0, 128, 255))
    np.testing.assert_array_equal(read(tiff(0, 1.5, 255)).pixels, grey(0, 2, 255))
    np.testing.assert_array_equal(read(tiff(0, 257, 65535)).pixels, grey(0, 1, 255))
    np.testing.assert_array_equal(read(tiff(-1, 0, 1)).pixels, grey(0, 128, 255))
    np.testing.assert_array_equal(read(tiff(np.nan, 0, 1)).pixels, grey(0, 0, 255))
    np.testing.assert_array_equal(read(tiff(-3e38, 0, 3e38)).pixels, grey(0, 128, 255))
    np.testing.assert_array_equal(read(tiff(-2, -2, -2)).pixels, grey(0, 0, 0))


def test_sixteen_bit_colour_is_scaled() -> None:
    values = np.array([0, 0x4080, 0xFFFF, 0x8000, 0x1234, 0xFF00], dtype=">u2")
    data = png(2, 1, 16, 2, b"\0" + values.tobytes())
    assert np.abs(read(data).pixels.ravel().astype(int) - values.astype(float) / 257).max() <= 1


def test_one_bit_grey_and_palette() -> None:
    bits = Image.fromarray(np.array([[0, 255, 255, 0]], dtype=np.uint8)).convert("1")
    for codec in ("PNG", "BMP", "TIFF", "GIF"):
        np.testing.assert_array_equal(read(encode(bits, codec)).pixels, grey(0, 255, 255, 0))
    eight = Image.fromarray(np.array([[0, 77, 255]], dtype=np.uint8))
    for codec in ("PNG", "BMP", "TIFF", "GIF"):
        np.testing.assert_array_equal(read(encode(eight, codec)).pixels, grey(0, 77, 255))
    palette = Image.fromarray(np.array([[1, 0, 2]], dtype=np.uint8), "L")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for codec in ("PNG", "BMP", "TIFF", "GIF"):
        np.testing.assert_array_equal(
            read(encode(palette, codec)).pixels, [[[0, 255, 0], [255, 0, 0], [0, 0, 255]]]
        )


def test_grey_jpeg_has_three_channels() -> None:
    pixels = read(encode(Image.new("L", (20, 10), 90), "JPEG")).pixels
    assert pixels.shape == (10, 20, 3)
    assert (np.abs(pixels.astype(int) - 90) <= 1).all()


def test_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red ink
    for codec in ("JPEG", "TIFF"):  # Pillow writes the JPEG inverted, with Adobe's marker
        pixels = read(encode(image, codec)).pixels
        assert (np.abs(pixels.astype(int) - [255, 0, 0]) <= 3).all(), codec


@pytest.mark.parametrize(
    ("mode", "codec"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("LA", "TIFF")]
)
def test_alpha_is_laid_on_white(mode: str, codec: str) -> None:
    values = [[100] * (len(mode) - 1) + [alpha] for alpha in (255, 128, 0)]
    data = encode(Image.fromarray(np.array([values], dtype=np.uint8), mode), codec, **ALL[codec])
    np.testing.assert_array_equal(read(data).pixels, grey(100, 177, 255))


def test_transparent_entries_of_a_palette_are_laid_on_white() -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "L")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    expected = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    np.testing.assert_array_equal(read(encode(palette, "GIF", transparency=1)).pixels, expected)
    np.testing.assert_array_equal(read(encode(palette, "PNG", transparency=1)).pixels, expected)
    shades = read(encode(palette, "PNG", transparency=bytes([255, 0, 128]))).pixels
    np.testing.assert_array_equal(shades, [[[255, 0, 0], [255, 255, 255], [127, 127, 255]]])


def test_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    pixels = read(encode(image, "PNG", transparency=(1, 2, 3))).pixels
    np.testing.assert_array_equal(pixels, [[[255, 255, 255], [4, 5, 6]]])


def test_a_transparent_grey_of_16_bits_is_laid_on_white() -> None:
    rows = b"\0" + struct.pack(">3H", 0, 1000, 65535)
    data = png(3, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000)))
    np.testing.assert_array_equal(read(data).pixels, grey(0, 255, 255))


def bmp(bits: int, masks: tuple[int, ...], pixels: bytes, width: int, height: int) -> bytes:
    """A BMP with masks: three after a header of 40 bytes, or four in one of 56."""
    size = 40 if len(masks) == 3 else 56
    header = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, 3, 0, 0, 0, 0, 0)
    header += struct.pack(f"<{len(masks)}I", *masks)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header)) + header + pixels


@pytest.mark.parametrize(
    "masks",
    [
        (0xFF0000, 0xFF00, 0xFF),
        (0xFF00, 0xFF000000, 0xFF0000),
        (0xFF, 0xFF00, 0xFF0000),
        (0xFF0, 0xFF000, 0xFF00000),
    ],
)
@pytest.mark.parametrize("top_down", [True, False])
def test_bmp_with_any_masks(masks: tuple[int, ...], top_down: bool) -> None:
    expected = pixels_of(colours(5, 3))
    stored = np.zeros((3, 5), np.uint32)
    for channel, mask in enumerate(masks):
        stored |= expected[..., channel].astype(np.uint32) * (mask & -mask)
    data = bmp(32, masks, (stored if top_down else stored[::-1]).tobytes(), 5, -3 if top_down else 3)
    assert probe(data).size == (5, 3)
    np.testing.assert_array_equal(read(data).pixels, expected)


def test_bmp_of_16_bits_with_alpha_and_of_30_bits() -> None:
    row = struct.pack("<4H", 0xFF00, 0xF0F0, 0xF00F, 0x0000)
    data = bmp(16, (0xF00, 0xF0, 0xF, 0xF000), row, 4, 1)
    np.testing.assert_array_equal(
        read(data).pixels, [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]
    )
    row = struct.pack("<2I", 1023 << 20 | 512, 0)
    data = bmp(32, (1023 << 20, 1023 << 10, 1023), row, 2, 1)
    np.testing.assert_array_equal(read(data).pixels, [[[255, 0, 128], [0, 0, 0]]])


def test_bmp_with_masks_that_are_none() -> None:
    for masks in ((0, 0xFF00, 0xFF), (0xF0F, 0xFF00, 0xFF)):
        refused(bmp(32, masks, bytes(60), 5, 3), "image-damaged")
    refused(bmp(32, (0xFF00, 0xFF000000, 0xFF0000), bytes(59), 5, 3), "image-damaged", text="truncated")


def test_libtiff_writes_nothing_past_logging(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(colours(), "TIFF", compression="tiff_deflate")
    for at in range(20, 60, 5):
        refused(data[:at] + b"\xff\0\xff" + data[at + 3 :], "image-damaged")
    assert capfd.readouterr().err == ""


# --- reduced decoding -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((800, 600), 100, (200, 150)),
        ((800, 600), 75, (100, 75)),
        ((801, 603), 75, (101, 76)),
        ((800, 600), 76, (200, 150)),
        ((800, 600), 300, (400, 300)),
        ((800, 600), 301, (800, 600)),
        ((80, 60), 500, (80, 60)),
        ((1600, 60), 40, (1600, 60)),
    ],
)
def test_jpeg_is_decoded_reduced(size: tuple[int, int], at_least: int, expected: tuple[int, int]) -> None:
    image = read(encode(colours(*size), "JPEG", quality=95), at_least=at_least)
    assert image.size == size
    assert image.pixels.shape == (expected[1], expected[0], 3)
    reference = np.asarray(colours(*size).resize(expected, Image.Resampling.BOX)).astype(int)
    assert np.abs(image.pixels - reference).mean() < 2


def test_reduced_decoding_keeps_the_orientation() -> None:
    image = read(encode(colours(800, 600), "JPEG", exif=exif(6)), at_least=100)
    assert image.size == (600, 800)
    assert image.pixels.shape == (200, 150, 3)
    assert image.pixels[0, -1, 1] < 10  # the stored top left corner is now at the top right
    assert image.pixels[-1, 0, 1] > 245


def test_other_formats_are_decoded_whole() -> None:
    assert read(encode(colours(160, 120), "PNG"), at_least=16).pixels.shape == (120, 160, 3)
    with pytest.raises(ValueError, match="at_least"):
        read(encode(colours(), "PNG"), at_least=0)


# --- what is refused ------------------------------------------------------------------------------


def refused(
    source: str | Path | bytes, code: str, act: Callable[..., Any] = read, *, text: str = "", **limits: int
) -> None:
    """text: in the message, where one code has several reasons."""
    with pytest.raises(ImageError) as caught:
        act(source, **limits)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert text in message
    assert (str(source) if not isinstance(source, bytes) else "bytes") in message
    assert message.endswith(".")


@pytest.mark.parametrize("act", [read, probe])
def test_what_is_no_image(tmp_path: Path, act: Callable[..., Any]) -> None:
    refused(tmp_path / "none.jpg", "image-damaged", act, text="no such file")
    refused(str(tmp_path / "none.jpg"), "image-damaged", act, text="no such file")
    refused(tmp_path, "image-damaged", act, text="folder")
    refused("a\0b.jpg", "image-damaged", act, text="cannot be opened")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    refused(empty, "image-empty", act)
    refused(empty / "below.jpg", "image-damaged", act, text="cannot be opened")
    refused(b"", "image-empty", act)
    for content, text in (
        (b"hello, this is no image", "not an image"),
        (b"<!doctype html><html>", "this is text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (encode(colours(), "PPM"), "not supported"),
        (encode(colours(), "ICO"), "not supported"),
    ):
        refused(content, "image-unsupported-format", act, text=text)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        refused(tmp_path / "pipe.jpg", "image-damaged", act, text="not an ordinary file")


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encode(colours(), "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    refused(path, "image-damaged", text="permissions")


@pytest.mark.parametrize("act", [read, probe])
@pytest.mark.parametrize("codec", ALL)
def test_the_limits(codec: str, act: Callable[..., Any], tmp_path: Path) -> None:
    data = encode(colours(), codec, **ALL[codec])
    path = tmp_path / "image"
    path.write_bytes(data)
    for source in (data, path):
        refused(source, "image-too-many-pixels", act, max_pixels=1535)
        refused(source, "image-too-large", act, max_bytes=len(data) - 1)
        act(source, max_pixels=1536, max_bytes=len(data))


def hollow(codec: str, width: int, height: int) -> bytes:
    """A file that claims a size and has next to no pixels."""
    if codec == "PNG":
        return png(width, height, 8, 2, bytes(900))
    data = bytearray(encode(Image.new("RGB", (16, 16)), codec, **ALL[codec]))
    if codec == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
    elif codec == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif codec == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif codec == "WEBP":
        data = bytearray(encode(Image.new("RGBA", (16, 16)), "WEBP", exif=exif(1)))
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    else:
        count = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])[0]
        for entry in range(count):
            at = struct.unpack_from("<I", data, 4)[0] + 2 + 12 * entry
            tag = struct.unpack_from("<H", data, at)[0]
            if tag in (256, 257):
                struct.pack_into("<HHII", data, at, tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


@pytest.mark.parametrize("act", [read, probe])
@pytest.mark.parametrize("size", [(7000, 7100), (9000, 9900), (12000, 12000)])
@pytest.mark.parametrize("codec", ALL)
def test_a_huge_claim_in_a_small_file_allocates_nothing(
    codec: str, size: tuple[int, int], act: Callable[..., Any]
) -> None:
    data = hollow(codec, *size)
    assert len(data) < 2000
    peak_before = peak_memory()
    refused(data, "image-too-many-pixels", act, text=f"{size[0]}x{size[1]}")
    assert peak_memory() - peak_before < 20_000_000
    tracemalloc.start()
    refused(data, "image-too-many-pixels", act, text=f"{size[0]}x{size[1]}")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def peak_memory() -> int:
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def test_a_limit_raised_above_pillows_own_holds_without_a_warning() -> None:
    data = hollow("PNG", 14000, 14000)  # 196 million pixels: Pillow's own limit would refuse them
    assert probe(data + bytes(30_000), max_pixels=200_000_000).size == (14000, 14000)


def big_jpeg(width: int, height: int, **options: Any) -> bytes:
    return encode(Image.new("RGB", (width, height), (90, 120, 30)), "JPEG", **options)


@pytest.mark.parametrize(
    ("options", "most"), [({}, 4), ({"progressive": True}, 2)], ids=["one scan", "progressive"]
)
def test_a_jpeg_that_is_reduced_may_have_more_pixels(
    options: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = big_jpeg(800, 600, **options)
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", str(800 * 600 // most))
    image = read(data, at_least=60)
    assert (image.size, image.pixels.shape) == ((800, 600), (75, 100, 3))
    assert probe(data).size == (800, 600)
    refused(data, "image-too-many-pixels", read)  # at its full size
    refused(data, "image-too-many-pixels", text="limit of", at_least=500)
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", str(800 * 600 // most - 1))
    for act in (read, probe):
        refused(data, "image-too-many-pixels", act, text="--max-pixels 480000")
    refused(data, "image-too-many-pixels", at_least=60)
    refused(data, "image-too-many-pixels", at_least=60, max_pixels=800 * 600 - 1)  # a stated limit is strict
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", "480000")  # as the message says
    assert read(data).pixels.shape == (600, 800, 3)


def test_an_image_of_a_phone_with_108_megapixels_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    Image.new("L", (12000, 9000), 90).save(path)
    assert probe(path).size == (12000, 9000)
    peak_before = peak_memory()
    image = read(path, at_least=320)
    assert (image.size, image.pixels.shape) == ((12000, 9000), (1125, 1500, 3))
    assert peak_memory() - peak_before < 100_000_000


@pytest.mark.parametrize("codec", sorted(set(ALL) - {"JPEG"}))
def test_other_formats_have_the_limit_itself(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(colours(), codec, **ALL[codec])
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", "1535")
    refused(data, "image-too-many-pixels", at_least=2)
    monkeypatch.setenv("SOLOBOX_MAX_PIXELS", "1536")
    assert read(data).size == (48, 32)


def test_a_limit_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("many", "0", "-1", "8e7"):
        monkeypatch.setenv("SOLOBOX_MAX_PIXELS", text)
        with pytest.raises(ConfigError, match="SOLOBOX_MAX_PIXELS"):
            read(encode(colours(), "PNG"))
    with pytest.raises(ConfigError, match="--max-pixels"):
        allow_pixels(0)


@pytest.mark.parametrize("codec", ["PNG", "BMP", "GIF"])
def test_no_pixels(codec: str) -> None:
    data = png(0, 5, 8, 2, b"") if codec == "PNG" else hollow(codec, 0, 5)
    if codec == "GIF":
        at = data.index(b"\x2c") + 5
        data = data[:at] + struct.pack("<HH", 0, 5) + data[at + 4 :]
    with pytest.raises(ImageError):
        read(data)


@pytest.mark.parametrize("codec", ALL)
def test_a_truncated_file_says_so(codec: str, tmp_path: Path) -> None:
    data = encode(colours(200, 150), codec, **ALL[codec])
    path = tmp_path / f"cut.{codec.lower()}"
    path.write_bytes(data[: len(data) * 2 // 3])
    refused(path, "image-damaged", text="damaged" if codec == "TIFF" else "truncated")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_signalling_nan_gives_no_warning() -> None:
    values = np.array([[0x7F800001, 0x3F800000]], np.uint32).view(np.float32)
    data = encode(Image.fromarray(values), "TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read(data).pixels, [[[0] * 3, [255] * 3]])


def test_lab_is_refused_with_the_reason() -> None:
    refused(encode(Image.new("LAB", (8, 8)), "TIFF"), "image-unsupported-format", text="Lab")


# --- fuzz -----------------------------------------------------------------------------------------

SEEDS = {codec: encode(colours(24, 16), codec, **ALL[codec]) for codec in ALL}
SEEDS["JPEG with EXIF"] = encode(colours(24, 16), "JPEG", exif=exif(6))
SEEDS["progressive"] = encode(colours(24, 16), "JPEG", progressive=True)
SEEDS["PNG palette"] = encode(colours(24, 16).quantize(16), "PNG", transparency=3, exif=exif(3))
SEEDS["PNG animated"] = encode(
    colours(24, 16), "PNG", save_all=True, append_images=[Image.new("RGB", (24, 16))]
)
SEEDS["WebP extended"] = encode(colours(24, 16).convert("RGBA"), "WEBP", exif=exif(5))
SEEDS["BMP of masks"] = bmp(32, (0xFF00, 0xFF000000, 0xFF0000), bytes(24 * 16 * 4), 24, 16)
SEEDS["TIFF plain"] = encode(colours(24, 16), "TIFF")


def survives(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            header = probe(data)
            image = read(data, at_least=4)
        except ImageError:
            return
        width, height = image.size
        assert header.size == image.size
        assert image.pixels.dtype == np.uint8
        assert image.pixels.shape[2] == 3
        assert image.pixels.shape[0] <= height
        assert image.pixels.shape[1] <= width


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"RIFF\0\0\0\0WEBPVP8X",
        ]
    ),
)
def test_random_bytes(data: bytes, magic: bytes) -> None:
    survives(magic + data)


@settings(deadline=None)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_random_truncations(name: str, data: st.DataObject) -> None:
    whole = SEEDS[name]
    survives(whole[: data.draw(st.integers(0, len(whole)))])


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_random_damage(name: str, data: st.DataObject) -> None:
    damaged = bytearray(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # headers are where it matters most
        at = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, min(80, len(damaged) - 1)))
        damaged[at] = data.draw(st.integers(0, 255))
    survives(bytes(damaged))


def test_threads_read_side_by_side() -> None:
    """Many threads, the quiet formats among them, see the right pixels; the warning filters stay."""
    sources = [SEEDS[name] for name in sorted(SEEDS)] * 20
    expected = [read(data).pixels for data in sources]
    filters = list(warnings.filters)
    failures: list[int] = []

    def work(part: int) -> None:
        mine = range(part, len(sources), 8)
        failures.extend(i for i in mine if not np.array_equal(read(sources[i]).pixels, expected[i]))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == filters


# --- the rest -------------------------------------------------------------------------------------


def test_names() -> None:
    assert is_image_name("a/b.JPG")
    assert is_image_name(Path("b.tiff"))
    assert not is_image_name("b.txt")
    assert not is_image_name("jpg")
    assert {suffix for group in FORMATS.values() for suffix in group} == SUFFIXES


def test_to_square_averages_each_axis() -> None:
    stripes = np.zeros((64, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    square = to_square(stripes, 32)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    assert square.flags.c_contiguous
    assert square.flags.writeable
    assert (np.abs(square.astype(int) - 127) < 20).all()  # without antialiasing it would be all 0 or all 255
    left = np.zeros((10, 40, 3), dtype=np.uint8)
    left[:, :20] = 200
    np.testing.assert_array_equal(to_square(left, 20)[:, :9], 200)
    np.testing.assert_array_equal(to_square(left, 20)[:, 11:], 0)


def test_to_square_refuses_other_arrays() -> None:
    for pixels in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ):
        with pytest.raises(ValueError, match="uint8"):
            to_square(pixels, 2)  # type: ignore[arg-type]


@pytest.mark.real
def test_the_odd_ones_among_real_images(real_data: Path) -> None:
    images = real_data / "kangaroo" / "images"
    assert probe(images / "00090.jpg").size == (590, 393)
    refused(images / "00090.jpg", "image-damaged", text="truncated")
    for name in ("00076.jpg", "00103.jpg"):
        with Image.open(images / name) as opened:
            assert opened.getexif().get(0x0112) in (0, 65537)
            expected = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(read(images / name).pixels, expected)
        assert probe(images / name).orientation == 1
