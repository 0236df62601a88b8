"""The images of one folder: what is shown of them, and in which order they are asked about."""

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.data.identity import SIMILAR, Signatures, difference, no_signatures, signature
from solobox.data.splits import ranked
from solobox.errors import ImageError
from solobox.images.reading import probe, read
from solobox.predict.inputs import LeftOut, expand

_KEPT_BYTES = 64_000_000
"""Of encoded images in memory: some hundred, so that going back is instant."""

_QUALITY = 90

_SIGNATURES = 256
"""Of images that were compared, in memory."""


class ImageFolder:
    """All images in a folder and below, by name. Any thread may use it. Nothing in the folder is changed.

    names: paths relative to the folder, with slashes; by default of all images in it, sorted. Images that are named are
        shown wherever links lead; of those that were found, a link to a file elsewhere is not opened. order: indices of
        those to ask about; by default all, in an order that is as good as random, and that further images do not
        change: by a hash of each name.

    Raises DataError, ``no-images``.
    """

    def __init__(
        self, folder: str | Path, *, names: Sequence[str] | None = None, order: Sequence[int] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.left_out = LeftOut()
        self._were_found = names is None
        if names is None:
            found = expand([self.folder], self.left_out)
            names = [Path(name).relative_to(self.folder).as_posix() for name in found]
        self.names = tuple(names)
        self.index = {name: index for index, name in enumerate(self.names)}
        if order is None:
            order = [self.index[name] for name in ranked(self.names, "annotate")]
        self.order = list(order)
        self._root = self.folder.resolve()
        self._sizes: dict[int, tuple[int, int]] = {}
        self._encoded: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._signatures: OrderedDict[int, Signatures] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of an image. Raises ImageError, ``outside-folder``, for a link to a file elsewhere, see above."""
        path = self.folder / self.names[index]
        if self._were_found and not path.resolve().is_relative_to(self._root):
            raise ImageError(
                f"{self.names[index]}: is a link to a file outside {self.folder}, which is not opened: copy the file "
                "into the folder",
                code="outside-folder",
            )
        return path

    def index_of(self, path: Path) -> int | None:
        """The index of an image by its file; None for one that is not in the folder."""
        path = path.resolve()
        if not path.is_relative_to(self._root):
            return None
        return self.index.get(path.relative_to(self._root).as_posix())

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright image in pixels. Raises ImageError."""
        if index not in self._sizes:
            self._sizes[index] = probe(self.path(index)).size
        return self._sizes[index]

    def are_similar(self, one: int, other: int) -> bool:
        """Whether two images are probably of one scene, such as neighbouring frames of a video, by their thumbnails."""
        both = np.concatenate([self._signature(one), self._signature(other)])
        mean, _ = difference(both, np.array([0]), np.array([1]))
        return bool(mean[0] <= SIMILAR)

    def _signature(self, index: int) -> Signatures:
        with self._lock:
            if index in self._signatures:
                self._signatures.move_to_end(index)
                return self._signatures[index]
        try:
            found = signature(self.path(index))
        except ImageError:
            found = no_signatures(1)
        with self._lock:
            self._signatures[index] = found
            if len(self._signatures) > _SIGNATURES:
                self._signatures.popitem(last=False)
        return found

    def jpeg(self, index: int, side: int) -> bytes:
        """The upright image as a JPEG, reduced to at most `side` pixels on its longer side. Raises ImageError."""
        key = index, side
        with self._lock:
            if key in self._encoded:
                self._encoded.move_to_end(key)
                return self._encoded[key]
        width, height = self.size(index)
        shorter = max(1, round(min(width, height) * side / max(width, height)))
        image = Image.fromarray(read(self.path(index), at_least=shorter).pixels)
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        with io.BytesIO() as stream:
            image.save(stream, "JPEG", quality=_QUALITY)
            encoded = stream.getvalue()
        with self._lock:
            self._encoded[key] = encoded
            while len(self._encoded) > 1 and sum(map(len, self._encoded.values())) > _KEPT_BYTES:
                self._encoded.popitem(last=False)
        return encoded
