"""CUB-200-2011: 11,788 birds of 200 species, a box in each image, an official split.

Layout, in ``CUB_200_2011/``: ``images.txt`` (number, path below ``images/``), ``bounding_boxes.txt`` (number, x, y,
width, height in pixels, taken as they are), ``train_test_split.txt`` (number, 1 for train), and
``image_class_labels.txt`` and ``classes.txt`` for the species.
"""

from pathlib import Path

from solobox.data.formats.parsing import box_of
from solobox.datasets.preparing import Prepared, numbered
from solobox.datasets.sets import Archive, PublicDataset
from solobox.datasets.unpack import Limits
from solobox.errors import DataError

_SPLITS = {"1": "train", "0": "test"}


def prepare(folder: Path) -> Prepared:
    """Join the tables of the set in `folder`."""
    prepared = Prepared(folder, "cub200")
    top = folder / "CUB_200_2011"
    names = numbered(top / "images.txt")
    boxes, train = numbered(top / "bounding_boxes.txt"), numbered(top / "train_test_split.txt")
    kinds, classes = numbered(top / "image_class_labels.txt"), numbered(top / "classes.txt")
    for number, name in names.items():
        if train.get(number) not in _SPLITS:
            raise DataError(
                f"{top / 'train_test_split.txt'}: says neither 1 nor 0 of image {number} ({name})"
            )
        written = boxes.get(number)
        box = None
        if written is not None:
            x, y, width, height = box_of(written.split())
            box = (x, y, x + width, y + height)
        species = classes.get(kinds.get(number, ""), "")
        prepared.add(
            top / "images" / name, box, where=f"bounding_boxes.txt, image {number}", text=written or "",
            label=species.rpartition(".")[2], split=_SPLITS[train[number]],
        )  # fmt: skip
    return prepared


CUB200 = PublicDataset(
    name="cub200",
    what="11,788 birds of 200 species with a box each (Caltech-UCSD Birds-200-2011)",
    page="https://data.caltech.edu/records/65de6-vp158",
    terms="for research and teaching, not for trade; the photographs are their owners'. Cite Wah et al., 2011",
    images="CUB_200_2011/images",
    archives=(
        Archive(
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            holds=("CUB_200_2011",),
            size=1_150_585_339,
            md5="97eceeb196236b17998738112f37df78",
            sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            limits=Limits(bytes=6 << 30, members=100_000),
        ),
    ),
    prepare=prepare,
)
