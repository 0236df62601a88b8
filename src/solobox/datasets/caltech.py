"""Caltech-101 with its annotations: 8,677 images of 101 categories with one box each, without a split.

Layout: ``caltech-101.zip`` holds ``caltech-101/101_ObjectCategories.tar.gz``, with ``CATEGORY/image_0001.jpg``,
and ``caltech-101/Annotations.tar``, with ``CATEGORY/annotation_0001.mat``; four categories have another name
there. A .mat file has ``box_coord``: y1, y2, x1, x2 in Matlab's pixels, which count from 1. Both corners are
taken to be inside the box, as in Pascal VOC: ``x1 - 1, y1 - 1, x2, y2``. The data set does not
specify this; it may be half a pixel off.
"""

import re
import zlib
from pathlib import Path

from solobox.data.formats.parsing import NOT_A_BOX, Listings, box_of
from solobox.datasets.public import Archive, Box, Limits, PreparedImages, PublicDataset
from solobox.errors import DataError
from solobox.images.reading import is_image_name

_ANNOTATION_FOLDERS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
_CLUTTER = "BACKGROUND_Google"
_NUMBER = re.compile(r"image_(\d+)\.")


def prepare(folder: Path) -> PreparedImages:
    """Read the box of each image in `folder`, except the clutter's images, which have none."""
    prepared = PreparedImages(folder, "caltech101")
    listings = Listings()
    images, annotations = folder / "101_ObjectCategories", folder / "Annotations"
    categories = sorted(listings.names(images) - {_CLUTTER})
    if not categories:
        raise DataError(f"{images}: holds no categories", code="archive-unexpected")
    for category in categories:
        annotation_folder = annotations / _ANNOTATION_FOLDERS.get(category, category)
        for name in sorted(filter(is_image_name, listings.names(images / category))):
            match = _NUMBER.match(name)
            number = match[1] if match else ""
            file = annotation_folder / f"annotation_{number}.mat"
            box, text = _read_box(file) if listings.has(file) else (None, "")
            # Faces_easy are crops of the images of Faces: a split must keep the two together.
            group = f"face {number}" if category in ("Faces", "Faces_easy") else ""
            where = f"{annotation_folder.name}/{file.name}"
            prepared.add(images / category / name, box, where=where, text=text, label=category, group=group)
    return prepared


def _read_box(file: Path) -> tuple[Box, str]:
    """The box in a .mat file and its text in the file; a box of NaN and the reason where there is none."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    unreadable = (
        MatReadError, NotImplementedError, ValueError, TypeError, KeyError, IndexError, EOFError, OSError, zlib.error,
    )  # fmt: skip
    try:
        values = loadmat(file, variable_names=["box_coord"])["box_coord"].ravel().tolist()
    except unreadable as error:
        return NOT_A_BOX, f"not readable as a .mat file with box_coord: {error}"
    y1, y2, x1, x2 = box_of(values)
    return (x1 - 1, y1 - 1, x2, y2), ", ".join(map(str, values))


CALTECH101 = PublicDataset(
    name="caltech101",
    description="8,677 images of 101 categories with one box each (Caltech-101, 2004)",
    homepage="https://data.caltech.edu/records/mzrjq-6wc02",
    license="CC BY 4.0 by its record. Cite Fei-Fei, Fergus and Perona, 2004",
    image_folder="101_ObjectCategories",
    archives=(
        Archive(
            url="https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            folders=("101_ObjectCategories", "Annotations"),
            nested=("caltech-101/101_ObjectCategories.tar.gz", "caltech-101/Annotations.tar"),
            checksum="md5:3138e1922a9193bfa496528edbbc45d0",
            limits=Limits(bytes=2 << 30, members=60_000),
        ),
    ),
    prepare=prepare,
    requires=("scipy",),
    notes=(
        "There is no official split: training makes one from a hash of the names.",
        "BACKGROUND_Google is left out: it has no boxes, and the other categories may appear in it.",
    ),
)
