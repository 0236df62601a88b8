"""What the readers share: parsing of numbers, splits and image names."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from xml.etree import ElementTree as ET

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from solobox.data.formats.records import SPLITS
from solobox.errors import DataError
from solobox.images.reading import is_image_name

NO_EXTRA: Mapping[str, str] = {}  # shared by all records; a dict can be pickled
NOT_A_BOX = (math.nan, math.nan, math.nan, math.nan)

_SPLIT_WORDS = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_WORD = re.compile(r"[a-z]+")
_NO_OBJECT = frozenset({
    "background", "none", "negative", "no object", "no objects", "null", "empty", "absent", "not present", "nothing",
})  # fmt: skip


def number(value: object) -> float:
    """The number in a number or a text, or NaN; ``1_000`` and ``True`` are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and "_" in value:
        return math.nan
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return result if math.isfinite(result) else math.nan


def box_of(values: Iterable[object]) -> tuple[float, float, float, float]:
    """Four numbers, NaN for each value that is no number; all NaN when there are not four values."""
    numbers = [number(value) for value in values]
    if len(numbers) != 4:
        return NOT_A_BOX
    return numbers[0], numbers[1], numbers[2], numbers[3]


def split_of(word: str, where: str) -> str:
    """The split that a word names. Raises DataError: ``unknown-split``, at `where`."""
    try:
        return _SPLIT_WORDS[word.strip().lower()]
    except KeyError:
        known = ", ".join(SPLITS)
        raise DataError(
            f"{where}: the split {word.strip()!r} is unknown: write one of {known}, or leave it empty",
            code="unknown-split",
        ) from None


def split_in_name(name: str) -> str:
    """The split in the name of a file or a folder (``instances_train2017``: ``train``), or ``""``."""
    splits = {_SPLIT_WORDS[word] for word in _WORD.findall(name.lower()) if word in _SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else ""


def says_no_object(text: str) -> bool:
    """Whether a label, or a class of an image, says that the object is absent: ``background``, ``no_object``."""
    return re.sub(r"[\s_-]+", " ", text.strip().lower()) in _NO_OBJECT


def image_name(text: str) -> str:
    """An image's name with ``/`` between folders, whichever system wrote it."""
    return text.strip().replace("\\", "/")


def locate(folder: Path) -> Callable[[str], Path]:
    """A function from an image's name to its path in `folder`; an absolute name stays as it is."""
    # Joining paths is the slowest step of reading a long list, and most lists name few folders.
    parents: dict[str, Path] = {}

    def path_of(name: str) -> Path:
        parent, slash, last = name.rpartition("/")
        if last in {"", ".", ".."}:
            return folder / name
        cached = parents.get(parent + slash)
        if cached is None:
            cached = parents[parent + slash] = folder / (parent + slash)
        return cached / last

    return path_of


def parent_of(folder: Path) -> Path:
    """The folder above, also of ``.`` and ``..``, whose `Path.parent` is another."""
    return folder.parent if folder.name not in {"", ".."} else folder / ".."


class Listings:
    """The names in folders. Each folder is listed once: far cheaper than a system call for every image."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: Path) -> frozenset[str]:
        """The names in a folder; none when it cannot be listed."""
        key = str(folder)
        if key not in self._names:
            try:
                self._names[key] = frozenset(os.listdir(folder))  # noqa: PTH208 (only names are needed)
            except (OSError, ValueError):  # a zero byte in a name, say
                self._names[key] = frozenset()
        return self._names[key]

    def has(self, path: Path) -> bool:
        """Whether a path exists."""
        return path.name in self.names(path.parent)

    def images_named(self, folder: Path, stem: str) -> tuple[Path, ...]:
        """The images in a folder whose name without its suffix is `stem`."""
        key = str(folder)
        if key not in self._stems:
            stems: dict[str, list[str]] = {}
            for name in sorted(filter(is_image_name, self.names(folder))):
                stems.setdefault(name.rpartition(".")[0], []).append(name)
            self._stems[key] = stems
        return tuple(folder / name for name in self._stems[key].get(stem, ()))


def sorted_files(folder: Path, pattern: str) -> list[Path]:
    """What fits a pattern in a folder, in the order of the names."""
    return sorted(folder.glob(pattern), key=attrgetter("parts"))  # paths themselves compare slowly


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir())


def head(path: Path, size: int = 1 << 16) -> str:
    """The first characters of a file, undecodable bytes replaced; empty for what is no readable file."""
    try:
        with path.open("rb") as file:
            start = file.read(size)
    except OSError:
        return ""
    return start.decode(encoding_of(start), errors="replace")


def encoding_of(start: bytes) -> str:
    """UTF-8, with or without its mark, or the UTF-16 that spreadsheets save as "Unicode text"."""
    return "utf-16" if start[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"


def read_text(path: Path) -> str:
    """Read a whole text file. Raises DataError: ``unreadable-file``, ``not-utf8``."""
    try:
        content = path.read_bytes()
        return content.decode(encoding_of(content))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", code="unreadable-file"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8", code="not-utf8"
        ) from None


def parse_xml(path: Path) -> ET.Element:
    """The root of an XML file, without entities. Raises DataError: ``bad-xml``."""
    try:
        content = path.read_bytes()
        # Python's parser in C takes a fifth of the time. Entities need a declaration, which begins so in every encoding
        # whose "<" is one byte; the others have zero bytes.
        if b"<!" not in content and b"\0" not in content:
            return ET.fromstring(content)  # noqa: S314
        root: ET.Element = fromstring(content)
    except (ET.ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not readable as XML: {error}", code="bad-xml") from None
    return root


def some(items: Sequence[str], limit: int = 5) -> str:
    """A list for a message, cut after `limit` items with the number of the others."""
    more = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {more:,} more" if more > 0 else "")
