"""Images in the container of HEIF: AVIF by Pillow itself, HEIC by a package that a user may install.

pi-heif and pillow-heif are the same decoder under the LGPL; the wheels of pillow-heif hold an encoder under the GPL,
too. Solobox asks for neither, and takes the one that is there.
"""

import functools
from importlib import import_module
from typing import Any, BinaryIO, Final

from PIL import ImageFile

from solobox.errors import ImageError

PACKAGES: Final = ("pi_heif", "pillow_heif")
"""Modules with the decoder for HEIC, the first choice first."""

_AVIF = frozenset((b"avif", b"avis"))
_HEIF = frozenset(
    (
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"heif", b"mif1", b"mif2", b"msf1",
    )
)  # fmt: skip


def format_of(start: bytes) -> str:
    """Of the first bytes of a file: ``AVIF``, ``HEIF``, or the empty string for all others, videos among them."""
    if start[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else ""


def open_image(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Pillow's image, not yet decoded, of a file at its start. name: as `format_of` gives it.

    A HEIC is turned upright by its decoder, and its EXIF orientation means nothing; an AVIF is not, and Pillow sets
    ``info["exif"]`` to what its container says.

    Raises ImageError ``image-unsupported-format`` where the decoder is not installed.
    """
    if name == "AVIF":
        try:
            from PIL import AvifImagePlugin
        except ImportError:  # Pillow before 11.3
            raise _missing(_AVIF_ADVICE) from None
        if not AvifImagePlugin.SUPPORTED:
            raise _missing(_AVIF_ADVICE)
        return AvifImagePlugin.AvifImageFile(file)
    plugin = _heif_plugin()
    if plugin is None:
        raise _missing(_HEIF_ADVICE)
    image: ImageFile.ImageFile = plugin(file)
    return image


@functools.cache
def _heif_plugin() -> Any:
    for package in PACKAGES:
        try:
            return import_module(package).HeifImageFile
        except (ImportError, AttributeError):  # none, or one whose library is not there
            continue
    return None


_HEIF_ADVICE = "this is a HEIC image, which one more package reads. Run `pip install pi-heif`"
_AVIF_ADVICE = (
    "this is an AVIF image, which this Pillow cannot read. Run `pip install --upgrade pillow` (11.3 or later)"
)


def _missing(advice: str) -> ImageError:
    return ImageError(f"{advice}, convert it to JPEG, or leave it out.", code="image-unsupported-format")
