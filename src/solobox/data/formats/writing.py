"""What the writers share: folders that appear whole or not at all, and names for images."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from solobox.data.formats.records import Record
from solobox.errors import DataError
from solobox.utils.atomic import explained, followed, unfinished
from solobox.utils.text import is_utf8, printable


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Fill a folder that appears as `folder` once it is complete.

    Yields a temporary folder beside it, so that relative links in it stay valid after renaming. Raises DataError:
    ``already-exists`` when `folder` is not empty.
    """
    folder = followed(folder)
    with explained(folder):
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise DataError(f"{folder}: exists already: name an empty or a new folder", code="already-exists")
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = unfinished(folder)
        beside.mkdir()
        try:
            yield beside
            # One sync for all: syncing thousands of small files one by one takes minutes on a hard disk.
            if hasattr(os, "sync"):
                os.sync()
            if folder.is_dir():
                folder.rmdir()
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Fill a new folder beside `folder`, which takes its place once it is complete; see `check_replaceable`.

    What `folder` held is removed only once the new contents are there. Raises DataError.
    """
    folder = followed(folder)
    beside, old = unfinished(folder), unfinished(folder)
    try:
        yield beside
        with explained(folder):
            folder.rename(old)
            beside.rename(folder)
    finally:
        if old.exists() and not folder.exists():  # an error, or Ctrl-C, came between the two
            try:
                old.rename(folder)
            except OSError as error:
                raise DataError(
                    f"{folder}: cannot be written: {error.strerror or error}. What it held is in {old}: rename that"
                ) from error
        for each in (beside, old):
            shutil.rmtree(each, ignore_errors=True)


def check_replaceable(folder: Path, own: re.Pattern[str], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to replace a folder that holds anything but what a writer wrote there.

    own: the files of the writer, relative to the folder. Links are its own everywhere: what they lead to stays. inputs:
        files that are read for the new contents. overwrite: whether the folder may be replaced at all.

    Raises DataError: ``output-conflict``, ``output-exists``, ``output-is-input``.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"output {folder} is a file: name a folder", code="output-conflict")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise DataError(
            f"output {folder} is not empty: name another folder, or replace it with --overwrite",
            code="output-exists",
        )
    # A link in the folder is lost with it, and so is a file that a link elsewhere leads to.
    here = {os.path.abspath(folder), os.path.realpath(folder)}  # noqa: PTH100 (resolve would follow links)
    for path in inputs:
        for at in (os.path.abspath(path), os.path.realpath(path)):  # noqa: PTH100
            if at in here or any(at.startswith(f"{each}{os.sep}") for each in here):
                raise DataError(
                    f"output {folder} holds one of the inputs, {path}: name another folder",
                    code="output-is-input",
                )
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if not path.is_symlink() and not path.is_dir() and not own.fullmatch(relative):
                raise DataError(
                    f"output {folder} holds {relative}, which no conversion wrote, so it is not replaced: name another "
                    "folder, or remove it yourself",
                    code="output-conflict",
                )


def writable(rows: Sequence[Record], path: Path) -> Sequence[Record]:
    """The same rows.

    Raises DataError: ``box-not-finite`` for a box that is not four finite numbers, ``name-not-utf8`` for an image that
    no text file can name.
    """
    for record in rows:
        if not is_utf8(str(record.path)):
            raise DataError(
                f"{path}: the name {printable(str(record.path))} ({printable(record.where)}) is not UTF-8: rename the "
                "image, or leave it out",
                code="name-not-utf8",
            )
        if record.box is not None and not np.isfinite(record.box).all():
            raise DataError(
                f"{path}: {record.image} ({record.where}) has a box that is not four finite numbers: {record.box}",
                code="box-not-finite",
            )
    return rows


def by_image(rows: Sequence[Record]) -> dict[Path, list[Record]]:
    """Records by image, images in the order they first appear."""
    groups: dict[Path, list[Record]] = {}
    for record in rows:
        groups.setdefault(record.path, []).append(record)
    return groups


def relative_to(folder: Path) -> Callable[[Path], str]:
    """A function that names an image relative to `folder`, or absolutely where no relative path exists.

    An image below the folder is named by its path as written; for others symbolic links are resolved first, since
    ``..`` after a link leads elsewhere.
    """
    written = os.path.abspath(folder)  # noqa: PTH100 (resolve would follow links)
    real = os.path.realpath(folder)
    parents: dict[str, str] = {}

    def name_of(path: Path) -> str:
        parent, name = os.path.split(Path.cwd() / path)
        if parent not in parents:
            parents[parent] = _relative(parent, written, real)
        return Path(parents[parent], name).as_posix()

    return name_of


def _relative(parent: str, written: str, real: str) -> str:
    try:
        if ".." not in Path(parent).parts:
            below = os.path.relpath(parent, written)
            if Path(below).parts[:1] != ("..",):
                return below
        return os.path.relpath(os.path.realpath(parent), real)
    except ValueError:  # another drive
        return os.path.realpath(parent)


def unique_stems(paths: Iterable[Path]) -> dict[Path, str]:
    """A unique file name without suffix for each path.

    It is the path's stem where no other path has the same, or else that with the folder's name before it. Names that
    differ in case only count as equal, as they do on many disks.
    """
    paths = list(dict.fromkeys(paths))
    counts: dict[str, int] = {}
    for path in paths:
        counts[path.stem.casefold()] = counts.get(path.stem.casefold(), 0) + 1
    taken = {stem for stem, count in counts.items() if count == 1}
    stems = {}
    for path in paths:
        stem = path.stem
        if counts[stem.casefold()] > 1:
            base = stem = re.sub(r"[^\w.-]+", "_", f"{path.parent.name}_{path.stem}")
            count = 1
            while stem.casefold() in taken:
                count += 1
                stem = f"{base}-{count}"
            taken.add(stem.casefold())
        stems[path] = stem
    return stems


def plain(value: float) -> str:
    """The shortest text that reads back as exactly this number, without ``.0``."""
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
