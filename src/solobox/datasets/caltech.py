"""Caltech-101 with its annotations: 8,677 images of 101 kinds of thing, a box in each, no split.

Layout: ``caltech-101.zip`` holds ``caltech-101/101_ObjectCategories.tar.gz``, with ``CATEGORY/image_0001.jpg``,
and ``caltech-101/Annotations.tar``, with ``CATEGORY/annotation_0001.mat``; four categories have another name
there. A .mat file has ``box_coord``: y1, y2, x1, x2 in Matlab's pixels, which count from 1. Both corners are
taken to be inside the box, as in Pascal VOC: ``x1 - 1, y1 - 1, x2, y2``. The set does not say so; it may be half
a pixel off.
"""

import re
import zlib
from pathlib import Path

from solobox.data.formats.parsing import NOT_A_BOX, Listings, box_of
from solobox.datasets.preparing import Box, Prepared
from solobox.datasets.sets import Archive, PublicDataset
from solobox.datasets.unpack import Limits
from solobox.errors import DataError
from solobox.images.reading import is_image_name

_ANNOTATED_AS = {
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
    "airplanes": "Airplanes_Side_2",
}
_CLUTTER = "BACKGROUND_Google"
_NUMBER = re.compile(r"image_(\d+)\.")


def prepare(folder: Path) -> Prepared:
    """Read the box of every image in `folder` but the clutter's, whose images have none."""
    prepared = Prepared(folder, "caltech101")
    listings = Listings()
    images, annotations = folder / "101_ObjectCategories", folder / "Annotations"
    categories = sorted(listings.names(images) - {_CLUTTER})
    if not categories:
        raise DataError(f"{images}: holds no categories")
    for category in categories:
        known_as = _ANNOTATED_AS.get(category, category)
        for name in sorted(filter(is_image_name, listings.names(images / category))):
            match = _NUMBER.match(name)
            number = match[1] if match else ""
            file = annotations / known_as / f"annotation_{number}.mat"
            box, text = _box(file) if listings.has(file) else (None, "")
            # Faces_easy are the images of Faces once more, cropped: they must not part ways in a split.
            group = f"face {number}" if category in ("Faces", "Faces_easy") else ""
            prepared.add(
                images / category / name, box, where=f"{known_as}/{file.name}", text=text, label=category,
                group=group,
            )  # fmt: skip
    return prepared


def _box(file: Path) -> tuple[Box, str]:
    """Read the box of a .mat file, and how it is written there; NaN where it has none."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        stored = loadmat(file, variable_names=["box_coord"])["box_coord"]
        values = stored.ravel().tolist()
    except (
        MatReadError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        return NOT_A_BOX, f"not readable as a .mat file with box_coord: {error}"
    except NotImplementedError:  # scipy's word for the newer, HDF5 kind
        return NOT_A_BOX, "a .mat file of a version that is not read here"
    y1, y2, x1, x2 = box_of(values)
    return (x1 - 1, y1 - 1, x2, y2), ", ".join(map(str, values))


CALTECH101 = PublicDataset(
    name="caltech101",
    what="8,677 images of 101 kinds of thing with a box each (Caltech-101, 2004)",
    page="https://data.caltech.edu/records/mzrjq-6wc02",
    terms="CC BY 4.0 by its record. Cite Fei-Fei, Fergus and Perona, 2004",
    images="101_ObjectCategories",
    archives=(
        Archive(
            url="https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            holds=("101_ObjectCategories", "Annotations"),
            inner=("caltech-101/101_ObjectCategories.tar.gz", "caltech-101/Annotations.tar"),
            size=137_414_764,
            md5="3138e1922a9193bfa496528edbbc45d0",
            limits=Limits(bytes=2 << 30, members=60_000),
        ),
    ),
    prepare=prepare,
    needs=("scipy",),
    remarks=(
        "The set has no official split: training draws one by a hash of the names.",
        "BACKGROUND_Google is left out: it has no boxes, and nobody says that none of the things is in it.",
    ),
)
