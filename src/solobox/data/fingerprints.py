"""Which images a model was made from, so that nobody measures it on them by mistake.

Images are told by their files' contents, not by their names: a copy of the labels in another folder, or with other
names, still knows its images, and images that are added later are new ones.
"""

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from solobox.errors import ConfigError

FILE = "fingerprints.npz"
_ENDS = 4096
"""Bytes at each end of a file that tell it from others; a JPEG's last ones depend on the whole image."""

Prints = npt.NDArray[np.int64]


def fingerprint(path: Path) -> int:
    """64 bits that tell an image's file: from its size and its two ends. A file that is not there: from its name."""
    digest = blake2b(digest_size=8, person=b"solobox")
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            digest.update(f"{size}\0".encode() + stream.read(_ENDS))
            stream.seek(max(size - _ENDS, 0))
            digest.update(stream.read(_ENDS))
    except OSError:
        digest.update(b"missing\0" + str(path).encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big", signed=True)


def fingerprint_of_bytes(data: bytes) -> int:
    """The same, from the bytes of a file that has been read."""
    digest = blake2b(f"{len(data)}\0".encode() + data[:_ENDS], digest_size=8, person=b"solobox")
    digest.update(data[max(len(data) - _ENDS, 0) :])
    return int.from_bytes(digest.digest(), "big", signed=True)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Fingerprints of the images that were trained on, and of those that chose the epoch; each sorted."""

    train: Prints
    val: Prints

    @classmethod
    def of(cls, train: Sequence[Path], val: Sequence[Path]) -> "Fingerprints":
        """Look at the files of both parts."""
        return cls(np.sort(_fingerprints(train)), np.sort(_fingerprints(val)))

    def parts(self, paths: Sequence[Path]) -> npt.NDArray[np.str_]:
        """``train``, ``val`` or ``""`` for each of N images, shape (N,)."""
        prints = _fingerprints(paths)
        of_val = np.where(np.isin(prints, self.val), "val", "")
        return np.where(np.isin(prints, self.train), "train", of_val)

    def save(self, path: Path) -> None:
        """Write both lists to a file, flushed to the disk."""
        with path.open("wb") as stream:
            np.savez(stream, train=self.train, val=self.val)
            stream.flush()
            os.fsync(stream.fileno())

    @classmethod
    def load(cls, folder: Path) -> "Fingerprints | None":
        """What `save` wrote as `FILE` in a model's folder; None where there is no such file."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return cls(arrays["train"].astype(np.int64), arrays["val"].astype(np.int64))
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{path} is damaged ({error}); without it, evaluation cannot tell which images are new to the model"
            ) from error


def _fingerprints(paths: Sequence[Path]) -> Prints:
    with ThreadPoolExecutor(8) as pool:
        return np.fromiter(pool.map(fingerprint, paths), dtype=np.int64, count=len(paths))
