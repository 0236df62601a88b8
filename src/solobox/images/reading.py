"""Decode image files to upright RGB pixels, or raise one clear error.

Pillow decodes, from a short list of formats. This module adds limits that are checked on the header, before anything
large is allocated; the EXIF orientation; a conversion of every pixel mode to 8-bit RGB; and one kind of error,
`ImageError`, which names the image and says what to do. Threads may decode side by side.
"""

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.WebPImagePlugin import WebPImageFile

from solobox.errors import ImageError, reason
from solobox.images.complexity import check_complexity
from solobox.images.headers import Header, Jpeg, ignore_warnings, open_header
from solobox.images.pixel_limit import MAX_PIXELS, VARIABLE, allowed_pixels
from solobox.images.rgb import to_rgb

__all__ = [
    "FORMATS", "MAX_BYTES", "SUFFIXES", "DecodedImage", "EncodedImage", "Header", "ImageInput", "decode",
    "is_any_image_name", "is_image_name", "probe", "read", "to_square",
]  # fmt: skip

EncodedImage: TypeAlias = str | Path | bytes
"""An image file: its path, or its bytes."""

ImageInput: TypeAlias = EncodedImage | Image.Image | NDArray[Any]
"""A path, an image file's bytes, a PIL image, or RGB pixels (h, w, 3) uint8; also a PyTorch tensor (h, w, 3) or
(3, h, w) uint8."""

ACCEPTED = (
    "a path, an image file's bytes, a PIL image, or RGB pixels as an array or tensor (h, w, 3) of uint8"
)

MAX_BYTES: Final = 200_000_000
"""Size of the file above which an image is refused."""

FORMATS: Final[dict[str, tuple[str, ...]]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""The supported formats, by Pillow's name, and the suffixes of their files. HEIF needs one more package."""

SUFFIXES: Final = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""All suffixes of image files, in lower case, with the dot."""

OTHER_SUFFIXES: Final = frozenset(
    (
        ".jxl", ".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".heics", ".heifs", ".avifs", ".jxr", ".wdp", ".bpg", ".psd",
        ".psb", ".xcf", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".icns", ".svg", ".exr", ".dds", ".pcx",
        ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef",
        ".srw", ".3fr", ".iiq", ".rwl", ".kdc", ".mrw",
    )
)  # fmt: skip
"""Suffixes of image files that cannot be decoded, in lower case, with the dot."""

# A JPEG needs no memory for the pixels that it is not decoded to; one of several scans does for their coefficients.
_JPEG_DECODED, _JPEG_STORED, _JPEG_OF_SCANS = 1.5, 4, 2
"""How many times the limit a JPEG may have: pixels as decoded, as stored in one scan, and as stored in several."""

# No photograph has this many pixels in a byte: such a file is damaged or meant to exhaust memory.
_MAX_PIXELS_PER_BYTE = 10_000
_SMALL = 1_000_000

_BYTES_AT_ONCE = 1 << 16
"""Files up to this size are read whole for their header, which costs less than seeking about in them."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_LEAVE_OUT = "Copy it again from its source, or leave it out."


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An upright RGB image.

    pixels: shape (h, w, 3), uint8, RGB, C-contiguous and writable.
    size: width and height in pixels of the full upright image. Boxes are in these pixels. It is larger than
        ``(w, h)`` when the image was decoded at reduced size.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


def is_image_name(path: str | Path) -> bool:
    """Whether the suffix of the name, in any case, is one of a supported format."""
    if isinstance(path, str):  # without a `Path`, for listings of many files
        stem, dot, suffix = path.rpartition(".")
        if stem and stem[-1] not in "/\\" and f"{dot}{suffix.lower()}" in SUFFIXES:
            return True
    return Path(path).suffix.lower() in SUFFIXES


def is_any_image_name(path: str | Path) -> bool:
    """Whether the suffix of the name is one of an image file, whether or not it can be decoded."""
    suffix = Path(path).suffix.lower()
    return suffix in SUFFIXES or suffix in OTHER_SUFFIXES


def read(
    image: EncodedImage,
    *,
    at_least: int | None = None,
    max_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
    name: str | None = None,
) -> DecodedImage:
    """Decode an image to upright RGB.

    image: a path, or the bytes of a file. name: what errors call it, by default its path or its length in bytes.
    at_least: the smallest useful side in pixels. A JPEG may then be decoded at a half, a quarter or an eighth of
        its size, which is several times faster, as long as both sides stay at or above this.
    max_pixels, max_bytes: the largest image and file that are accepted; checked before decoding. By default
        `MAX_PIXELS`, or what `allow_pixels` set instead; then a JPEG (phones write up to 200 million pixels) may have
        4 times as many, or twice as many if it is progressive, where it is decoded to at most 1.5 times as many.

    Transparent pixels are blended onto white. Grey of more than 8 bits is scaled, not clipped: 16-bit values by
    their full range; 32-bit and floating-point ones by the smallest of the ranges 0..1 (floating point
    alone), 0..255 and 0..65535 that holds them all, else from their least to their greatest. Of several
    frames or pages the first is read.

    Raises ImageError, which names the image, the reason and what to do.
    """
    if at_least is not None and at_least < 1:
        raise ValueError(f"at_least is a number of pixels, 1 or more, not {at_least}")
    limit = max_pixels or allowed_pixels() or MAX_PIXELS
    with _named(image, name), _opened(image, max_bytes) as (file, length):
        file = io.BytesIO(file.read(max_bytes + 1))  # decoders seek about, and the file may change meanwhile
        structure = check_complexity(file)
        with ignore_warnings(file, structure):
            frame, header = open_header(file, structure, limit)
            _check_pixels(frame, header, length, limit, is_strict=max_pixels is not None)
            if frame is None:
                file.seek(0)
                frame = WebPImageFile(file)
            if at_least is not None and header.format == "JPEG":  # others may take an embedded preview
                frame.draft(None, (at_least, at_least))
            if frame.width * frame.height > limit * _JPEG_DECODED:
                raise _too_many(header, int(limit * _JPEG_DECODED), is_strict=False)
            _remove_xmp(frame)
            frame.load()
        if header.format == "HEIF" and frame.size != header.stored_size:
            raise ImageError(
                f"its pixels are {frame.size}, its header says {header.stored_size}. {_LEAVE_OUT}"
            )
        rgb = to_rgb(frame)
        # Pillow turns a TIFF upright itself when it is loaded, and no other format.
        if header.orientation != 1 and header.format != "TIFF":
            rgb = rgb.transpose(_TRANSPOSE[header.orientation])
        return DecodedImage(np.array(rgb), header.size)


def decode(
    image: ImageInput,
    *,
    at_least: int | None = None,
    max_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> DecodedImage:
    """Decode an image, perhaps at reduced size; see `read` for the options.

    A PIL image is turned upright by its EXIF orientation; an array or a tensor is upright already.

    Raises ImageError for an image that cannot be read, ``image-wrong-array`` for an array of another shape or dtype;
    TypeError for any other type.
    """
    if isinstance(image, str | Path | bytes):
        return read(image, at_least=at_least, max_pixels=max_pixels, max_bytes=max_bytes)
    pixels: Any
    if isinstance(image, Image.Image):
        with _named(image):
            upright = image.copy()
            _remove_xmp(upright)  # an orientation there does not count in a file, either
            pixels = np.array(to_rgb(ImageOps.exif_transpose(upright)))
        return DecodedImage(pixels, (pixels.shape[1], pixels.shape[0]))
    pixels = image
    if type(pixels).__module__.split(".")[0] == "torch":
        pixels = pixels.detach().cpu().numpy()
        if pixels.ndim == 3 and pixels.shape[0] == 3 and pixels.shape[2] != 3:
            pixels = pixels.transpose(1, 2, 0)
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"an image is {ACCEPTED}, not {type(pixels).__name__}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ImageError(
            f"pixels are (h, w, 3) uint8 RGB, not {pixels.shape} {pixels.dtype}", code="image-wrong-array"
        )
    return DecodedImage(np.ascontiguousarray(pixels), (pixels.shape[1], pixels.shape[0]))


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of an image's file, for `read`. Raises ImageError where it cannot be opened or is too large."""
    with _named(path), _opened(path, max_bytes) as (file, _):
        return file.read(max_bytes + 1)


def probe(
    image: EncodedImage,
    *,
    max_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
    name: str | None = None,
) -> Header:
    """Read an image's header alone: format, sizes, orientation. The pixels may still turn out broken.

    Takes the same image, limits and name as `read`, and raises ImageError as it does.
    """
    limit = max_pixels or allowed_pixels() or MAX_PIXELS
    with _named(image, name), _opened(image, max_bytes) as (file, length):
        if length <= _BYTES_AT_ONCE:
            file = io.BytesIO(file.read(_BYTES_AT_ONCE))
        structure = check_complexity(file)
        with ignore_warnings(file, structure):
            frame, header = open_header(file, structure, limit)
            _check_pixels(frame, header, length, limit, is_strict=max_pixels is not None)
            return header


def to_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize an image to a square with antialiasing; the aspect ratio is not kept.

    pixels: shape (h, w, 3), uint8. Gives shape (side, side, 3), uint8, C-contiguous and writable.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 of shape (h, w, 3), not {pixels.dtype} of shape {pixels.shape}")
    image = Image.fromarray(pixels)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=None))


@contextlib.contextmanager
def _opened(image: EncodedImage, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """The image as an open file, and its length in bytes, which is within the limit."""
    if isinstance(image, bytes):
        _check_bytes(len(image), max_bytes)
        yield io.BytesIO(image), len(image)
        return
    path = image if isinstance(image, Path) else Path(image)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(_describe_folder(path))
        if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for its writer
            raise ImageError("this is not an ordinary file. Copy the image to one.")
        _check_bytes(status.st_size, max_bytes)
        file = path.open("rb")
    except FileNotFoundError:
        if path.is_symlink():
            raise ImageError(
                f"this is a broken link: {path.readlink()} does not exist. Restore that, or remove the link."
            ) from None
        raise ImageError("there is no such file. Check the path.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened ({reason(error)}). Check the path and permissions.") from error
    with file:
        yield file, status.st_size


def _too_many(header: Header, limit: int, *, is_strict: bool) -> ImageError:
    width, height = header.size
    pixels = width * height
    advice = (
        ""
        if is_strict
        else (f", or raise the limit: --max-pixels {pixels}, in Python the environment's {VARIABLE}={pixels}")
    )
    return ImageError(
        f"{width}x{height} are {pixels} pixels, more than the limit of {limit}. Save it smaller{advice}.",
        code="image-too-many-pixels",
    )


def _describe_folder(path: Path) -> str:
    try:
        with os.scandir(path):
            return "this is a folder, not an image. Give the images in it."
    except OSError as error:
        return f"this folder cannot be read ({reason(error)}), so none of its images has a row. Check its permissions."


def _check_bytes(length: int, max_bytes: int) -> None:
    if length == 0:
        raise ImageError(f"the file is empty (0 bytes). {_LEAVE_OUT}", code="image-empty")
    if length > max_bytes:
        raise ImageError(
            f"its {length} bytes are more than the limit of {max_bytes}. Save it smaller.",
            code="image-too-large",
        )


def _check_pixels(
    frame: Image.Image | None, header: Header, length: int, limit: int, *, is_strict: bool
) -> None:
    """Check the size in the header. is_strict: the limit holds for a JPEG too, at whatever size it is decoded."""
    width, height = header.size
    pixels = width * height
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height}). Leave it out.")
    if isinstance(frame, Jpeg) and not is_strict:
        limit *= _JPEG_OF_SCANS if frame.has_several_scans else _JPEG_STORED
    if pixels > limit:
        raise _too_many(header, limit, is_strict=is_strict)
    if pixels > _SMALL and pixels > _MAX_PIXELS_PER_BYTE * length:
        raise ImageError(
            f"it claims {width}x{height} pixels in {length} bytes, so it is damaged or malicious. "
            f"{_LEAVE_OUT}",
            code="image-too-many-pixels",
        )


@contextlib.contextmanager
def _named(image: EncodedImage | Image.Image, name: str | None = None) -> Iterator[None]:
    """Turn whatever is raised into an ImageError with the image's name.

    For damaged files decoders raise nearly every kind of exception, so all kinds are caught.
    """
    if isinstance(image, Image.Image):  # Pillow decodes a file that it opened only now
        name = str(getattr(image, "filename", "")) or "the PIL image"
    name = name or (f"the image of {len(image)} bytes" if isinstance(image, bytes) else str(image))
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
            text = f"the file is truncated, its end is missing ({why})"
        else:
            text = f"the file is damaged or of an unsupported kind ({why})"
        raise ImageError(f"{name}: {text}. {_LEAVE_OUT}") from error


def _remove_xmp(image: Image.Image) -> None:
    # For a TIFF Pillow would fall back on an orientation in the XMP block, which the header did not count.
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)
