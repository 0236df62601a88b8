"""Downloading a public data set, step by step; a step whose result exists already is skipped.

The folder afterwards: ``archives/`` as downloaded, the unpacked folders under their names, ``labels.csv`` (images
with a box), ``unlabelled.csv`` (images without one), ``skipped.csv`` (what cannot be used, and why), and
``download.json``: the name of the data set, each archive's sha256, and the number of rows of each table.
"""

import importlib.util
import ipaddress
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from filelock import FileLock, Timeout

from solobox.data import formats
from solobox.data.formats import Record
from solobox.data.formats.writing import relative_to
from solobox.datasets.catalog import find
from solobox.datasets.public import Archive, PublicDataset
from solobox.datasets.unpack import unpack
from solobox.errors import ConfigError, DataError, reason
from solobox.utils.atomic import explained, replacing
from solobox.utils.json_utils import parse_json
from solobox.utils.progress import NullProgress, Progress
from solobox.utils.text import CsvLines

if TYPE_CHECKING:
    import requests

LABELS, UNLABELLED, SKIPPED = "labels.csv", "unlabelled.csv", "skipped.csv"
RETRIES = 5
"""How often a failed download is tried again, with growing pauses."""
_WORTH_ANOTHER_TRY = (408, 425, 429)  # of the client errors: the rest stay what they are

_MANIFEST, _ARCHIVES, _LOCK, _UNPACKING = "download.json", "archives", ".download.lock", ".unpacking"
_TIMEOUT = 60.0  # seconds without a byte
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Download:
    """What `download` left in its folder.

    counts: rows of `LABELS`, `UNLABELLED` and `SKIPPED`, by these names; a table without rows is not written.
    was_complete: nothing had to be done.
    """

    dataset: PublicDataset
    folder: Path
    counts: dict[str, int]
    was_complete: bool

    def file(self, name: str) -> Path | None:
        """The path of one of the three tables, or None where it has no rows."""
        return self.folder / name if self.counts.get(name) else None


def download(
    dataset: PublicDataset | str,
    folder: str | Path,
    *,
    url: str | None = None,
    progress: Progress | None = None,
) -> Download:
    """Download a data set into `folder`, verify it, unpack it and write its tables.

    dataset: a name in `DATASETS`, or a `PublicDataset`.
    folder: new, empty, or from an earlier download of the same data set, which then continues with the first
        missing archive. Archives that are in its ``archives/`` already are verified and used.
    url: a folder on another server that holds the archives under the same names.

    An archive appears in ``archives/`` only once its checksum is right. Where none is published, the sha256 of the
    first download is recorded in ``download.json``, and a later download must match it. ``ConfigError`` for an
    unknown data set, a URL that is not https (loopback may be http), or a missing module; ``DataError`` for whatever
    goes wrong on the way. Call again to continue.
    """
    dataset = find(dataset) if isinstance(dataset, str) else dataset
    folder, progress = Path(folder), progress or NullProgress()
    missing = [name for name in ("pooch", *dataset.requires) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"downloading {dataset.name} needs {' and '.join(missing)}: pip install {' '.join(missing)}",
            code="missing-package",
        )
    urls = {
        archive.name: archive.url if url is None else f"{url.rstrip('/')}/{archive.name}"
        for archive in dataset.archives
    }
    for source in urls.values():
        require_https(source)
    manifest = _Manifest.read(folder, dataset)
    folders = [folder / name for archive in dataset.archives for name in archive.folders]
    if manifest.has_tables(folder) and all(path.is_dir() for path in folders):
        return Download(dataset, folder, manifest.counts, was_complete=True)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        manifest.write(folder)
        for archive in dataset.archives:
            if not all((folder / name).is_dir() for name in archive.folders):
                checksum = _retrieve(archive, urls[archive.name], folder / _ARCHIVES, manifest, progress)
                _unpack_folders(archive, folder, progress)
                if archive.checksum is None and archive.name not in manifest.sha256:
                    progress.say(
                        f"{archive.name}: no checksum is published; its sha256, {checksum}, is now recorded in "
                        f"{_MANIFEST}, and later downloads must match it"
                    )
                # Only now, or an error page of the server would become the reference.
                manifest.sha256[archive.name] = checksum
                manifest.write(folder)
        if not manifest.has_tables(folder):
            manifest.counts = _write_tables(dataset, folder)
            manifest.write(folder)
    return Download(dataset, folder, manifest.counts, was_complete=False)


def require_https(url: str) -> None:
    """Raise ``ConfigError`` (``url-not-https``) for any URL but https, or http to this machine itself."""
    try:
        parts = urlsplit(url)
        is_allowed = bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
        )
    except ValueError:  # not a URL
        is_allowed = False
    if not is_allowed:
        raise ConfigError(f"{url}: only https URLs are downloaded from", code="url-not-https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False


@dataclass(slots=True)
class _Manifest:
    """``download.json``."""

    dataset: str
    sha256: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, dataset: PublicDataset) -> "_Manifest":
        """Read the manifest of a folder, a new one where it is empty; ``DataError`` where it holds other files."""
        path = folder / _MANIFEST
        with explained(folder):
            names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if _MANIFEST not in names:
            if others := names - {_ARCHIVES, _LOCK}:
                raise DataError(
                    f"{folder}: holds other files ({min(others)}); name a new or an empty folder",
                    code="folder-not-empty",
                )
            return cls(dataset.name)
        try:
            manifest = cls(**parse_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{path}: cannot be read ({reason(error)}); download into a new folder",
                code="manifest-damaged",
            ) from None
        if manifest.dataset != dataset.name:
            raise DataError(
                f"{folder}: holds the data set {manifest.dataset!r}; download {dataset.name!r} into another folder",
                code="folder-not-empty",
            )
        return manifest

    def write(self, folder: Path) -> None:
        values = {"dataset": self.dataset, "sha256": self.sha256, "counts": self.counts}
        with replacing(folder / _MANIFEST) as file:
            json.dump(values, file, indent=2)

    def has_tables(self, folder: Path) -> bool:
        return bool(self.counts) and all((folder / name).is_file() for name, n in self.counts.items() if n)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder}: another download into it is running", code="download-running") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {reason(error)}") from None
    try:
        yield
    finally:
        lock.release()


def _retrieve(archive: Archive, url: str, folder: Path, manifest: _Manifest, progress: Progress) -> str:
    """Have the archive in `folder`, verified; returns its sha256."""
    import pooch
    from requests.exceptions import RequestException

    pooch.get_logger().setLevel("ERROR")
    by_hand = f"Use --url for another server, or put the file at {folder / archive.name} yourself"
    checksum = archive.checksum or manifest.sha256.get(archive.name)
    store = pooch.create(
        folder,
        base_url="",
        urls={archive.name: url},
        registry={archive.name: checksum},
        retry_if_failed=RETRIES,
    )
    downloader = pooch.HTTPDownloader(
        progressbar=_PoochBar(progress, f"downloading {archive.name}, MiB"), chunk_size=_MIB, timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"}, hooks={"response": partial(_check_response, by_hand=by_hand)},
    )  # fmt: skip
    try:
        path = store.fetch(archive.name, downloader=downloader)
    except RequestException as error:
        raise DataError(f"{url}: cannot be downloaded: {error}. {by_hand}", code="download-failed") from None
    except ValueError as error:
        raise DataError(f"{url}: {error} {by_hand}", code="checksum-mismatch") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {reason(error)}") from None
    return str(pooch.file_hash(path))


def _check_response(response: "requests.Response", *, by_hand: str, **_: object) -> None:
    status = response.status_code
    if 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY:
        response.close()
        raise DataError(
            f"{response.url}: cannot be downloaded: {status} {response.reason}. {by_hand}",
            code="download-failed",
        )
    if not response.ok or response.is_redirect:
        response.close()  # its body is not needed, and pooch leaves it open
    if response.is_redirect:
        require_https(urljoin(response.url, response.headers["Location"]))


class _PoochBar:
    """The progress bar that pooch expects: it sets `total` (bytes), then calls `update` for each MiB."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage, self._is_done = progress, stage, False

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if name == "total" and isinstance(value, int):
            self._is_done = False
            self._progress.start(self._stage, -(-value // _MIB) or None)

    def update(self, _: int) -> None:
        if not self._is_done:
            self._progress.advance()

    def reset(self) -> None:
        self._is_done = True  # pooch fills the bar once more

    def close(self) -> None:
        pass


def _unpack_folders(archive: Archive, folder: Path, progress: Progress) -> None:
    """Unpack an archive and those nested in it, then move the folders to keep into `folder`."""
    path, temporary = folder / _ARCHIVES / archive.name, folder / _UNPACKING
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    try:
        outer = source = temporary / "outer"
        unpack(path, outer, archive.limits, progress)
        for nested in archive.nested:
            source = temporary / "nested"
            unpack(outer / nested, source, archive.limits, progress)
        for name in archive.folders:
            if not (source / name).is_dir():
                raise DataError(f"{path}: holds no folder {name}", code="archive-unexpected")
        for name in archive.folders:
            if not (folder / name).exists():
                with explained(folder / name):
                    (source / name).rename(folder / name)
    except DataError as error:
        raise DataError(f"{error}. To download it again, delete {path}", code=error.code) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_tables(dataset: PublicDataset, folder: Path) -> dict[str, int]:
    """Write the tables and count their rows; a table that exists may have been edited, and stays."""
    images = dataset.prepare(folder)
    if not images.labelled and not images.unlabelled:
        first = " (the first: {}: {})".format(*images.skipped[0]) if images.skipped else ""
        raise DataError(f"{folder}: none of the images can be used{first}", code="dataset-empty")
    if images.skipped:
        _write_csv(folder / SKIPPED, ("what", "reason"), images.skipped)
    if images.unlabelled:
        _write_unlabelled(folder / UNLABELLED, images.unlabelled)
    if images.labelled and not (folder / LABELS).exists():
        formats.write(folder / LABELS, images.labelled)
    return {LABELS: len(images.labelled), UNLABELLED: len(images.unlabelled), SKIPPED: len(images.skipped)}


def _write_unlabelled(path: Path, records: Sequence[Record]) -> None:
    """Write images without the columns of a box: read as labels, the file is refused."""
    name_of = relative_to(path.parent)
    fields = [
        name for name in ("split", "group", "label") if any(getattr(record, name) for record in records)
    ]
    extra = list(dict.fromkeys(name for record in records for name in record.extra))
    rows = (
        [name_of(r.path), *(getattr(r, name) for name in fields), *(r.extra.get(name, "") for name in extra)]
        for r in records
    )
    _write_csv(path, ("image", *fields, *extra), rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if not path.exists():
        with replacing(path) as file:
            writer = CsvLines(file)
            writer.put(header)
            for row in rows:
                writer.put(row)
