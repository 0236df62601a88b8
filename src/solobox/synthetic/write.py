"""A data set of scenes: JPEGs and their annotations."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image

from solobox.data.dataset import Dataset
from solobox.synthetic.scene import draw

ANNOTATIONS: Final[dict[str, str]] = {
    "csv": "annotations.csv",
    "article": "annotations.csv",
    "coco": "annotations.json",
    "voc": "voc",
    "yolo": "yolo",
}
"""Where `write` puts the annotations in its folder, by format: a file, or a folder for the last two."""

_ORIENTATION_TAG = 0x0112
# The inverse of what a viewer does for each EXIF orientation.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_ASPECTS = (1.0, 5 / 4, 4 / 3, 4 / 3, 3 / 2, 16 / 9)


def write(
    folder: str | Path,
    count: int,
    *,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    empty_share: float = 0.0,
    exif_share: float = 0.0,
    object_share: tuple[float, float] | None = None,
    format: str = "csv",  # noqa: A002 (the field's word)
) -> Dataset:
    """Draw `count` scenes into ``folder/images`` as JPEGs, and write their annotations into `folder` (`ANNOTATIONS`).

    size: width and height in pixels of all images; by default they vary: the longer side has 300 to 480 pixels, the
        shorter one at least 240, and some are upright.
    empty_share: probability, 0 to 1, of an image without an object.
    exif_share: probability, 0 to 1, of an image that is stored rotated or mirrored, with the EXIF orientation that
        makes it upright. Boxes are always those of the upright image.
    object_share: size of the objects, see `draw`.
    format: ``csv``, ``article``, ``coco``, ``voc`` or ``yolo``.

    Each image depends on `seed` and its number alone: more images begin with the same ones. The rows have labels and
    no split. The annotations are written last, so that they never name a missing image. ``ValueError`` for an
    impossible count, share or format, and what `Dataset.write` raises.
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, not {count}")
    if not (0 <= empty_share <= 1 and 0 <= exif_share <= 1):
        raise ValueError(f"shares must be 0 to 1, not {empty_share} and {exif_share}")
    if format not in ANNOTATIONS:
        raise ValueError(f"format must be one of {', '.join(ANNOTATIONS)}, not {format!r}")
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    paths = [images / f"{number:05}.jpg" for number in range(count)]
    boxes, labels = np.full((count, 4), np.nan), []
    for number, path in enumerate(paths):
        rng = np.random.default_rng([seed, number])
        random_size = _size(rng)
        empty, turned = bool(rng.random() < empty_share), bool(rng.random() < exif_share)
        scene = draw(int(rng.integers(1 << 62)), size or random_size, empty=empty, object_share=object_share)
        if scene.box is not None:
            boxes[number] = scene.box
        labels.append(scene.label)
        orientation, quality = int(rng.integers(2, 9)), int(rng.integers(80, 96))
        _save(Image.fromarray(scene.pixels), path, orientation if turned else 1, quality)
    dataset = Dataset(paths, boxes, label=labels, names=[f"images/{path.name}" for path in paths])
    dataset.write(Path(folder) / ANNOTATIONS[format], format=format)
    return dataset


def _size(rng: Generator) -> tuple[int, int]:
    """A width and a height as cameras and crops have them."""
    aspect = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    longer = int(rng.uniform(max(300, 240 * aspect), 480))
    shorter = round(longer / aspect)
    return (shorter, longer) if rng.random() < 0.3 else (longer, shorter)


def _save(upright: Image.Image, path: Path, orientation: int, quality: int) -> None:
    if orientation == 1:
        upright.save(path, quality=quality)
        return
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    upright.transpose(_TRANSPOSE[orientation]).save(path, quality=quality, exif=exif)
