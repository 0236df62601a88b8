"""AVIF, HEIC, and formats that are not supported: each says what it is and what to do."""

import contextlib
import io
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from error_codes import has_code
from solobox.errors import ImageError
from solobox.images import heif
from solobox.images.avif_size import check_avif
from solobox.images.reading import is_any_image_name, is_image_name, probe, read

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def corners() -> Image.Image:
    """An image of four flat colours, 64x48: no flip or turn leaves it as it is, and no codec changes it much."""
    image = Image.new("RGB", (64, 48))
    for number, colour in enumerate(["red", "lime", "blue", "white"]):
        image.paste(colour, (number % 2 * 32, number // 2 * 24, number % 2 * 32 + 32, number // 2 * 24 + 24))
    return image


def encode(image: Image.Image, codec: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, codec, **options)
    return buffer.getvalue()


@pytest.fixture
def fresh() -> Iterator[None]:
    """The package for HEIC is looked for again."""
    heif._heif_plugin.cache_clear()
    yield
    heif._heif_plugin.cache_clear()


def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in heif.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_upright_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(corners(), "AVIF", exif=exif.tobytes(), quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(corners(), "PNG", exif=exif.tobytes()))))
    header, image = probe(data), read(data, at_least=16)
    assert (header.format, header.size, image.size) == ("AVIF", upright.size, upright.size)
    assert np.abs(image.pixels.astype(int) - np.asarray(upright)).mean() < 8


def test_transparent_avif_is_laid_on_white() -> None:
    image = corners().convert("RGBA")
    image.putalpha(0)
    assert read(encode(image, "AVIF")).pixels.min() == 255


@pytest.mark.parametrize("act", [read, probe])
def test_limits_and_damage_of_avif(act: Callable[..., Any]) -> None:
    data = encode(corners(), "AVIF")
    with pytest.raises(ImageError, check=has_code("image-too-many-pixels")):
        act(data, max_pixels=64 * 48 - 1)
    for length in (20, 60, len(data) // 3):
        with pytest.raises(ImageError, check=has_code("image-damaged")):
            act(data[:length])


def with_stated_size(data: bytes, width: int, height: int) -> bytes:
    """The AVIF with another size in its container than in its frames."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


@pytest.mark.parametrize("act", [read, probe])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_frames_of_an_avif_are_not_larger_than_it_says(act: Callable[..., Any], mode: str) -> None:
    data = encode(corners().convert(mode), "AVIF")
    assert act(data, max_pixels=64 * 48).size == (64, 48)
    lying = with_stated_size(data, 16, 16)
    with pytest.raises(ImageError, match="64x48", check=has_code("image-too-complex")):
        act(lying, max_pixels=64 * 48 - 1)


def test_the_size_in_the_long_header_of_frames() -> None:
    film = encode(corners(), "AVIF", save_all=True, append_images=[corners().rotate(180)])
    still = film.replace(b"ftypavis", b"ftypavif")  # then its items count, which have a film's header
    check_avif(still, 64 * 48)
    with pytest.raises(ImageError, match="64x48", check=has_code("image-too-complex")):
        check_avif(still, 64 * 48 - 1)


def test_an_animated_avif_is_refused() -> None:
    data = encode(corners(), "AVIF", save_all=True, append_images=[corners().rotate(180)])
    for film in (data, data.replace(b"ftypavis", b"ftypmif1")):
        with pytest.raises(ImageError, match="animated", check=has_code("image-unsupported-format")):
            read(film)


AVIF = encode(corners().convert("RGBA"), "AVIF")


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(AVIF) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    length=st.integers(1, len(AVIF)),
)
def test_a_damaged_avif_is_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(AVIF)
    for at, value in changes:
        data[at] = value
    for act in (read, probe):
        with contextlib.suppress(ImageError):
            assert act(bytes(data[:length]), max_pixels=100_000).size


@pytest.mark.parametrize("act", [read, probe])
def test_avif_without_its_decoder(act: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(corners(), "AVIF")
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    with pytest.raises(ImageError, match="upgrade pillow", check=has_code("image-unsupported-format")):
        act(data)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("act", [read, probe])
def test_heic_without_a_package_names_it(act: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    without_packages(monkeypatch)
    with pytest.raises(ImageError, match="pip install pi-heif", check=has_code("image-unsupported-format")):
        act(HEIC)


class Decoder(ImageFile.ImageFile):
    """Stands in for the package's: it gives upright pixels, and leaves the old orientation in the EXIF block."""

    format = "HEIF"

    def _open(self) -> None:
        self._mode, self._size = "RGB", (48, 64)
        exif = Image.Exif()
        exif[0x0112] = 6
        self.info["exif"] = exif.tobytes()
        self.tile = []

    def load(self) -> Any:
        self.im = corners().transpose(Image.Transpose.ROTATE_270).im
        return super().load()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("package", heif.PACKAGES)
def test_heic_is_read_by_either_package_and_not_turned_again(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_packages(monkeypatch)
    module = ModuleType(package)
    module.HeifImageFile = Decoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package, module)
    path = tmp_path / "photo.jpg"  # phones' programs name them so
    path.write_bytes(HEIC)
    assert (probe(path).format, probe(path).size, probe(path).orientation) == ("HEIF", (48, 64), 1)
    assert np.array_equal(read(path).pixels, np.asarray(corners().transpose(Image.Transpose.ROTATE_270)))
    with pytest.raises(ImageError, check=has_code("image-too-many-pixels")):
        read(path, max_pixels=48 * 64 - 1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_real_heic_is_turned_upright_once(orientation: int) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="it is not installed, and alone writes HEIC")
    exif = Image.Exif()
    exif[0x0112] = orientation
    pillow_heif.register_heif_opener()
    data = encode(corners(), "HEIF", exif=exif.tobytes(), quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(corners(), "PNG", exif=exif.tobytes()))))
    assert probe(data).size == upright.size
    assert np.abs(read(data).pixels.astype(int) - np.asarray(upright)).mean() < 8


def tiff(*tags: tuple[int, int], extra: bytes = b"") -> bytes:
    """The start of a TIFF with these tags."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(extra))
        + extra
        + struct.pack("<H", len(tags))
        + entries
        + bytes(64)
    )


@pytest.mark.parametrize("act", [read, probe])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40), "video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40), "raw"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(40), "raw"),
        (b"IIU\0" + bytes(40), "raw"),
        (tiff((254, 0), (50706, 0x401)), "raw"),  # DNG
        (tiff((254, 1), (330, 90)), "raw"),  # NEF and ARW: a thumbnail first
        (tiff((259, 65535)), "raw"),  # PEF
        (tiff((262, 32803)), "raw"),
        (tiff((256, 9), extra=b"CR\2\0" + bytes(4)), "raw"),  # CR2
    ],
)
def test_other_formats_are_named(content: bytes, says: str, act: Callable[..., Any]) -> None:
    with pytest.raises(ImageError, match=says, check=has_code("image-unsupported-format")):
        act(content)


def test_their_names_are_those_of_images() -> None:
    assert all(is_any_image_name(f"a{suffix}") for suffix in (".jpg", ".HEIC", ".jxl", ".dng", ".CR3"))
    assert is_image_name("a.heic")
    assert is_image_name("a.avif")
    assert not is_image_name("a.jxl")
    assert not is_any_image_name("a.txt")
