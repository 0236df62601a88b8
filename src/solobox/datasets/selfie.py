"""The Selfie dataset: 46,836 selfies with popularity and 36 attributes, without boxes.

Layout: ``Selfie-dataset/images/NAME.jpg``; ``Selfie-dataset/selfie_dataset.txt`` with a line for each image,
``NAME popularity attribute...``; an attribute is 1 (yes), -1 (no) or 0 (unknown).
"""

from pathlib import Path

from solobox.data.formats.parsing import Listings, read_text
from solobox.datasets.public import Archive, Limits, PreparedImages, PublicDataset
from solobox.images.reading import is_image_name

ATTRIBUTES = (
    "partial_faces", "is_female", "baby", "child", "teenager", "youth", "middle_age", "senior", "white", "black",
    "asian", "oval_face", "round_face", "heart_face", "smiling", "mouth_open", "frowning", "wearing_glasses",
    "wearing_sunglasses", "wearing_lipstick", "tongue_out", "duck_face", "black_hair", "blond_hair",
    "brown_hair", "red_hair", "curly_hair", "straight_hair", "braid_hair", "showing_cellphone",
    "using_earphone", "using_mirror", "braces", "wearing_hat", "harsh_lighting", "dim_lighting",
)  # fmt: skip
_COLUMNS = ("popularity", *ATTRIBUTES)


def prepare(folder: Path) -> PreparedImages:
    """List all images in `folder` as unlabelled, with their attributes."""
    prepared = PreparedImages(folder, "selfie")
    images, text = folder / "Selfie-dataset" / "images", folder / "Selfie-dataset" / "selfie_dataset.txt"
    attributes: dict[str, dict[str, str]] = {}
    positions: dict[str, str] = {}  # of the images that are in the text but not yet seen in the folder
    for row, line in enumerate(read_text(text).splitlines(), start=1):
        name, *values = line.split() or [""]
        if not name:
            continue
        stem = name.removesuffix(".jpg")
        positions[stem] = f"{text.name}, row {row}"
        if len(values) == len(_COLUMNS):
            attributes[stem] = dict(zip(_COLUMNS, values, strict=True))
        else:
            prepared.skip(
                text,
                f"{positions[stem]}: {len(values)} values instead of {len(_COLUMNS)}; the image is listed without them",
            )
    for name in sorted(filter(is_image_name, Listings().names(images))):
        stem = name.rpartition(".")[0]
        where = positions.pop(stem, f"not in {text.name}")
        prepared.add(images / name, None, where=where, extra=attributes.get(stem))
    for stem, where in positions.items():
        prepared.skip(images / f"{stem}.jpg", f"{where}: the image is not in the archive")
    return prepared


SELFIE = PublicDataset(
    name="selfie",
    description="46,836 selfies with 36 attributes each and no boxes: the article's set (UCF CRCV, 2015)",
    homepage="https://www.crcv.ucf.edu/data/Selfie/",
    license="for research only, by its README; the images belong to the people in them. Cite Kalayeh et al., 2015",
    image_folder="Selfie-dataset/images",
    archives=(
        Archive(
            url="https://www.crcv.ucf.edu/data/Selfie/Selfie-dataset.tar.gz",
            folders=("Selfie-dataset",),
            limits=Limits(bytes=16 << 30, members=100_000),
        ),
    ),
    prepare=prepare,
)
