"""All of fetching, step by step; each step is skipped where its result is there already.

The folder afterwards: ``archives/`` as downloaded, the unpacked folders under their own names, ``labels.csv``
(images with a box), ``unlabelled.csv`` (images without one), ``left_out.csv`` (what could not be used and why),
and ``fetched.json``: which set this is, each archive's sha256, and what came of it.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from solobox.data import formats
from solobox.data.formats import Record
from solobox.data.formats.writing import relative_to
from solobox.datasets import download
from solobox.datasets.progress import Meter, Progress, Silent
from solobox.datasets.registry import find
from solobox.datasets.sets import Archive, PublicDataset
from solobox.datasets.unpack import unpack
from solobox.errors import ConfigError, DataError
from solobox.utils.atomic import CsvLines, explained, replacing

LABELS, UNLABELLED, LEFT_OUT = "labels.csv", "unlabelled.csv", "left_out.csv"
LEDGER, ARCHIVES = "fetched.json", "archives"
_LOCK, _HALF = ".fetching", ".unpacking-"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch left in its folder.

    counts: images in `LABELS` (rows), `UNLABELLED` and `LEFT_OUT`, by these names; a file of none is not
    written. already: whether everything was there before, and nothing was done.
    """

    dataset: PublicDataset
    folder: Path
    counts: dict[str, int]
    already: bool

    def file(self, name: str) -> Path | None:
        """The path of one of the three files, or None where it has no rows."""
        return self.folder / name if self.counts.get(name) else None


def fetch(
    dataset: PublicDataset | str,
    folder: str | Path,
    *,
    url: str | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Download a data set into `folder`, check it, unpack it and write its tables.

    dataset: a name of `registry.SETS`, or a set of one's own.
    folder: new, empty, or one that an earlier fetch of the same set was broken off in, which is then gone on
        with. Archives that lie in its ``archives/`` already are checked and used.
    url: a folder on another server that holds the archives under their own names.

    An archive is put in place only when its size and checksum are right. Where no checksum is published, the
    first download's sha256 is noted in ``fetched.json``, and a later download must have it. ``ConfigError`` for an
    unknown set, a URL that is not allowed, or a module that is missing; ``DataError`` for everything that goes
    wrong on the way, which leaves what is done so far to be gone on with.
    """
    kind = find(dataset) if isinstance(dataset, str) else dataset
    folder, progress = Path(folder), progress or Silent()
    sources = {archive.name: _source(archive, url) for archive in kind.archives}
    missing = [name for name in kind.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{kind.name} needs {', '.join(missing)} to read its annotations: install Solobox with its [datasets] extra"
        )
    ledger = _Ledger(folder, kind)
    if ledger.is_complete():
        return Fetched(kind, folder, ledger.counts(), already=True)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        ledger.write()
        _sweep(folder)
        for archive in kind.archives:
            if not all((folder / name).is_dir() for name in archive.holds):
                seen = _bring(archive, sources[archive.name], folder / ARCHIVES, ledger, progress)
                _unfold(archive, folder, progress, partial(ledger.note_archive, archive.name, seen, progress))
        if not ledger.has_tables():
            ledger.note_counts(_prepare(kind, folder))
    return Fetched(kind, folder, ledger.counts(), already=False)


def _source(archive: Archive, url: str | None) -> str:
    source = archive.url if url is None else f"{url.rstrip('/')}/{archive.name}"
    download.allowed(source)
    return source


class _Ledger:
    """``fetched.json``: whose folder this is, and what has been seen and made in it."""

    def __init__(self, folder: Path, kind: PublicDataset) -> None:
        self._folder, self._kind, self._path = folder, kind, folder / LEDGER
        self._facts: dict[str, Any] = {"set": kind.name, "archives": {}}
        with explained(folder):
            names = {place.name for place in folder.iterdir()} if folder.exists() else set()
        if LEDGER in names:
            self._facts = self._read()
        elif names - {ARCHIVES, _LOCK}:
            raise DataError(
                f"{folder}: holds other things ({min(names)}); name a folder that is new or empty"
            )

    def _read(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(facts["archives"], dict) and facts["set"] == self._kind.name:
                return dict(facts)
            found = facts["set"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: cannot be read ({error}); fetch into a new folder") from None
        raise DataError(
            f"{self._folder}: holds {found!r} already; give {self._kind.name!r} a folder of its own"
        )

    def write(self) -> None:
        with replacing(self._path) as file:
            json.dump(self._facts, file, indent=2)

    def sum_of(self, name: str) -> str | None:
        """The sha256 that an archive had when it was first seen."""
        seen = self._facts["archives"].get(name)
        return seen["sha256"] if seen else None

    def note_archive(self, name: str, seen: dict[str, Any], progress: Progress) -> None:
        """Note what is known of an archive; only of one that could be unpacked, lest a web page be the measure."""
        if name in self._facts["archives"]:
            return  # `_verified` has compared it with what was noted
        if seen["checked"] == "first use":
            progress.say(
                f"{name}: no checksum is published for it. This one's sha256 is {seen['sha256']}; it is noted in "
                f"{LEDGER}, and a later download must have the same"
            )
        self._facts["archives"][name] = seen
        self.write()

    def note_counts(self, counts: dict[str, int]) -> None:
        self._facts["counts"] = counts
        self.write()

    def counts(self) -> dict[str, int]:
        return dict(self._facts.get("counts", {}))

    def has_tables(self) -> bool:
        """Whether the tables have been written and are still there."""
        counts = self.counts()
        return bool(counts) and all((self._folder / name).is_file() for name, n in counts.items() if n)

    def is_complete(self) -> bool:
        held = (name for archive in self._kind.archives for name in archive.holds)
        return self.has_tables() and all((self._folder / name).is_dir() for name in held)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second fetch out of the folder while the block runs, where the system has a way to."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with explained(folder / _LOCK):
        file = (folder / _LOCK).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another `solobox download` is at work in it") from None
        except OSError:  # a disk without locks
            pass
        yield


def _sweep(folder: Path) -> None:
    """Throw away what a killed fetch had half unpacked."""
    for place in folder.glob(f"{_HALF}*"):
        shutil.rmtree(place, ignore_errors=True)


def _bring(
    archive: Archive, source: str, folder: Path, ledger: _Ledger, progress: Progress
) -> dict[str, Any]:
    """Have the archive in its place, verified; gives what the ledger is to say of it."""
    place = folder / archive.name
    with explained(folder):
        folder.mkdir(exist_ok=True)
    if place.exists():
        source = f"found in {ARCHIVES}"
        try:
            sha256 = _verified(place, archive, ledger, progress)
        except _MismatchError as error:
            raise DataError(f"{error}. Move it away and run the same command again to download it") from None
    else:
        part = folder / f"{archive.name}.part"
        sha256 = _downloaded(archive, source, part, ledger, progress)
        download.settle(part, place)
    published = "sha256" if archive.sha256 else "md5" if archive.md5 else ""
    checked = f"the published {published}" if published else "first use"
    return {"url": source, "size": download.length(place), "sha256": sha256, "checked": checked}


def _downloaded(archive: Archive, source: str, part: Path, ledger: _Ledger, progress: Progress) -> str:
    """Download into `part` and verify it. What turns out wrong is thrown away, and was never in place."""
    checked = bool(archive.sha256 or archive.md5)
    resumed = download.length(part) > 0
    while True:
        download.download(source, part, size=archive.size, checked=checked, progress=progress)
        try:
            return _verified(part, archive, ledger, progress)
        except _MismatchError as error:
            download.forget(part)
            if not resumed:
                raise DataError(
                    f"{source}: {error}. It was thrown away; nothing was put in place. If it comes like this again, "
                    "the file has changed or is tampered with"
                ) from None
        progress.say("the bytes of an earlier download do not fit: starting over")
        resumed = False


class _MismatchError(DataError):
    """A file is not the one it should be."""


def _verified(file: Path, archive: Archive, ledger: _Ledger, progress: Progress) -> str:
    """Compare a file with all that is known of the archive; gives its sha256."""
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    size, position = download.length(file), 0
    if archive.size is not None and size != archive.size:
        raise _MismatchError(f"{file} has {size:,} bytes, but the archive has {archive.size:,}")
    meter = Meter(progress, f"checking {archive.name}")
    meter.of(size)
    try:
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                for one in sums.values():
                    one.update(block)
                position += len(block)
                meter.at(position)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    wanted = (
        ("sha256", archive.sha256, "is published"),
        ("md5", archive.md5, "is published"),
        ("sha256", ledger.sum_of(archive.name), f"was noted in {LEDGER} at the first download"),
    )
    for name, want, whence in wanted:
        got = sums[name].hexdigest()
        if want is not None and got != want:
            raise _MismatchError(f"{file} has the wrong {name}: it is {got}, but {want} {whence}")
    return sums["sha256"].hexdigest()


def _unfold(archive: Archive, folder: Path, progress: Progress, accept: Callable[[], None]) -> None:
    """Unpack an archive, and those within it, beside; then put the folders that it holds in their places.

    accept: called once the archive is known to hold what it should, before anything is put in place.
    """
    place, half = folder / ARCHIVES / archive.name, folder / f"{_HALF}{uuid.uuid4().hex[:8]}"
    try:
        unpack(place, half / "outer", archive.limits, progress)
        source = half / "outer"
        for inner in archive.inner:
            if not (half / "outer" / inner).is_file():
                raise DataError(f"{place}: holds no {inner}")
            unpack(half / "outer" / inner, half / "inner", archive.limits, progress)
            source = half / "inner"
        for name in archive.holds:
            if not (source / name).is_dir():
                raise DataError(f"{place}: holds no folder {name}")
        accept()
        if hasattr(os, "sync"):  # once for all: thousands of small files one by one take minutes
            os.sync()
        for name in archive.holds:
            if not (folder / name).exists():
                with explained(folder / name):
                    (source / name).rename(folder / name)
    except DataError as error:
        raise DataError(
            f"{error}. Nothing was put in place. To load the archive anew, delete {place}"
        ) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _prepare(kind: PublicDataset, folder: Path) -> dict[str, int]:
    """Write the set's tables, and count their rows. What is there already is somebody's, and stays."""
    prepared = kind.prepare(folder)
    if not prepared.records and not prepared.unlabelled:
        raise DataError(f"{folder}: no image of the set is left to use{_first(prepared.left_out)}")
    if prepared.left_out:
        _table(folder / LEFT_OUT, ("what", "reason"), prepared.left_out)
    if prepared.unlabelled:
        _write_unlabelled(folder / UNLABELLED, prepared.unlabelled)
    if prepared.records and not (folder / LABELS).exists():
        formats.write(folder / LABELS, prepared.records)
    return {
        LABELS: len(prepared.records),
        UNLABELLED: len(prepared.unlabelled),
        LEFT_OUT: len(prepared.left_out),
    }


def _write_unlabelled(path: Path, records: Sequence[Record]) -> None:
    """Write images without columns for a box: read as labels it is refused, not taken for empty images."""
    name_of = relative_to(path.parent)
    own = [name for name in ("split", "group", "label") if any(getattr(record, name) for record in records)]
    extra = list(dict.fromkeys(name for record in records for name in record.extra))
    rows = (
        [
            name_of(record.path),
            *(getattr(record, name) for name in own),
            *(record.extra.get(name, "") for name in extra),
        ]
        for record in records
    )
    _table(path, ("image", *own, *extra), rows)


def _table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    if path.exists():
        return
    with replacing(path) as file:
        writer = CsvLines(file)
        writer.put(header)
        for row in rows:
            writer.put(row)


def _first(left_out: Sequence[tuple[str, str]]) -> str:
    return f" (the first: {left_out[0][0]}: {left_out[0][1]})" if left_out else ""
