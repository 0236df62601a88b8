"""CUB-200-2011: 11,788 birds of 200 species with one box per image and an official split.

Layout, in ``CUB_200_2011/``: ``images.txt`` (number, path below ``images/``), ``bounding_boxes.txt`` (number, x, y,
width, height in pixels, taken as they are), ``train_test_split.txt`` (number, 1 for train), and
``image_class_labels.txt`` and ``classes.txt`` for the species.
"""

from pathlib import Path

from solobox.data.formats.parsing import box_of
from solobox.datasets.public import Archive, Limits, PreparedImages, PublicDataset, read_numbered
from solobox.errors import DataError

_SPLITS = {"1": "train", "0": "test"}


def prepare(folder: Path) -> PreparedImages:
    """Join the tables in `folder` by image number."""
    prepared = PreparedImages(folder, "cub200")
    top = folder / "CUB_200_2011"
    names = read_numbered(top / "images.txt")
    boxes, train = read_numbered(top / "bounding_boxes.txt"), read_numbered(top / "train_test_split.txt")
    class_numbers, classes = read_numbered(top / "image_class_labels.txt"), read_numbered(top / "classes.txt")
    for number, name in names.items():
        if train.get(number) not in _SPLITS:
            raise DataError(f"{top / 'train_test_split.txt'}: image {number} ({name}) has neither 1 nor 0")
        text = boxes.get(number)
        box = None
        if text is not None:
            x, y, width, height = box_of(text.split())
            box = (x, y, x + width, y + height)
        species = classes.get(class_numbers.get(number, ""), "")
        prepared.add(
            top / "images" / name, box, where=f"bounding_boxes.txt, image {number}", text=text or "",
            label=species.rpartition(".")[2], split=_SPLITS[train[number]],
        )  # fmt: skip
    return prepared


CUB200 = PublicDataset(
    name="cub200",
    description="11,788 birds of 200 species with one box each (Caltech-UCSD Birds-200-2011)",
    homepage="https://data.caltech.edu/records/65de6-vp158",
    license="for research and teaching, not for commerce; the photographs are their owners'. Cite Wah et al., 2011",
    image_folder="CUB_200_2011/images",
    archives=(
        Archive(
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            folders=("CUB_200_2011",),
            checksum="sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            limits=Limits(bytes=6 << 30, members=100_000),
        ),
    ),
    prepare=prepare,
)
