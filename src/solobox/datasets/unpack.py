"""Unpacking archives from the internet: nothing lands outside the folder, and nothing grows without limit."""

import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from solobox.datasets.public import Limits
from solobox.errors import DataError
from solobox.utils.progress import Progress

_BLOCK = 1 << 20


def unpack(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    """Unpack a tar (plain or gzip) or a zip into `folder`, which is created.

    Links and what macOS adds (``__MACOSX``, ``._*``) are left out. ``DataError`` with the code ``archive-unsafe``
    for a path that leads outside and for a device, ``archive-too-large`` for one beyond `limits`, and
    ``archive-damaged`` for one that is broken, truncated or encrypted, or that cannot be written; `folder` may
    then hold some of the files.
    """
    progress.start(f"unpacking {archive.name}", None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with archive.open("rb") as file:
            start = file.read(4)
        unpack_format = _unpack_zip if start == b"PK\x03\x04" else _unpack_tar
        unpack_format(archive, folder, limits, progress)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: is not safe to unpack: {error}", code="archive-unsafe") from None
    except EOFError:
        raise DataError(f"{archive}: is truncated", code="archive-damaged") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{archive}: cannot be unpacked: {error}", code="archive-damaged") from None


def _unpack_tar(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    members = 0

    def safe(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal members
        members += 1
        if members > limits.members:
            raise _too_large(archive)
        progress.advance()
        # Links are never made: no file can then be written through one.
        if member.issym() or member.islnk() or _is_macos(member.name):
            return None
        return tarfile.data_filter(member, path)

    with archive.open("rb") as file:
        is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
        stream = _LimitedReader(gzip.GzipFile(fileobj=file) if is_gzip else file, archive, limits.bytes)
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            tar.extractall(folder, filter=safe)  # noqa: S202 (filtered)
        # tarfile stops at the first damaged header, and gzip compares its checksum at the end.
        while block := stream.read(_BLOCK):
            if block.strip(b"\0"):
                raise DataError(f"{archive}: is damaged: a header is not valid", code="archive-damaged")


class _LimitedReader:
    """Refuses to read more than `limit` bytes: the guard against archives that unpack without end."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, archive: Path, limit: int) -> None:
        self._stream, self._archive, self._left = stream, archive, limit

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise _too_large(self._archive)
        return block


def _unpack_zip(archive: Path, folder: Path, limits: Limits, progress: Progress) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        # zipfile never unpacks more bytes than a member declares.
        if len(members) > limits.members or sum(member.file_size for member in members) > limits.bytes:
            raise _too_large(archive)
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
                raise DataError(
                    f"{archive}: is not safe to unpack: {member.filename!r} leads outside",
                    code="archive-unsafe",
                )
            if not _is_macos(member.filename):
                file.extract(member, folder)  # a link becomes a text file
            progress.advance()


def _is_macos(name: str) -> bool:
    return any(part == "__MACOSX" or part.startswith("._") for part in PurePosixPath(name).parts)


def _too_large(archive: Path) -> DataError:
    return DataError(
        f"{archive}: unpacks to far more than this data set has; stopped", code="archive-too-large"
    )
