"""Where the images are that annotations name, also where the names are of another computer or spelled otherwise."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from solobox.data.formats.image_index import FileIndex, common_tail, fold, fold_text
from solobox.data.formats.image_names import contradicts, name_parts
from solobox.data.formats.parsing import Listings, locate, some
from solobox.data.formats.records import Problem, Record
from solobox.errors import ImageError
from solobox.images.reading import is_image_name, probe

_RARE = 0.1  # the share of the images that may have one size, for it to say which image this is
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before an uploaded file's name


class ImageFinder:
    r"""Finds the files of images by the names in annotations. Every folder is listed once.

    In this order: the name as it is; its last parts, the longest first, in each folder (names such as
    ``C:\set\1.png``, ``/content/set/1.png``, URLs with ``%20``); the same below the folders, in any case and Unicode
    form; with another image suffix or none. Where two files fit equally well there is no match. `problems` tells what
    was found otherwise than by its name.

    folders: where names may be relative to, the most likely first: those of the format, near the annotations. Files
        are also searched below them, except below those that hold the first folder.
    images: the folder that the user names in their place, or None.
    only_exact: search for nothing: an image is where its name says, or missing.
    """

    def __init__(self, *folders: Path, images: Path | None = None, only_exact: bool = False) -> None:
        self._only_exact = only_exact
        self._folders = [images] if images is not None else list(dict.fromkeys(folders))
        self._own = folders[0]
        self._path_of = {folder: locate(folder) for folder in (*self._folders, self._own)}
        self._listings = Listings()
        self._tails: dict[str, list[list[tuple[Path, int]]]] = {}
        self._straight: dict[Path, Path | None] = {}
        self._index: FileIndex | None = None
        self._results: dict[tuple[str, str, str], _Result] = {}

    def prefer(self, names: Iterable[str]) -> None:
        """Put the folders in the order of how many of these names they have: there the missing ones should be too."""
        if len(self._folders) < 2:
            return
        in_folder: dict[str, list[str]] = {}
        for name in names:
            parent, slash, last = name.rpartition("/")
            in_folder.setdefault(parent + slash, []).append(last)
        hits = Counter[Path]()
        for folder in self._folders:
            for parent, last_parts in in_folder.items():
                there = self._listings.names(folder / parent)
                hits[folder] += sum(last in there for last in last_parts)
        self._folders.sort(key=lambda folder: -hits[folder])

    def find(self, name: str, original: str = "", instead: str = "") -> Path:
        """The path of an image; where no such file is, the one where it should be.

        name: as the file has it. original: in a copy that Solobox wrote, the name in its original, which is relative to
        `images`, whereas `name` is relative to the copy. instead: another name, without a suffix, for where `name` is
        not found.
        """
        key = name, original, instead
        result = self._results.get(key)
        if result is None:
            result = self._results[key] = self._search(name, original, instead)
        return result.path

    def of_stem(self, stem: str) -> Path | None:
        """The one image of this name without its suffix that lies directly in the folders."""
        paths = {path for folder in self._folders for path in self._listings.images_named(folder, stem)}
        return paths.pop() if len(paths) == 1 else None

    def problems(self, path: Path, records: Sequence[Record]) -> tuple[Problem, ...]:
        """What was found otherwise than by its name: once for all records of the annotations at `path`.

        Errors, for each record: ``ambiguous-image`` where several files fit, ``images-collide`` where different names
        led to one file, ``image-in-other-folder``, see `_doubtful`. Warnings: ``images-found-elsewhere``,
        ``image-name-differs``.
        """
        found = {key: result for key, result in self._results.items() if result.found}
        ambiguous = {result.path: result.candidates for result in self._results.values() if result.candidates}
        if not found and not ambiguous:
            return ()
        colliding = self._colliding()
        doubtful = self._doubtful(records) - colliding.keys()
        certain = {key: each for key, each in found.items() if each.path not in doubtful | colliding.keys()}
        problems = list(self._summaries(path, certain))
        for index, record in enumerate(records):
            if record.path in ambiguous:
                candidates = ambiguous[record.path]
                problems.append(
                    Problem(
                        "ambiguous-image",
                        record.where,
                        record.row,
                        record.image,
                        f"is not where its name leads, and {len(candidates)} files may be meant: {some(candidates, 3)}",
                        "write the path from the folder of the images, or name a folder with --images that has one",
                        index,
                    )
                )
            elif record.path in colliding:
                names = sorted(colliding[record.path])
                problems.append(
                    Problem(
                        "images-collide",
                        record.where,
                        record.row,
                        record.image,
                        f"different names lead to the one file {record.path}: {some(names, 3)}",
                        "correct the names: only one of them can be this image",
                        index,
                    )
                )
            elif record.path in doubtful:
                problems.append(
                    Problem(
                        "image-in-other-folder",
                        record.where,
                        record.row,
                        record.image,
                        f"is not where its name leads; {record.path} is in another folder, and nothing says that it is "
                        "the same image",
                        "correct the name if it is, or else bring the image or remove the row",
                        index,
                    )
                )
        return tuple(problems)

    def _doubtful(self, records: Sequence[Record]) -> set[Path]:
        """Files that have an image's own name, in another folder than it names, which nothing confirms.

        ``cats/1.png`` may well not be ``dogs/1.png``. It is where a renamed folder explains all names: none leads to
        its folder, and the images of each one are in one other (or all names are of one); of a folder that is not
        searched first, more than one image. So is an image of the size that the file records, if that is rare.
        """
        folders: dict[tuple[str, ...], set[Path]] = {}
        moved: dict[Path, tuple[str, ...]] = {}
        is_real = False
        for (name, _, _), result in self._results.items():
            named = fold(name_parts(name)[:-1])
            if not named or not (result.exact or result.found) or result.by_stem:
                continue
            folders.setdefault(named, set()).add(result.path.parent)
            if result.exact or common_tail(named, fold(result.path.parent.parts)):
                is_real = True
            else:
                moved[result.path] = named
        counts = Counter(path.parent for path in moved)
        doubtful = {
            path
            for path, named in moved.items()
            if is_real
            or (len(folders) > 1 and len(folders[named]) > 1)
            or (counts[path.parent] < 2 and path.parent not in self._folders)
        }
        if doubtful:
            sizes = Counter(record.size for record in records)
            rare = _RARE * len(records)
            some_doubtful = (each for each in records if each.path in doubtful and sizes[each.size] <= rare)
            doubtful -= {each.path for each in some_doubtful if _has_size(each)}
        return doubtful

    def _colliding(self) -> dict[Path, set[str]]:
        """The files to which different names led, one of them at least by a search, and the names."""
        names: dict[str, dict[tuple[str, ...], str]] = {}
        searched: set[str] = set()
        paths: dict[str, set[Path]] = {}
        for (name, _, _), result in self._results.items():
            if result.exact or result.found:
                at = os.path.normpath(result.path)
                names.setdefault(at, {})[fold(name_parts(name))] = name
                paths.setdefault(at, set()).add(result.path)
                if result.found:
                    searched.add(at)
        return {path: set(names[at].values()) for at in searched if len(names[at]) > 1 for path in paths[at]}

    def _summaries(self, path: Path, found: "dict[tuple[str, str, str], _Result]") -> Iterator[Problem]:
        moved = {key: result for key, result in found.items() if not result.renamed}
        for code, results, advice in (
            (
                "images-found-elsewhere",
                moved,
                "nothing to do if this is right; --fix writes the paths that were found",
            ),
            (
                "image-name-differs",
                {key: result for key, result in found.items() if result.renamed},
                "nothing to do if these are the same images; --fix writes the names that were found",
            ),
        ):
            if not results:
                continue
            (name, _, _), first = next(iter(results.items()))
            changes = Counter(result.change for result in results.values()).most_common(3)
            said = "; ".join(
                f"{old or 'no folder'} became {new} ({count:,})" for (old, new), count in changes
            )
            how = "under other names" if code == "image-name-differs" else "by the last parts of their names"
            yield Problem(
                code,
                path.name,
                0,
                "",
                f"{len(results):,} images are not where their names lead, and were found {how}: {said}. "
                f"Such as {name}: {first.path}",
                advice,
            )

    def _search(self, name: str, original: str, instead: str) -> "_Result":
        if original and self._folders[0] is not self._own:
            for path in (self._path_of[self._folders[0]](original), self._path_of[self._own](name)):
                if self._listings.has(path):
                    return _Result(path, exact=True)
        for folder in self._folders:
            path = self._path_of[folder](name)
            if self._listings.has(path):
                return _Result(self._without_detours(path) if ".." in name.split("/") else path, exact=True)
        expected = self._path_of[self._folders[0]](name)
        parts = name_parts(name)
        if not parts or self._only_exact:
            return _Result(expected)
        result = self._by_tail(parts, expected) or self._below(parts, expected)
        if result is None and _UPLOAD.match(parts[-1]):
            plain = (*parts[:-1], _UPLOAD.sub("", parts[-1], count=1))
            result = self._by_tail(plain, expected) or self._below(plain, expected)
            if result is not None and result.found:
                change = "HASH-name", "name"
                result = _Result(result.path, found=True, renamed=True, change=change)
        if instead and (result is None or not result.found):
            path_of_stem = self.of_stem(instead)
            if path_of_stem is not None:
                change = "the name", "that of the annotation file"
                return _Result(path_of_stem, found=True, renamed=True, by_stem=True, change=change)
        return result or _Result(expected)

    def _without_detours(self, path: Path) -> Path:
        """The same file without ``folder/..`` in its path, where no link makes it another."""
        parent = path.parent
        if parent not in self._straight:
            self._straight[parent] = _straight(parent)
        folder = self._straight[parent]
        return (_straight(path) or path) if folder is None else folder / path.name

    def _by_tail(self, parts: tuple[str, ...], expected: Path) -> "_Result | None":
        """By the last parts of a name in the folders themselves."""
        key = "/".join(parts[:-1])
        if key not in self._tails:
            self._tails[key] = list(self._folders_of_tails(parts[:-1]))
        for level in self._tails[key]:
            fitting = [
                (folder / parts[-1], kept)
                for folder, kept in level
                if parts[-1] in self._listings.names(folder)
            ]
            fitting = [each for each in fitting if not contradicts(parts, each[0])]
            result = _decide(dict(fitting), parts, expected)
            if result is not None:
                return result
        return None

    def _folders_of_tails(self, parents: tuple[str, ...]) -> Iterator[list[tuple[Path, int]]]:
        for start in range(len(parents) + 1):
            tail = parents[start:]
            level = [
                (folder.joinpath(*tail), len(tail) + 1)
                for folder in self._folders
                if not tail or tail[0] in self._listings.names(folder)
            ]
            existing = [each for each in level if self._listings.names(each[0])]
            if existing:
                yield existing

    def _below(self, parts: tuple[str, ...], expected: Path) -> "_Result | None":
        """By the last parts of a name anywhere below the folders, in any case and Unicode form, by suffix or stem."""
        if self._index is None:
            self._index = FileIndex.of(self._roots())
        index, folded = self._index, fold(parts)
        stem = folded[-1].rpartition(".")[0] if "." in folded[-1] else ""
        for candidates in (
            index.by_name.get(folded[-1], ()),
            index.by_stem.get(folded[-1], ()),
            index.by_stem.get(stem, ()) if is_image_name(parts[-1]) else (),
        ):
            kept = {
                path: common_tail(folded[:-1], at) + 1
                for path, at in candidates
                if not contradicts(parts, path)
            }
            if not kept:
                continue
            most = max(kept.values())
            best = {path: most for path, number in kept.items() if number == most}
            spelled = {path: most for path in best if path.parts[-most:] == parts[-most:]}
            result = _decide(spelled if len(spelled) == 1 else best, parts, expected)
            if result is not None:
                return result
        return None

    def _roots(self) -> list[Path]:
        """The folders to search below, none of them inside another, and none that holds the annotations' folder."""
        own = os.path.realpath(self._own)
        real: dict[str, Path] = {}
        for folder in self._folders:
            at = os.path.realpath(folder)
            if len(self._folders) == 1 or at == own or not own.startswith(f"{at}{os.sep}"):
                real.setdefault(at, folder)
        return [
            folder
            for at, folder in real.items()
            if not any(at != other and at.startswith(f"{other}{os.sep}") for other in real)
        ]


@dataclass(frozen=True, slots=True)
class _Result:
    """Where an image is or should be.

    exact: the file is there. found: it was searched and found here. candidates: files between which the search could
    not decide. renamed: whether its own name is another. by_stem: whether it is that of the annotation file.
    change: what was replaced by what.
    """

    path: Path
    exact: bool = False
    found: bool = False
    candidates: tuple[str, ...] = ()
    renamed: bool = False
    by_stem: bool = False
    change: tuple[str, str] = ("", "")


def _decide(kept: dict[Path, int], parts: tuple[str, ...], expected: Path) -> _Result | None:
    """The result of files that fit, each with the number of last parts that it has in common with the name."""
    if not kept:
        return None
    if len(kept) > 1:
        unique = {os.path.realpath(path): path for path in kept}
        if len(unique) > 1:
            return _Result(expected, candidates=tuple(sorted(map(str, unique.values()))))
    path, number = next(iter(kept.items()))
    if path.name != parts[-1]:
        return _Result(path, found=True, renamed=True, change=_renaming(parts[-1], path.name))
    return _Result(path, found=True, change=("/".join(parts[:-number]), str(path.parents[number - 1])))


def _renaming(name: str, found: str) -> tuple[str, str]:
    """What was replaced by what in a name, in words that are the same for many images."""
    if fold_text(name) == fold_text(found):
        return "a name", "one in another case or Unicode form"
    suffixes = [
        f".{each.rpartition('.')[2]}" if is_image_name(each) else "no suffix" for each in (name, found)
    ]
    return suffixes[0], suffixes[1]


def _has_size(record: Record) -> bool:
    try:
        size = probe(record.path).size
    except ImageError:
        return False
    return record.size is not None and size == (round(record.size[0]), round(record.size[1]))


def _straight(path: Path) -> Path | None:
    """The normalized path; None where links make it that of another file or folder."""
    straight = Path(os.path.normpath(path))
    try:
        return straight if straight.samefile(path) else None
    except OSError:
        return None
