"""What a data set that can be fetched is: where it lies, what it must be, and how it becomes our table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from solobox.datasets.preparing import Prepared
from solobox.datasets.unpack import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file to download.

    url: where its owners offer it. holds: the folders in it that are kept, by name. inner: archives within it,
    by their path in it, that hold these folders; none where it holds them itself. limits: what it may hold at
    most, several times what it does.

    size (bytes), md5, sha256: as its owners publish them, or else as others have measured and pinned them for
    years (torchvision, TensorFlow Datasets); None where nobody is known to have, and then the first download's
    sha256 is what later ones must have.
    """

    url: str
    holds: tuple[str, ...]
    limits: Limits
    inner: tuple[str, ...] = ()
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return urlsplit(self.url).path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDataset:
    """A data set.

    name: what it is called here. what, terms: for people. page: its home.
    images: the folder of its images, relative to the one it is fetched into.
    prepare: reads the unpacked folders below the folder it is given.
    needs: modules that `prepare` needs beyond the base install; the extra ``datasets`` has them.
    remarks: what its user should know at the end.
    """

    name: str
    what: str
    page: str
    terms: str
    images: str
    archives: tuple[Archive, ...]
    prepare: Callable[[Path], Prepared]
    needs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
