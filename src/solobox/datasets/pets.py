"""Oxford-IIIT Pet: cats and dogs of 37 breeds; about half of the images have a box around the head.

Layout: ``images/Breed_name_12.jpg``; ``annotations/xmls/Breed_name_12.xml`` (Pascal VOC, ``cat`` or ``dog``);
``annotations/trainval.txt`` and ``annotations/test.txt``, each line an image's name and three numbers. Nearly
all images of trainval have a box, those of test have none.
"""

from pathlib import Path

from solobox.data.checks import in_pixels
from solobox.data.formats import Record, voc
from solobox.data.formats.parsing import Listings, read_text
from solobox.datasets.public import Archive, Limits, PreparedImages, PublicDataset
from solobox.errors import DataError
from solobox.images.reading import is_image_name


def prepare(folder: Path) -> PreparedImages:
    """Join images, boxes and the official lists in `folder`: trainval becomes train, test stays test."""
    prepared = PreparedImages(folder, "pet-heads")
    images, annotations = folder / "images", folder / "annotations"
    boxes: dict[str, list[Record]] = {}
    for record in in_pixels(voc.read(annotations / "xmls", images)).records:
        boxes.setdefault(record.path.stem, []).append(record)
    splits = _split(annotations / "trainval.txt", "train")
    for name, split in _split(annotations / "test.txt", "test").items():
        if splits.setdefault(name, split) != split:
            raise DataError(f"{annotations}: {name} is in trainval.txt and in test.txt")
    present = {name.rpartition(".")[0] for name in Listings().names(images) if is_image_name(name)}
    # Some images are in neither list. They are kept, without a split.
    for name in (*splits, *sorted((present | boxes.keys()) - splits.keys())):
        split, breed = splits.get(name, ""), {"breed": name.rpartition("_")[0]}
        for record in boxes.get(name, ()):
            prepared.add(
                record.path, record.box, where=record.where, text=record.text, label=record.label, split=split,
                extra=breed,
            )  # fmt: skip
        if name not in boxes:
            prepared.add(images / f"{name}.jpg", None, where=f"{name}.jpg", split=split, extra=breed)
    return prepared


def _split(file: Path, split: str) -> dict[str, str]:
    lines = (line.split() for line in read_text(file).splitlines())
    return {words[0]: split for words in lines if words and not words[0].startswith("#")}


PET_HEADS = PublicDataset(
    name="pet-heads",
    description="7,349 cats and dogs of 37 breeds, half of them with a box around the head (Oxford-IIIT Pet, 2012)",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    license="CC BY-SA 4.0 by its page; the photographs are their owners'. Cite Parkhi et al., 2012",
    image_folder="images",
    archives=(
        Archive(
            url="https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
            folders=("images",),
            checksum="sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            limits=Limits(bytes=4 << 30, members=40_000),
        ),
        Archive(
            url="https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
            folders=("annotations",),
            checksum="sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            limits=Limits(bytes=1 << 30, members=80_000),
        ),
    ),
    prepare=prepare,
    notes=(
        "The images of the official test list have no boxes: evaluate with --split val.",
        "Or delete the column split: training then splits the images of trainval.",
    ),
)
