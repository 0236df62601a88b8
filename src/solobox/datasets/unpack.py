"""Archives from strangers: unpacked into a folder of their own, and nothing of them lands outside it.

Folders and plain files are made, nothing else: no links, devices, owners, modes or dates.
"""

import gzip
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from solobox.datasets.progress import Meter, Progress, mib
from solobox.datasets.writing import opened, write
from solobox.errors import DataError
from solobox.utils.atomic import explained

_BLOCK = 1 << 18
_LONGEST_GOAL = 1 << 16
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold at most: bytes once unpacked, and members (files, folders, all)."""

    bytes: int
    members: int


def unpack(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    """Unpack a tar, packed or plain, or a zip into `folder`, which is made.

    Left out are the leavings of macOS (``__MACOSX``, ``._*``), and links that stay within the archive, which
    is said. ``DataError`` for a name or a link that leads out, a device, more than `limits`, an archive that
    is broken, cut short or locked, and where the disk is full; `folder` then holds a part and is the caller's to
    throw away.
    """
    with _told(archive):
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        work = _Unpacking(archive, folder, limits, progress)
        with archive.open("rb") as file:
            start = file.read(4)
            file.seek(0)
            if start == _ZIP:
                work.zip(file)
            elif start[:2] == _GZIP:
                with gzip.open(file) as stream:
                    work.tar(stream, file)
            else:
                work.tar(file, file)
        if work.links:
            progress.say(f"{archive.name}: {work.links:,} links were left out")


@contextmanager
def _told(archive: Path) -> Iterator[None]:
    """Turn what the readers of archives raise into a ``DataError``."""
    try:
        yield
    except EOFError:
        raise DataError(f"{archive}: is cut short") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {error}") from None


class _Metered:
    """A stream that refuses to give more than `most` bytes: the guard against archives that never end."""

    def __init__(self, stream: _Readable, most: int, archive: Path) -> None:
        self._stream, self._most, self._archive = stream, most, archive
        self._given = 0

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self._given += len(block)
        if self._given > self._most:
            raise _too_large(self._archive, self._most)
        return block


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
        self._archive, self._folder, self._limits = archive, folder, limits
        self._meter = Meter(progress, f"unpacking {archive.name}")
        self._size = archive.stat().st_size
        self._meter.of(self._size)
        self._members = self._bytes = 0
        self.links = 0

    def tar(self, stream: _Readable, file: IO[bytes]) -> None:
        """Unpack a tar; `file` is where `stream` comes from, for the meter."""
        # The headers count as well: a tar may be all headers. They are a few KiB a member at most.
        metered = _Metered(stream, self._limits.bytes + 4096 * self._limits.members, self._archive)
        with tarfile.open(fileobj=metered, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                self._one(tar, member)
                self._meter.at(file.tell())
        # Reading on to the end checks the sum that gzip keeps there, and finds what a broken header hid.
        while block := metered.read(_BLOCK):
            if block.strip(b"\0"):
                raise DataError(
                    f"{self._archive}: is broken: something that is no member follows the last one"
                )
        self._meter.at(file.tell())

    def zip(self, file: IO[bytes]) -> None:
        """Unpack a zip."""
        done = 0
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if stat.S_ISLNK(mode):
                    with archive.open(member) as content:
                        goal = content.read(_LONGEST_GOAL).decode("utf-8", "replace")
                    self._link(member.filename, goal, member.filename)
                    continue
                target = self._target(member.filename)
                if target is None:
                    continue
                if member.is_dir():
                    self._make(target)
                else:
                    with archive.open(member) as content:
                        self._write(content, target)
                done += member.compress_size
                self._meter.at(done)
        self._meter.at(self._size)

    def _one(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.issym() or member.islnk():
            # A symbolic link starts from its own folder, a hard one from the archive's top.
            self._link(member.name, member.linkname, member.name if member.issym() else "")
            return
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise DataError(f"{self._archive}: {member.name!r} is neither a file nor a folder")
        target = self._target(member.name)
        if target is None:
            return
        if hasattr(tarfile, "data_filter"):  # Python's own opinion, where it has one (since 3.11.4)
            tarfile.data_filter(member, os.fspath(self._folder))
        if member.isdir():
            self._make(target)
            return
        content = tar.extractfile(member)
        if content is None:
            raise DataError(f"{self._archive}: {member.name!r} has no content")
        self._write(content, target)

    def _count(self) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise DataError(
                f"{self._archive}: holds more than {self._limits.members:,} members, far more than it should"
            )

    def _target(self, name: str) -> Path | None:
        """Where a member goes; None for one that goes nowhere."""
        self._count()
        parts = name.replace("\\", "/").split("/")
        if _leads_out(name):
            raise DataError(f"{self._archive}: the name {name!r} leads out of the folder")
        parts = [part for part in parts if part not in ("", ".")]
        if not parts or any(part == "__MACOSX" or part.startswith("._") for part in parts):
            return None
        return self._folder.joinpath(*parts)

    def _link(self, name: str, goal: str, base: str) -> None:
        self._count()
        if _leads_out(name) or _leads_out(goal, posixpath.dirname(base)):
            raise DataError(f"{self._archive}: the link {name!r} leads out of the folder, to {goal!r}")
        self.links += 1

    def _make(self, target: Path) -> None:
        with explained(target):
            target.mkdir(parents=True, exist_ok=True)

    def _write(self, content: _Readable, target: Path) -> None:
        self._make(target.parent)
        with opened(target, "wb") as out:
            while block := content.read(_BLOCK):
                self._bytes += len(block)
                if self._bytes > self._limits.bytes:
                    raise _too_large(self._archive, self._limits.bytes)
                write(target, out, block)


def _leads_out(name: str, base: str = "") -> bool:
    """Whether a name, seen from a folder of the archive, leads out of it on any system."""
    path = name.replace("\\", "/")
    if path.startswith("/") or "\0" in path or (len(path) > 1 and path[1] == ":"):
        return True
    # A name with .. is refused even where it comes back; a link's goal may go up, but not past the top.
    if not base:
        return ".." in PurePosixPath(path).parts
    return posixpath.normpath(posixpath.join(base, path)).split("/")[0] == ".."


def _too_large(archive: Path, most: int) -> DataError:
    return DataError(f"{archive}: unpacks to more than {mib(most)}, far more than it should; stopped")
