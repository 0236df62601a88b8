"""The size of what an AVIF really holds: its container may state a small image, and its frames be huge.

Pillow's decoder allocates for the frame, up to 268 million pixels, and then scales it to the stated size.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from solobox.errors import ImageError

_MAX_ITEMS: Final = 2_000
_MAX_UNITS: Final = 1_000
_SEQUENCE_HEADER: Final = 1


def check_avif(data: bytes, max_pixels: int) -> None:
    """Refuse frames of more than `max_pixels` in any image of a file.

    Raises ImageError: ``image-too-complex``, ``image-unsupported-format`` for an animation; EOFError and struct.error
    for damage.
    """
    boxes = dict(_boxes(data, 0, len(data)))
    if data[8:12] != b"avif" and (data[8:12] == b"avis" or b"moov" in boxes):
        raise ImageError(
            "this is an animated AVIF, which is not supported. Save one of its frames, or leave it out.",
            code="image-unsupported-format",
        )
    start, end = boxes.get(b"meta", (0, 0))
    meta = dict(_boxes(data, start + 4, end))
    coded = _coded_items(data, *meta.get(b"iinf", (0, 0)))
    for item, content in _contents(data, *meta.get(b"iloc", (0, 0)), meta.get(b"idat", (0, 0))):
        if item not in coded:
            continue
        coded.discard(item)
        sizes = list(_frame_sizes(content))
        if not sizes:
            raise EOFError("an image has no sequence header")
        for width, height in sizes:
            if width * height > max_pixels:
                raise ImageError(
                    f"it would take too much memory to decode: a frame has {width}x{height} pixels. "
                    "Open it in an image editor and save it again.",
                    code="image-too-complex",
                )
    if coded:
        raise EOFError("an image has no content")


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """The boxes in a range: type, and where their content begins and ends."""
    for _ in range(_MAX_ITEMS):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        elif size == 0:
            size = end - start
        if size < head:
            raise EOFError("a box is smaller than its header")
        yield kind, (start + head, min(start + size, end))
        start += size
    raise EOFError("there are too many boxes")


def _coded_items(data: bytes, start: int, end: int) -> set[int]:
    """The numbers of the items that AV1 codes."""
    first = start + (6 if data[start : start + 1] == b"\0" else 8)
    items = set()
    for _, (at, _) in _boxes(data, first, end):
        version = data[at]
        if version >= 2:
            item = struct.unpack_from(">H" if version == 2 else ">I", data, at + 4)[0]
            kind = at + (8 if version == 2 else 10)
            if data[kind : kind + 4] == b"av01":
                items.add(item)
    if not items:
        raise EOFError("it has no image")
    return items


@dataclass(slots=True)
class _Bytes:
    data: bytes
    at: int

    def number(self, size: int) -> int:
        """The next `size` bytes as a number."""
        if self.at + size > len(self.data):
            raise EOFError("truncated")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def _contents(data: bytes, start: int, end: int, idat: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
    """Each item's number and bytes, by the table of their places."""
    table = _Bytes(data[:end], start)
    version = table.number(4) >> 24
    sizes = table.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    count = table.number(2 if version < 2 else 4)
    for _ in range(min(count, _MAX_ITEMS)):
        item = table.number(2 if version < 2 else 4)
        method = table.number(2) & 15 if version else 0
        table.number(2)
        base = table.number(base_size)
        content = b""
        for _ in range(table.number(2)):
            table.number(index_size)
            offset, length = base + table.number(offset_size), table.number(length_size)
            first, last = (0, len(data)) if method == 0 else idat
            stop = min(first + offset + length, last) if length else last
            content += data[first + offset : stop]
            if len(content) > len(data):
                raise EOFError("its parts overlap")
        yield item, content


def _frame_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of the largest frame, in pixels, of each sequence header."""
    units = _Bytes(content, 0)
    for _ in range(_MAX_UNITS):
        if units.at >= len(content):
            return
        header = units.number(1)
        if header & 4:  # an extension
            units.number(1)
        size = _leb128(units) if header & 2 else len(content) - units.at
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            yield _frame_size(content[units.at : units.at + size])
        units.at += size
    raise EOFError("it has too many units")


def _leb128(units: _Bytes) -> int:
    value = 0
    for place in range(8):
        byte = units.number(1)
        value |= (byte & 127) << 7 * place
        if byte < 128:
            break
    return value


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._text = "".join(f"{byte:08b}" for byte in data[:256])
        self._at = 0

    def number(self, bits: int) -> int:
        if self._at + bits > len(self._text):
            raise EOFError("truncated")
        self._at += bits
        return int(self._text[self._at - bits : self._at] or "0", 2)


def _frame_size(header: bytes) -> tuple[int, int]:
    """Section 5.5 of the AV1 specification, up to the size."""
    bits = _Bits(header)
    bits.number(4)  # profile, still picture
    if bits.number(1):  # reduced
        bits.number(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.number(4) + 1, bits.number(4) + 1
    return bits.number(width_bits) + 1, bits.number(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.number(1):  # timing
        bits.number(64)
        if bits.number(1):  # a number in Elias' code
            zeros = 0
            while not bits.number(1):
                zeros += 1
            bits.number(zeros if zeros < 32 else 0)
        if bits.number(1):  # decoder model
            delay_bits = bits.number(5) + 1
            bits.number(42)
    has_delay = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.number(12)
        if bits.number(5) > 7:
            bits.number(1)
        if delay_bits and bits.number(1):
            bits.number(2 * delay_bits + 1)
        if has_delay and bits.number(1):
            bits.number(4)
