"""What each image file says by itself: whether it exists, can be read, how large it is, which bytes it holds."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from solobox.data.identity import DECODED_SIDE, Signatures, signature_of
from solobox.errors import ImageError
from solobox.images import reading
from solobox.images.reading import ImageInput, decode
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import NullProgress, Progress

_THREADS = 2
_BATCH_SIZE = 16
"""Images that a thread takes at once: handing over a single one takes half as long as reading its header."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of one image.

    header: format, size and orientation; None for an image that is missing or unreadable.
    missing: whether there is no file of that name. problem: why it cannot be read, or ``""``. advice: what to do.
    digest: SHA-256 of the file's bytes (of the pixels, for an image in memory); empty unless it was decoded.
    signature: (1,) of the pixels, see `solobox.data.identity`; None unless it was decoded.
    """

    header: reading.Header | None = None
    missing: bool = False
    problem: str = ""
    advice: str = ""
    digest: bytes = b""
    signature: Signatures | None = None


def read_image_info(
    images: Mapping[Path, ImageInput], *, decode_pixels: bool, progress: Progress | None = None
) -> dict[Path, ImageInfo]:
    """Open each image once; with `decode_pixels`, decode all of it.

    images: by the key of the result. Raises TypeError for what is no image.
    """
    progress = progress or NullProgress()
    progress.start("checking the images", len(images))
    files = list(images.values())
    batches = [files[start : start + _BATCH_SIZE] for start in range(0, len(files), _BATCH_SIZE)]
    infos: list[ImageInfo] = []
    work = partial(_read_batch, decode_pixels=decode_pixels)
    with closing(threaded_map(work, batches, workers=_THREADS)) as results:
        for batch in results:
            infos += batch
            progress.advance(len(batch))
    return dict(zip(images, infos, strict=True))


def _read_batch(images: Sequence[ImageInput], *, decode_pixels: bool) -> list[ImageInfo]:
    return [_read(image, decode_pixels=decode_pixels) for image in images]


def _read(image: ImageInput, *, decode_pixels: bool) -> ImageInfo:
    try:
        if isinstance(image, str | Path):
            return _read_file(image if isinstance(image, Path) else Path(image), decode_pixels=decode_pixels)
        return _read_memory(image, decode_pixels=decode_pixels)
    except (ImageError, OSError) as error:
        # an image's error reads "name: reason. Advice."; the name has a column of its own here
        text = str(error).removeprefix(f"{image}: ") if isinstance(image, str | Path) else str(error)
        reason, _, advice = text.rpartition(". ")
        return ImageInfo(problem=reason or text, advice=advice if reason else "")


def _read_file(path: Path, *, decode_pixels: bool) -> ImageInfo:
    try:
        if not decode_pixels:
            return ImageInfo(reading.probe(path))
        content = reading.read_bytes(path)
        header = reading.probe(content, name=str(path))
        # a reduced decode still reads a JPEG to its last byte, so that a truncated one is found
        pixels = reading.read(content, at_least=DECODED_SIDE, name=str(path))
    except ImageError:
        if not path.is_file():
            return ImageInfo(missing=True)
        raise
    return ImageInfo(header, digest=hashlib.sha256(content).digest(), signature=signature_of(pixels))


def _read_memory(image: ImageInput, *, decode_pixels: bool) -> ImageInfo:
    if isinstance(image, bytes) and not decode_pixels:
        return ImageInfo(reading.probe(image))
    decoded = decode(image)
    digest = hashlib.sha256(decoded.pixels.tobytes()).digest() if decode_pixels else b""
    # pixels in memory are upright already
    signature = signature_of(decoded) if decode_pixels else None
    return ImageInfo(reading.Header("", decoded.size, decoded.size, 1), digest=digest, signature=signature)
