"""Detect the annotation format of a file or a folder by its content."""

import difflib
import gc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from solobox.data.formats import (
    article,
    automl,
    coco,
    createml,
    csv,
    cvat,
    foreign,
    hf_metadata,
    label_studio,
    label_studio_csv,
    labelme,
    masks,
    openimages,
    via,
    via_csv,
    voc,
    yolo,
)
from solobox.data.formats.parsing import head, parent_of, some
from solobox.data.formats.records import Annotations, Layout, Record
from solobox.data.formats.writing import check_replaceable, replacing_folder, writable
from solobox.data.formats.yolo_setup import label_file
from solobox.data.layouts import describe
from solobox.errors import ConfigError, DataError


class Format(Protocol):
    """What each format's module offers: `read`, and a way to recognize its files.

    NAME: the format's name, as in `Annotations.format`.
    LOOKS_LIKE: what its files look like, in words, for messages.
    CONVENTION: the coordinate convention it stores, in words.
    """

    NAME: str
    LOOKS_LIKE: str
    CONVENTION: str

    def fits(self, path: Path) -> bool:
        """Whether a file or a folder looks like this format's, by its content."""

    def read(self, path: Path, images: Path | None = None) -> Annotations:
        """Read all records; names of images are relative to the file's folder, or to `images`."""


class WritableFormat(Format, Protocol):
    """A format that is written too."""

    def write(self, path: Path, rows: Sequence[Record]) -> None:
        """Write records so that `read` gives the same images and boxes; whole or not at all."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        module.NAME: module
        for module in (
            yolo,
            label_studio,
            labelme,
            createml,
            via,
            hf_metadata,
            cvat,
            coco,
            voc,
            masks,
            article,
            openimages,
            automl,
            via_csv,
            label_studio_csv,
            csv,
        )
    }
)
"""The most specific first: nearly any table of text looks like a CSV."""

WRITERS: Mapping[str, WritableFormat] = MappingProxyType(
    {module.NAME: module for module in (csv, article, coco, yolo, voc, hf_metadata, label_studio)}
)

FOLDERS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {module.NAME: module.WRITTEN for module in (voc, yolo)}
)
"""The formats that are written as a folder, and the files in it."""

_TABLES = (article, openimages, automl, via_csv, label_studio_csv, csv)


def read(data: Path, images: Path | None = None, layout: Layout | None = None) -> Annotations:
    """Read a dataset; its format is detected by its content.

    data: a file or a folder of one of `FORMATS`, see their `LOOKS_LIKE`.
    images: the folder that names of images are relative to, in place of the format's own.
    layout: what the numbers of its boxes mean, where a person knows it better than the format.

    Raises DataError: ``not-found``, ``unknown-format``, and the codes of the formats: ``bad-csv``, ``bad-json``,
    ``bad-coco``, ``bad-xml``, ``bad-yaml``, ``duplicate-column``, ``missing-column``, ``missing-key``,
    ``no-annotations``, ``not-utf8``, ``split-conflict``, ``unreadable-file``.
    """
    if not data.exists():
        raise DataError(f"{data}: does not exist{_similar_name(data)}", code="not-found")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: is no folder of images", code="not-found")
    if data.is_file():
        _refuse_foreign(data)
    # Any text with commas looks like a table; JSON and XML are none.
    is_table = not data.is_file() or head(data, 4096).lstrip()[:1] not in {"{", "[", "<"}
    for module in FORMATS.values():
        if (is_table or module not in _TABLES) and module.fits(data):
            with _collector_paused():
                annotations = module.read(data, images)
            if layout is not None:
                stated = annotations.layout
                # A format that counts pixels from 1 still does so where a person confirms its layout.
                chosen = stated if replace(stated, first=0) == layout else layout
                said = annotations.convention
                if chosen != stated:
                    said = f"{describe(chosen)}, as --layout says (the format: {said})"
                annotations = replace(annotations, layout=chosen, layout_is_certain=True, convention=said)
            return annotations
    _refuse_foreign(data)  # a folder: only where none fits, since one stray file says nothing of the others
    supported = "".join(f"\n  - {module.LOOKS_LIKE}" for module in FORMATS.values())
    raise DataError(f"{data}: {_describe(data)}. It is none of these:{supported}", code="unknown-format")


def _refuse_foreign(data: Path) -> None:
    if recognized := foreign.describe(data):
        raise DataError(f"{data}: this format is not read. It is {recognized}", code="unknown-format")


def write(
    path: Path,
    rows: Sequence[Record],
    format: str = "csv",  # noqa: A002 (the field's word)
    *,
    overwrite: bool = False,
) -> None:
    """Write records in a format by its name.

    path: a file for csv, article, coco, hf and label-studio, which is replaced; a folder for voc and yolo.
    overwrite: replace a folder that was written before.

    Raises ConfigError: ``unknown-format``; DataError for what the format cannot hold: ``already-exists``,
    ``bad-image-name``, ``box-not-finite``, ``split-conflict``, ``unreadable-image``; and see `check_replaceable`.
    """
    if format not in WRITERS:
        raise ConfigError(
            f"unknown annotation format {format!r}: use {', '.join(sorted(WRITERS))}", code="unknown-format"
        )
    if overwrite and format in FOLDERS and path.is_dir():
        check_replaceable(path, FOLDERS[format], (record.path for record in rows), overwrite=True)
        with replacing_folder(path) as folder:
            WRITERS[format].write(folder, writable(rows, path))
    else:
        WRITERS[format].write(path, rows)


def files(annotations: Annotations) -> Iterator[Path]:
    """The files that were read: of annotations and, whether or not they exist, images. Some may come twice."""
    path = annotations.path
    yield from _below(path) if path.is_dir() else (path,)
    yield from annotations.files
    if annotations.format == voc.NAME:
        folder = path if path.is_dir() else path.parent
        yield from (parent_of(folder) / "ImageSets" / "Main").glob("*.txt")
    elif annotations.format == yolo.NAME:
        yield from (label_file(record.path) for record in annotations.records)
    for record in annotations.records:
        yield record.path
        if record.other_path is not None:
            yield record.other_path


def _below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in all below it, also in those that are links; each folder once."""
    walked: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in walked:
            folders.clear()
            continue
        walked.add(real)
        yield from (Path(parent, name) for name in names)


@contextmanager
def _collector_paused() -> Iterator[None]:
    # A million records hold no cycles, yet the collector scans all of them again and again while they are made,
    # which takes nearly as long as reading them.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _similar_name(path: Path) -> str:
    try:
        names = [entry.name for entry in parent_of(path).iterdir()]
    except OSError:
        return ""
    similar = difflib.get_close_matches(path.name, names, n=1)
    return f"; is it {similar[0]!r}?" if similar else ""


def _describe(data: Path) -> str:
    """What the path is, instead of data that can be read."""
    if data.is_file():
        return "the file is empty" if data.stat().st_size == 0 else "the format of the file is unknown"
    if not data.is_dir():
        return "is neither a file nor a folder"
    names = sorted(entry.name for entry in data.iterdir())
    tables = [name for name in names if name.lower().endswith((".csv", ".tsv"))]
    if tables:
        return f"is a folder; give one of its files ({some(tables)})"
    return f"the folder holds no annotations ({some(names) or 'it is empty'})"
