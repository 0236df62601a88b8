"""The images to predict: files, folders, glob patterns, lists, and URLs of any store.

URLs go through fsspec, of the extra ``ray``; everything local works without it.
"""

import glob
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from solobox.errors import ConfigError, DataError
from solobox.images.reading import is_any_image_name
from solobox.predict.lists import in_list, is_list
from solobox.predict.stores import is_local, is_url, locate, reading
from solobox.utils.text import printable

_LITTER = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    )
)
"""Names that systems leave beside images, in lower case; those that begin with a dot are known by that."""


@dataclass(slots=True)
class LeftOut:
    """What folders and patterns hold beside images, counted: none of it has a row.

    hidden: files and folders whose name begins with a dot, and what systems leave beside images (``Thumbs.db``,
        ``__MACOSX``); a folder counts once. others: files whose name is not that of an image. links: links to folders,
        which are not followed. folders: folders that a pattern matched.
    """

    hidden: int = 0
    others: int = 0
    links: int = 0
    folders: int = 0

    def __str__(self) -> str:
        """One line for people; empty where nothing was left out."""
        counts = (
            (self.hidden, "hidden or system file or folder", "hidden or system files and folders"),
            (self.others, "file that is no image by its name", "files that are no images by their names"),
            (self.links, "link to a folder (give it as an input)", "links to folders (give them as inputs)"),
            (
                self.folders, "folder that a pattern matched (give it as an input)",
                "folders that a pattern matched (give them as inputs)",
            ),
        )  # fmt: skip
        return ", ".join(f"{n:,} {one if n == 1 else several}" for n, one, several in counts if n)


def expand(inputs: Iterable[str | Path], left_out: LeftOut | None = None) -> list[str]:
    """All of `iter_images` in a list."""
    return list(iter_images(inputs, left_out))


def iter_images(inputs: Iterable[str | Path], left_out: LeftOut | None = None) -> Iterator[str]:
    """Names of images in the order of the inputs.

    A folder stands for the images in it and below, by name; a pattern with ``*``, ``?`` or ``[`` for the files that it
    matches, by name (``**`` for any depth), unless a file has that very name; a list for its images, see
    `solobox.predict.lists`; anything else for itself, even if it does not exist: its row then has the error. All of
    these may be URLs.

    Of a folder, images of formats that cannot be decoded, broken links and folders that cannot be read are named too:
    their rows say why. Whatever else is passed over is added to `left_out`.

    A list is read line by line; of a folder the names of one folder at a time are in memory, of a pattern all.
    Raises DataError: ``no-images`` for a folder, pattern or list without images, ``list-damaged``, and
    ``file-unreadable``; ConfigError ``missing-package`` for a URL without fsspec or the store's package.
    """
    left_out = LeftOut() if left_out is None else left_out
    for item in (str(each).removeprefix("file://") for each in inputs):
        count, before = 0, replace(left_out)
        for name in _images_of(item, left_out):
            count += 1
            yield name
        if not count:
            is_pattern = glob.has_magic(item) and not is_list(item)
            why = f" (left out: {left_out})" if left_out != before else ""
            raise DataError(
                f"{'nothing matches' if is_pattern else 'no images in'} {item}{why}", code="no-images"
            )


def check_named(inputs: Iterable[str]) -> None:
    """Raise DataError ``not-found`` for a path that does not exist. Patterns and URLs are not looked at."""
    for item in inputs:
        path = item.removeprefix("file://")
        if not (is_url(path) or glob.has_magic(path) or os.path.lexists(path)):
            raise DataError(f"{printable(item)}: there is no such file or folder", code="not-found")


NOT_UTF8 = "the name is not UTF-8, so no file of rows can hold it: rename the image"


def _images_of(item: str, left_out: LeftOut) -> Iterator[str]:
    if is_list(item):
        yield from in_list(item)
    elif item.startswith(("http://", "https://")):  # a web server has no folders, and ? is no pattern there
        yield item
    elif is_url(item):
        yield from _in_store(item, left_out)
    elif Path(item).is_dir():
        yield from _below(str(Path(item)), _list_folder, left_out)
    elif glob.has_magic(item) and not os.path.lexists(item):
        matches = ((path, _kind_of(path)) for path in sorted(glob.glob(item, recursive=True)))  # noqa: PTH207
        yield from _matching(item, matches, left_out)
    else:
        yield item


Kind: TypeAlias = Literal["file", "folder", "link", "broken"]
"""What a name in a folder is. link: to a folder. broken: a link that leads nowhere."""
Entry: TypeAlias = tuple[str, Kind]
"""A name in a folder, and its kind."""


def _below(
    folder: str, entries: Callable[[str], Iterable[Entry]], left_out: LeftOut, *, is_input: bool = True
) -> Iterator[str]:
    """Images in a folder and below in the order of their whole paths."""
    try:
        listing = sorted(entries(folder), key=lambda entry: entry[0] + "/" * (entry[1] == "folder"))
    except DataError as error:
        # Of a store only what is forbidden: anything else is an outage, after which all is listed anew.
        if is_input or not (entries is _list_folder or isinstance(error.__cause__, PermissionError)):
            raise
        yield folder
        return
    for name, kind in listing:
        path = name if folder == "." else f"{folder.rstrip('/')}/{name}"
        if _is_litter(name):
            left_out.hidden += 1
        elif kind == "folder":
            yield from _below(path, entries, left_out, is_input=False)
        elif kind == "link":
            left_out.links += 1
        elif is_any_image_name(name) or (kind == "broken" and not Path(name).suffix):
            yield path  # a broken link without an ending may have been a folder of images
        else:
            left_out.others += 1


def _matching(pattern: str, matches: Iterable[Entry], left_out: LeftOut) -> Iterator[str]:
    """The files that a pattern matched. What begins with a dot is there only if the pattern asks for it."""
    for path, kind in matches:
        if any(part.lower() in _LITTER for part in re.split(r"[/\\]", path)):
            left_out.hidden += 1
        elif kind in ("file", "broken"):
            yield path
        elif "**" not in pattern:  # which matches what is in the folder, too
            left_out.folders += 1


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _list_folder(folder: str) -> Iterator[Entry]:
    with reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name, _kind_of(entry)


def _kind_of(item: "str | os.DirEntry[str]") -> Kind:
    path = item if isinstance(item, os.DirEntry) else Path(item)
    try:
        if path.is_symlink():
            return "link" if stat.S_ISDIR(path.stat().st_mode) else "file"
        return "folder" if path.is_dir() else "file"
    except OSError:
        return "broken"


def _in_store(item: str, left_out: LeftOut) -> Iterator[str]:
    store, path = locate(item)
    if is_local(store):
        yield from _images_of(path, left_out)
        return
    _, chained, outer = item.partition("::")  # as in zip://*.jpg::s3://bucket/all.zip

    def url(path: str) -> str:
        return f"{store.unstrip_protocol(path)}{chained}{outer}"

    def entries(folder: str) -> Iterator[Entry]:
        with reading(item):
            listing = store.ls(folder, detail=True)
        for entry in listing:
            name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            if name and str(entry["name"]).rstrip("/") != folder.rstrip("/"):
                yield name, _kind_in_store(entry["type"])

    with reading(item):
        exists = store.exists(path)
        is_folder = exists and store.isdir(path)
    if is_folder:
        yield from map(url, _below(path, entries, left_out))
    elif not exists and glob.has_magic(path):
        with reading(item):
            matches = sorted(
                (str(name), _kind_in_store(info["type"]))
                for name, info in store.glob(path, detail=True).items()
            )
        yield from map(url, _matching(path, matches, left_out))
    else:
        yield url(path)


def _kind_in_store(kind: object) -> Kind:
    return "folder" if kind == "directory" else "file"


# Clips and cameras ----------------------------------------------------------------------------------

VIDEO_SUFFIXES = frozenset((".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"))
"""Endings of clips' names, in lower case, with the dot."""


def is_video(text: str) -> bool:
    """Whether an input is a clip by its name's ending (in any case), or the number of a camera."""
    return is_camera(text) or Path(text).suffix.lower() in VIDEO_SUFFIXES


def is_camera(text: str) -> bool:
    """Whether an input is the number of a camera: digits alone."""
    return re.fullmatch(r"[0-9]{1,3}", text) is not None


def clip_of(inputs: Iterable[str]) -> str | None:
    """The clip or camera among the inputs of a command, None where all are images.

    A number that is the name of an existing file or folder is not a camera. Raises ConfigError
    ``options-conflict`` for a clip or camera together with other inputs.
    """
    inputs = list(inputs)
    clips = [text for text in inputs if is_video(text) and not (is_camera(text) and Path(text).exists())]
    if clips and len(inputs) > 1:
        raise ConfigError(
            f"{clips[0]} is a clip or a camera: give one alone, without images or other clips",
            code="options-conflict",
        )
    return clips[0] if clips else None
