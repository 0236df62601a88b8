"""What a public data set is: its archives, and how its annotations become records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from solobox.boxes import is_valid
from solobox.data.formats import Record
from solobox.data.formats.parsing import Listings, read_text
from solobox.errors import DataError

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an archive may unpack to: bytes, and members (files and folders)."""

    bytes: int
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file to download.

    url: where its owners publish it. folders: the top folders to keep, by name. nested: paths of archives inside
    this one that hold these folders; empty where it holds them itself. limits: several times what it unpacks to.
    checksum: as pooch writes it, ``md5:...`` or ``sha256:...``: published by the owners, or pinned for years by
    torchvision or TensorFlow Datasets. None where there is none: then the sha256 of the first download is
    recorded, and later downloads must match it.
    """

    url: str
    folders: tuple[str, ...]
    limits: Limits
    nested: tuple[str, ...] = ()
    checksum: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDataset:
    """A data set that can be downloaded.

    description, homepage, license, notes: for people. image_folder: relative to the folder it is downloaded into.
    prepare: reads the unpacked folders inside the folder that it gets. requires: modules that `prepare` imports
    beyond the base install; the extra ``datasets`` installs them.
    """

    name: str
    description: str
    homepage: str
    license: str
    image_folder: str
    archives: tuple[Archive, ...]
    prepare: Callable[[Path], "PreparedImages"]
    requires: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class PreparedImages:
    """The images of a data set.

    folder: where the archives were unpacked. source: the value of the column ``source``.
    labelled: images with a box. unlabelled: images for which the set has no box; in a table of boxes they would
    count as images without the object, so they are kept apart. skipped: an image or an annotation file, relative
    to `folder`, and why it could not be used.
    """

    folder: Path
    source: str
    labelled: list[Record] = field(default_factory=list)
    unlabelled: list[Record] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    _listings: Listings = field(default_factory=Listings)

    def add(
        self,
        image: Path,
        box: Box | None,
        *,
        where: str,
        text: str = "",
        label: str = "",
        split: str = "",
        group: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Add an image. box: ``x1, y1, x2, y2`` in continuous pixels, or None; for the rest see `Record`."""
        if not self._listings.has(image):
            self.skip(image, f"{where}: the image is not in the archive")
            return
        name = image.relative_to(self.folder).as_posix()
        record = Record(
            row=len(self.labelled) + 1, where=where, image=name, path=image, box=box, text=text,
            label=label, split=split, group=group, source="" if box is None else self.source, extra=extra or {},
        )  # fmt: skip
        if box is None:
            self.unlabelled.append(record)
        elif is_valid(np.asarray(box)):
            self.labelled.append(record)
        else:
            self.skip(image, f"{where}: the box is invalid: {text or box}")

    def skip(self, path: Path, reason: str) -> None:
        """Record that an image, or a line about it, cannot be used."""
        self.skipped.append((path.relative_to(self.folder).as_posix(), reason))


def read_numbered(path: Path) -> dict[str, str]:
    """Read lines of ``number value`` into a dict; ``DataError`` for a repeated number or a missing value."""
    table: dict[str, str] = {}
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        key, _, value = line.strip().partition(" ")
        if key and (not value.strip() or key in table):
            raise DataError(f"{path.name}, row {row}: {line!r}: expected a new number and a value")
        if key:
            table[key] = value.strip()
    return table
