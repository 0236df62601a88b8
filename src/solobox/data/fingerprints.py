"""Which images a model was trained on, so that nobody measures it on them by mistake.

Images are identified by their content, not by their names: a copy in another folder, with another name, or saved again
with another quality or size is still recognized, and images that are added later are new.
"""

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from solobox.data.identity import SIGNATURE, Signatures, matches, no_signatures, signatures
from solobox.errors import ConfigError
from solobox.images.reading import ImageInput, decode

FILE = "fingerprints.npz"
_END_BYTES = 4096
"""Bytes hashed at each end of a file; the last ones of a JPEG depend on the whole image."""

Hashes = npt.NDArray[np.int64]


def fingerprint(image: ImageInput) -> int:
    """64 bits that identify an image: of a file or its bytes, the size and both ends; of pixels in memory, all of them.

    A file that does not exist is identified by its name. Raises TypeError for what is no image, ImageError for an array
    of another shape or dtype.
    """
    digest = blake2b(digest_size=8, person=b"solobox")
    if isinstance(image, str | Path):
        try:
            with Path(image).open("rb") as stream:
                _add_stream(digest, stream)
        except OSError:
            digest.update(b"missing\0" + str(image).encode("utf-8", "surrogatepass"))
    elif isinstance(image, bytes):
        _add_stream(digest, BytesIO(image))
    else:
        pixels = decode(image).pixels
        digest.update(f"pixels {pixels.shape}\0".encode() + pixels.tobytes())
    return int.from_bytes(digest.digest(), "big", signed=True)


def _add_stream(digest: blake2b, stream: BinaryIO) -> None:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    digest.update(f"{size}\0".encode() + stream.read(_END_BYTES))
    stream.seek(max(size - _END_BYTES, 0))
    digest.update(stream.read(_END_BYTES))


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """Fingerprints of the training images and of the validation images; each sorted.

    train_signatures, val_signatures: of the same images' pixels, in any order, see `data.identity`; empty for models of
        older versions, which recognize equal files alone.
    """

    train: Hashes
    val: Hashes
    train_signatures: Signatures = field(default_factory=lambda: no_signatures(0))
    val_signatures: Signatures = field(default_factory=lambda: no_signatures(0))

    @classmethod
    def of(cls, train: Sequence[ImageInput], val: Sequence[ImageInput]) -> "Fingerprints":
        """Read the images of both splits."""
        return cls(
            np.sort(_fingerprints(train)), np.sort(_fingerprints(val)), signatures(train), signatures(val)
        )

    def splits(self, images: Sequence[ImageInput]) -> npt.NDArray[np.str_]:
        """``train``, ``val`` or ``""`` (new to the model) for each of N images, shape (N,)."""
        prints = _fingerprints(images)
        in_train, in_val = np.isin(prints, self.train), np.isin(prints, self.val)
        others = np.flatnonzero(~in_train & ~in_val)
        if len(others) and len(self.train_signatures) + len(self.val_signatures):
            signs = signatures([images[row] for row in others.tolist()])
            in_train[others] = matches(signs, self.train_signatures)
            in_val[others] = matches(signs, self.val_signatures)
        return np.where(in_train, "train", np.where(in_val, "val", ""))

    def save(self, path: Path) -> None:
        """Write both lists to a file, flushed to the disk."""
        with path.open("wb") as stream:
            np.savez(
                stream, train=self.train, val=self.val, train_signatures=self.train_signatures,
                val_signatures=self.val_signatures,
            )  # fmt: skip
            stream.flush()
            os.fsync(stream.fileno())

    @classmethod
    def load(cls, folder: Path) -> "Fingerprints | None":
        """Read what `save` wrote as `FILE` in a model's folder; None where there is no such file.

        Raises ConfigError: ``fingerprints-damaged``.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with path.open("rb") as stream:
                with zipfile.ZipFile(stream) as archive:
                    # `save` compresses nothing, so that what is read is no larger than the file.
                    if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                        raise ValueError("it is compressed")
                stream.seek(0)
                with np.load(stream, allow_pickle=False) as arrays:
                    hashes = [arrays["train"], arrays["val"]]
                    signs = [
                        arrays[name] if name in arrays.files else no_signatures(0)
                        for name in ("train_signatures", "val_signatures")
                    ]
            if any(each.ndim != 1 or each.dtype != np.int64 for each in hashes):
                raise ValueError("it holds no hashes")
            if any(each.ndim != 1 or each.dtype != SIGNATURE for each in signs):
                raise ValueError("it holds no signatures")
            return cls(*hashes, *signs)
        except (
            OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RecursionError, SyntaxError,
            NotImplementedError, RuntimeError, zipfile.BadZipFile,
        ) as error:  # fmt: skip
            raise ConfigError(
                f"{path} is damaged ({error}); without it, evaluation cannot tell which images are new to the model",
                code="fingerprints-damaged",
            ) from error


def _fingerprints(images: Sequence[ImageInput]) -> Hashes:
    with ThreadPoolExecutor(8) as pool:
        return np.fromiter(pool.map(fingerprint, images), dtype=np.int64, count=len(images))
