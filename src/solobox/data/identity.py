"""When two files, or two spellings of a path, are one image.

Exactly: one file (`canonical_paths`), or the same bytes (`fingerprints.fingerprint`). By its pixels: a re-encoded or
resized copy has nearly the same thumbnail. Copies are sought by a difference hash of 64 bits (N. Krawetz, "Kind of Like
That", 2013) and confirmed by a grey thumbnail, since images of one scene often share the hash. The bounds were measured
by ``bench/identity.py``.
"""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.errors import ImageError
from solobox.images.reading import DecodedImage, ImageInput, decode
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import NullProgress, Progress

SIDE = 8
"""Of the thumbnail, in pixels."""

DECODED_SIDE = 128
"""The smallest side to decode for a signature, in pixels."""

SAME = 0.7
"""Mean difference of two thumbnails, in grey levels of 255, up to which two images are copies of one."""

SIMILAR = 3.0
"""Mean difference up to which two images are probably of one scene, such as neighbouring frames of a video."""

_SAME_MAX = 3
"""Largest difference between two pixels of copies' thumbnails: one that is local is an object that moved."""

_MAX_BITS = 7
"""Bits in which two hashes may differ; one less than there are bands, so that at least one band is equal."""

_MAX_ASPECT = 0.02
"""Difference of the logarithms of two aspect ratios; halving an odd side changes the ratio a little."""

_MIN_CONTRAST = 8
"""Grey levels between the brightest and the darkest pixel of a thumbnail; below, it says nothing of its image."""

_NEIGHBOURS = 64
"""Of one band and brightness, each image is compared with so many, so that the time is bounded."""

_FINE, _FINE_MAX = 32, 10
"""Side of the thumbnails that confirm a copy, and how far two of their pixels may differ."""

_MAX_LINKS = 40
"""Links that lead from one to the next; more are a circle."""

Signatures: TypeAlias = npt.NDArray[np.void]
"""(N,) of `SIGNATURE`."""

SIGNATURE = np.dtype([("hash", "<u8"), ("thumbnail", "u1", (SIDE * SIDE,)), ("aspect", "<f4")])
"""76 bytes an image. aspect: the logarithm of width over height; NaN for an image that has no signature."""


def no_signatures(count: int) -> Signatures:
    """Signatures that are like no other."""
    empty = np.zeros(count, SIGNATURE)
    empty["aspect"] = np.nan
    return empty


def signature_of(image: DecodedImage) -> Signatures:
    """The signature (1,) of a decoded image, perhaps decoded at reduced size."""
    result = no_signatures(1)
    height, width = image.pixels.shape[:2]
    grey = Image.fromarray(image.pixels).convert("L")
    # A JPEG decoded at a fraction of its size rounds its sides up; what lies beyond the image is left out.
    factor = max(round(image.size[0] / width), 1)
    region = (0.0, 0.0, min(image.size[0] / factor, width), min(image.size[1] / factor, height))
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=region))
    if int(thumbnail.max()) - int(thumbnail.min()) < _MIN_CONTRAST:
        return result
    wide = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BILINEAR, box=region))
    bits = np.packbits(wide[:, 1:] > wide[:, :-1])
    result["hash"] = bits.view("<u8")[0]
    result["thumbnail"] = thumbnail.ravel()
    result["aspect"] = np.log(image.size[0] / image.size[1])
    return result


def signature(image: ImageInput) -> Signatures:
    """The signature (1,) of an image; like no other for one that cannot be read, or has no contrast."""
    try:
        return signature_of(decode(image, at_least=DECODED_SIDE))
    except (ImageError, OSError):
        return no_signatures(1)


def signatures(
    images: Sequence[ImageInput], *, progress: Progress | None = None, stage: str = "comparing the images"
) -> Signatures:
    """Decode N images at reduced size, in threads, for their signatures (N,)."""
    progress = progress or NullProgress()
    progress.start(stage, len(images))
    result = no_signatures(len(images))
    for row, found in enumerate(threaded_map(signature, images)):
        result[row] = found[0]
        progress.advance()
    return result


def difference(
    signs: Signatures, one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean and largest difference of the thumbnails of k pairs of rows, (k,) each; infinite mean for another shape."""
    thumbnails = signs["thumbnail"].astype(np.int16)
    apart = np.abs(thumbnails[one] - thumbnails[other])
    mean = apart.mean(axis=1, dtype=np.float64)
    ratio = np.abs(signs["aspect"][one] - signs["aspect"][other])
    mean[~(ratio <= _MAX_ASPECT)] = np.inf
    return mean, apart.max(axis=1, initial=0).astype(np.int64)


def pairs(signs: Signatures, bound: float = SAME) -> npt.NDArray[np.intp]:
    """Pairs of rows (k, 2), each ascending, whose images are alike: copies, or up to `SIMILAR` images of one scene.

    Of many that are all alike, each is paired with some of the others. Time grows as n log n.
    """
    rows = np.flatnonzero(~np.isnan(signs["aspect"]))
    some = signs[rows]
    brightness = some["thumbnail"].mean(axis=1)
    found: list[npt.NDArray[np.intp]] = []
    bands = some["hash"].copy().view(np.uint8).reshape(-1, 8)
    for band in bands.T:
        order = np.lexsort((brightness, band))
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            one, other = order[:-step], order[step:]
            near = (band[one] == band[other]) & (np.abs(brightness[one] - brightness[other]) <= bound)
            if not near.any():
                break
            one, other = one[near], other[near]
            few = np.bitwise_count(some["hash"][one] ^ some["hash"][other]) <= _MAX_BITS
            one, other = one[few], other[few]
            mean, most = _difference_in_parts(some, one, other)
            close = mean <= bound
            if bound <= SAME:
                close &= most <= _SAME_MAX
            found.append(np.stack([rows[one[close]], rows[other[close]]], axis=1))
    if not found:
        return np.zeros((0, 2), np.intp)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _difference_in_parts(
    signs: Signatures, one: npt.NDArray[np.intp], other: npt.NDArray[np.intp], size: int = 100_000
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """`difference`, of so many pairs at once that memory stays small."""
    mean = np.zeros(len(one))
    most = np.zeros(len(one), np.int64)
    for start in range(0, len(one), size):
        part = slice(start, start + size)
        both = signs[np.concatenate([one[part], other[part]])]
        count = len(one[part])
        mean[part], most[part] = difference(both, np.arange(count), np.arange(count) + count)
    return mean, most


def confirmed(one: ImageInput, other: ImageInput) -> bool:
    """Whether two images that `pairs` found are copies by a larger thumbnail too, for what cannot be undone."""
    grey = []
    for image in (one, other):
        try:
            decoded = decode(image, at_least=2 * DECODED_SIDE)
        except (ImageError, OSError):
            return False
        square = (
            Image.fromarray(decoded.pixels).convert("L").resize((_FINE, _FINE), Image.Resampling.BILINEAR)
        )
        grey.append(np.asarray(square, dtype=np.int16))
    return int(np.abs(grey[0] - grey[1]).max()) <= _FINE_MAX


def matches(signs: Signatures, known: Signatures) -> npt.NDArray[np.bool_]:
    """Whether each image (N,) is a copy of one of the known ones."""
    both = pairs(np.concatenate([signs, known]))
    across = both[(both[:, 0] < len(signs)) & (both[:, 1] >= len(signs))]
    result = np.zeros(len(signs), np.bool_)
    result[across[:, 0]] = True
    return result


def components(count: int, links: Iterable[Sequence[int]]) -> list[int]:
    """For each of `count` rows the lowest row that it is linked to, directly or through others."""
    parents = list(range(count))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for one, other in links:
        lower, upper = sorted((root(one), root(other)))
        parents[upper] = lower
    return [root(row) for row in range(count)]


def canonical_paths(paths: Sequence[Path]) -> list[Path]:
    """Each path as the first one spells it that leads to the same file, without ``.`` and ``..``.

    Links are followed; upper and lower case are one where the disk says so.
    """
    real_folders: dict[str, str] = {}
    first: dict[str, Path] = {}
    folded: dict[str, list[str]] = {}
    result = []
    for path in paths:
        real = _real_path(str(path), real_folders)
        if real not in first:
            spellings = folded.setdefault(real.casefold(), [])
            twin = next(filter(partial(_same_file, real), spellings), None)
            first[real] = _normalized(path) if twin is None else first[twin]
            spellings.append(real)
        result.append(first[real])
    return result


def _real_path(path: str, real_folders: dict[str, str]) -> str:
    """`os.path.realpath`, which follows the links to each folder once for all paths.

    real_folders: the real path of each folder so far, to which it adds.
    """
    at = path
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(at)
        if name in {"", ".", ".."}:
            break
        real_folder = real_folders.get(folder)
        if real_folder is None:
            real_folder = real_folders[folder] = os.path.realpath(folder)
        at = os.path.join(real_folder, name)  # noqa: PTH118 (faster, for a million paths)
        try:
            link = os.readlink(at)  # noqa: PTH115
        except (OSError, ValueError):
            return at
        if link.startswith("\\\\?\\"):  # of Windows
            break
        at = os.path.join(real_folder, link)  # noqa: PTH118
    return os.path.realpath(path)


def _normalized(path: Path) -> Path:
    normalized = os.path.normpath(path)
    return path if normalized == str(path) else Path(normalized)


def _same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except (OSError, ValueError):
        return False
