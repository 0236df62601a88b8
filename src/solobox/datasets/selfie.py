"""The Selfie dataset: 46,836 selfies with a popularity and 36 attributes, and no boxes.

Layout: ``Selfie-dataset/images/NAME.jpg``; ``Selfie-dataset/selfie_dataset.txt`` with a line for each image,
``NAME popularity attribute...``, an attribute being 1 (yes), -1 (no) or 0 (not known).
"""

from pathlib import Path

from solobox.data.formats.parsing import Listings, read_text
from solobox.datasets.preparing import Prepared
from solobox.datasets.sets import Archive, PublicDataset
from solobox.datasets.unpack import Limits
from solobox.images.reading import is_image_name

ATTRIBUTES = (
    "partial_faces", "is_female", "baby", "child", "teenager", "youth", "middle_age", "senior", "white", "black",
    "asian", "oval_face", "round_face", "heart_face", "smiling", "mouth_open", "frowning", "wearing_glasses",
    "wearing_sunglasses", "wearing_lipstick", "tongue_out", "duck_face", "black_hair", "blond_hair",
    "brown_hair", "red_hair", "curly_hair", "straight_hair", "braid_hair", "showing_cellphone",
    "using_earphone", "using_mirror", "braces", "wearing_hat", "harsh_lighting", "dim_lighting",
)  # fmt: skip
_COLUMNS = ("popularity", *ATTRIBUTES)


def prepare(folder: Path) -> Prepared:
    """List every image in `folder` as unlabelled, with what the set's text says of it."""
    prepared = Prepared(folder, "selfie")
    images, text = folder / "Selfie-dataset" / "images", folder / "Selfie-dataset" / "selfie_dataset.txt"
    facts: dict[str, dict[str, str]] = {}
    places: dict[str, str] = {}
    for row, line in enumerate(read_text(text).splitlines(), start=1):
        name, *values = line.split() or [""]
        if not name:
            continue
        stem = name.removesuffix(".jpg")
        places[stem] = f"{text.name}, row {row}"
        if len(values) == len(_COLUMNS):
            facts[stem] = dict(zip(_COLUMNS, values, strict=True))
        else:
            why = (
                f"{places[stem]}: {len(values)} values, not {len(_COLUMNS)}; the image is listed without them"
            )
            prepared.leave_out(text, why)
    file_names = sorted(name for name in Listings().names(images) if is_image_name(name))
    for name in file_names:
        stem = name.rpartition(".")[0]
        prepared.add(images / name, None, where=places.pop(stem, "not in the text"), extra=facts.get(stem))
    for stem, place in places.items():
        prepared.leave_out(images / f"{stem}.jpg", f"{place}: the image is not in the archive")
    return prepared


SELFIE = PublicDataset(
    name="selfie",
    what="46,836 selfies with 36 attributes each and no boxes: the article's set (UCF CRCV, 2015)",
    page="https://www.crcv.ucf.edu/data/Selfie/",
    terms="for research only, by its README; the images are people's own. Cite Kalayeh et al., 2015",
    images="Selfie-dataset/images",
    archives=(
        Archive(
            url="https://www.crcv.ucf.edu/data/Selfie/Selfie-dataset.tar.gz",
            holds=("Selfie-dataset",),
            limits=Limits(bytes=16 << 30, members=100_000),
        ),
    ),
    prepare=prepare,
)
