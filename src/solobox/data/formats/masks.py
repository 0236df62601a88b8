"""Folders of masks: ``images`` beside ``masks``, equal stems; a box is the bounds of the pixels of one value.

Zero is the background, and so is what is fully transparent. A mask of one other value shows one object, one of several
values several objects, each value one. An empty mask is an image without the object.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.data.formats.parsing import Listings, folders_in, split_in_name
from solobox.data.formats.records import Annotations, Box, Problem, Record
from solobox.errors import ImageError
from solobox.images.reading import Header, is_image_name, probe

NAME = "masks"
LOOKS_LIKE = "a folder with images in images/ and their masks in masks/, by equal names"
CONVENTION = "bounds of each value of the mask but 0, corners in pixels"

_IMAGES = ("images", "imgs", "image")
_MASKS = ("masks", "mask", "segmentations", "SegmentationClass", "SegmentationObject")
_SUFFIXES = ("", "_mask", "-mask", "_segmentation", "_seg", "_label")


_MAX_OBJECTS = 16
"""Values of a mask that can be objects, each of its own value."""


def fits(path: Path) -> bool:
    """Whether this is a folder with images beside masks, or one with such folders of splits."""
    return bool(_pairs(path))


def read(path: Path, images: Path | None = None) -> Annotations:
    """Read all masks, in the order of their names.

    Images without a mask are named in `Annotations.unlabelled`. A mask that cannot be read, that has no image, or that
    has another size than its image, is a problem.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    unlabelled: list[str] = []
    headers: dict[Path, Header] = {}
    listings = Listings()
    for image_folder, mask_folder in _pairs(path):
        folder = images or image_folder
        split = split_in_name(mask_folder.parent.name) if mask_folder.parent != path else ""
        used: set[str] = set()
        for row, name in enumerate(filter(is_image_name, sorted(listings.names(mask_folder))), start=1):
            stem = name.rpartition(".")[0]
            found = None
            for suffix in _SUFFIXES:
                if stem.endswith(suffix) and found is None:
                    named = listings.images_named(folder, stem.removesuffix(suffix))
                    found = named[0] if len(named) == 1 else None
            located = found or folder / name
            used.add(located.name)
            where = f"{mask_folder.name}/{name}"
            for each in _of_mask(
                mask_folder / name, Record(row, where, located.name, located, None, split=split), headers
            ):
                if isinstance(each, Problem):
                    problems.append(each)
                else:
                    records.append(each)
        unlabelled += [
            name for name in sorted(listings.names(folder)) if is_image_name(name) and name not in used
        ]
    return Annotations(
        path,
        NAME,
        CONVENTION,
        tuple(records),
        problems=tuple(problems),
        unlabelled=tuple(unlabelled),
        headers=headers,
    )


def _of_mask(file: Path, base: Record, headers: dict[Path, Header]) -> Iterator[Record | Problem]:
    try:
        with Image.open(file) as mask:
            objects = _objects(mask)
            width, height = mask.size  # once it is decoded: a TIFF is turned upright by that
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        yield _problem("unreadable-image", base, f"the mask cannot be read: {error}", "save the mask again")
        return
    size = width, height
    with contextlib.suppress(ImageError):  # the checks say that the image is absent or broken
        headers[base.path] = probe(base.path)
        size = headers[base.path].size
    if size != (width, height):
        message = f"the mask is {width} x {height}, its image {size[0]} x {size[1]}"
        yield _problem("mask-size", base, message, "save the mask in the size of the upright image")
        return
    if not objects:
        yield Record(
            base.row, base.where, base.image, base.path, None, split=base.split, size=(width, height)
        )
    for value, box in objects.items():
        where = f"{base.where}, value {value:g}" if len(objects) > 1 else base.where
        text = f"bounds of value {value:g}"
        yield Record(
            base.row, where, base.image, base.path, box, text, split=base.split, size=(width, height)
        )


def _objects(mask: Image.Image) -> dict[float, Box]:
    """The values of a mask but 0, ascending, with the bounds of each."""
    if mask.mode in {"L", "P"}:  # nearly all, and mostly of one object: then no array is needed
        counts = mask.histogram()
        if len(counts) - counts.count(0) - bool(counts[0]) <= 1:
            x1, y1, x2, y2 = mask.getbbox() or (0, 0, 0, 0)
            most: Any = mask.getextrema()[1]  # of one band, so a number
            return {most: (float(x1), float(y1), float(x2), float(y2))} if most else {}
    values = _values(mask)
    numbers: list[float] = [value for value in np.unique(values).tolist() if value != 0]
    if len(numbers) > _MAX_OBJECTS:
        # Edges that were smoothed, or saved as JPEG, have values of their own: one object, from half of the range on.
        values = (values > max(numbers) / 2).astype(np.uint8)
        numbers = [1]
    return {value: _bounds(values == value) for value in numbers}


def _bounds(pixels: npt.NDArray[np.bool_]) -> Box:
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1


def _values(mask: Image.Image) -> npt.NDArray[Any]:
    """A number for each pixel, (height, width): 0 for the background, and for what is fully transparent.

    Values are indices of a palette, or grey; colours are not blended, only told apart.
    """
    if mask.mode == "F":
        fractions: npt.NDArray[Any] = np.nan_to_num(np.asarray(mask))
        return fractions
    if mask.mode in {"L", "P", "1", "I;16", "I"}:
        return np.asarray(mask)
    colors = np.asarray(mask.convert("RGB")).astype(np.int64)
    values: npt.NDArray[Any] = colors @ np.array([65536, 256, 1])
    if "A" in mask.getbands():
        shown = np.asarray(mask.getchannel("A")) > 0
        if shown.any() and not shown.all():
            values[~shown] = 0
            # Black on a transparent ground: the opacity alone tells where the object is.
            return values if values.any() else shown.astype(np.int64)
    return values


def _problem(code: str, base: Record, message: str, advice: str) -> Problem:
    return Problem(code, base.where, base.row, base.image, message, advice)


def _pairs(path: Path) -> list[tuple[Path, Path]]:
    if not path.is_dir():
        return []
    for roots in ([path], folders_in(path)):
        pairs = [pair for root in roots if (pair := _pair(root)) is not None]
        if pairs:
            return pairs
    return []


def _pair(root: Path) -> tuple[Path, Path] | None:
    for images in _IMAGES:
        for masks in _MASKS:
            pair = root / images, root / masks
            if all(folder.is_dir() for folder in pair) and any(
                is_image_name(file.name) for file in pair[1].iterdir()
            ):
                return pair
    return None
