"""Groups that nobody wrote down: copies of one image, augmented copies, frames of one scene.

A split that puts a copy into training and another into the test measures memory. So rows without a group that are
certainly of one source get one; what is only probable is for `solobox check` to report.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from solobox.data.fingerprints import fingerprint
from solobox.data.formats.records import SPLITS
from solobox.data.identity import (
    DECODED_SIDE,
    SIMILAR,
    Signatures,
    components,
    confirmed,
    difference,
    pairs,
    signatures,
)
from solobox.errors import ImageError
from solobox.images.reading import ImageInput, decode
from solobox.utils.concurrency import threaded_map
from solobox.utils.progress import Progress

PREFIX = "auto:"
"""Of the names of groups that are made here."""

_ROBOFLOW = re.compile(r"^(?P<source>.+)\.rf\.[0-9A-Za-z]{16,}$")
_AUGMENTED = re.compile(
    r"(?P<source>.+?)(?:[_-](?:[hv]?flip(?:ped|_?lr|_?ud)?|mirror(?:ed)?|aug(?:mented|mentation)?[_-]?\d*|rot(?:ated?)?[_-]?\d+"
    r"|blur(?:red)?|noise|bright(?:ness)?|dark(?:er)?|gr[ae]y(?:scale)?)|(?:[ _-]+copy(?: \(?\d+\)?)?)| - kopie)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^(?P<clip>.*?)(?P<number>\d{1,12})$")


@dataclass(frozen=True, slots=True)
class AutoGroups:
    """What was found among N images.

    groups: N names, those of the data included; ``""`` for an image that is alone.
    likely: pairs of rows that are probably of one scene, and are not in one group.
    copies, sources: images of groups that were made or joined here, and how many groups those are.
    """

    groups: tuple[str, ...]
    likely: tuple[tuple[int, int], ...]
    copies: int
    sources: int

    def sentence(self) -> str:
        """What was found, for a person; empty where there is nothing."""
        if not self.copies:
            return ""
        sources = "source" if self.sources == 1 else "sources"
        return (
            f"{self.copies:,} images are {self.sources:,} {sources} with copies, augmented copies or frames of a "
            "scene: those of a source stay in one split, where the data names none (--no-auto-group, auto_group=False, "
            "to refuse)"
        )


def exact_keys(images: Sequence[ImageInput], signs: Signatures) -> list[int | None]:
    """The fingerprint of each image's bytes; None for what is no image, such as a missing, empty or damaged file.

    signs: their signatures (N,).
    """
    has_signature = (~np.isnan(signs["aspect"])).tolist()
    return list(threaded_map(_exact_key, zip(images, has_signature, strict=True)))


def _exact_key(image: tuple[ImageInput, bool]) -> int | None:
    source, has_signature = image
    if not has_signature:  # without contrast, or no image: files of the same error page are not one scene
        try:
            decode(source, at_least=DECODED_SIDE)
        except (ImageError, OSError):
            return None
    return fingerprint(source)


def leaked(
    images: Sequence[ImageInput], splits: Sequence[str], keys: Sequence[int | None], signs: Signatures
) -> list[int]:
    """The rows of N images that are copies of an image in another split that the data names, the later one each.

    Copies by bytes or by pixels, confirmed by a larger thumbnail, as `solobox check` does.
    """
    later: dict[int, list[tuple[int, int]]] = defaultdict(list)
    equal = _equal_files(keys, signs)
    for one, other in [*equal, *((int(one), int(other)) for one, other in pairs(signs))]:
        if splits[one] and splits[other] and splits[one] != splits[other]:
            later[max(one, other, key=lambda row: SPLITS.index(splits[row]))].append((one, other))
    exact = set(equal)

    def is_copy(links: list[tuple[int, int]]) -> bool:
        return any(link in exact or confirmed(images[link[0]], images[link[1]]) for link in links)

    return [row for row, copy in zip(later, threaded_map(is_copy, later.values()), strict=True) if copy]


def leaked_sentence(rows: Sequence[int], splits: Sequence[str]) -> str:
    """What `leaked` found, for a person; empty where there is nothing."""
    if not rows:
        return ""
    counts = Counter(splits[row] for row in rows)
    named = ", ".join(f"{counts[split]:,} in {split}" for split in SPLITS if counts[split])
    return (
        f"{len(rows):,} {'image is a copy' if len(rows) == 1 else 'images are copies'} of images in another split "
        f"({named}), so what is measured there is too good: `solobox check` lists them (leaked-image), and its --fix "
        "writes the labels without them"
    )


def groups_and_leaks(
    images: Sequence[ImageInput],
    names: Sequence[str],
    groups: Sequence[str],
    splits: Sequence[str],
    progress: Progress | None,
) -> tuple[AutoGroups, str]:
    """Decode N images for `find_groups` and `leaked`; the second in a sentence.

    progress: advanced for each image, and told what was found.
    """
    signs = signatures(images, progress=progress)
    keys = exact_keys(images, signs)
    found = find_groups(names, groups, keys, signs)
    torn = leaked_sentence(leaked(images, splits, keys, signs), splits)
    for text in filter(None, (found.sentence(), torn)):
        if progress is not None:
            progress.say(text)
    return found, torn


def find_groups(
    names: Sequence[str], groups: Sequence[str], keys: Sequence[int | None], signs: Signatures
) -> AutoGroups:
    """Groups of N images by their names, `exact_keys` and signatures.

    groups: N groups that the data names, which stay as they are; a row without one joins that of its copies.
    """
    links = [(int(one), int(other)) for one, other in pairs(signs)]
    links += _equal_files(keys, signs)
    links += _augmented(names)
    links += _frames(names, signs)
    roots = components(len(names), links)
    members: dict[int, list[int]] = defaultdict(list)
    for row, root in enumerate(roots):
        members[root].append(row)
    found, copies, sources = list(groups), 0, 0
    for rows in members.values():
        loose = [row for row in rows if not groups[row]]
        if len(rows) > 1 and loose:
            # the least name, so that the order of the rows does not matter
            name = min((groups[row] for row in rows if groups[row]), default="")
            name = name or PREFIX + min(names[row] for row in loose)
            copies, sources = copies + len(rows), sources + 1
            for row in loose:
                found[row] = name
    likely = tuple(
        (int(one), int(other))
        for one, other in pairs(signs, SIMILAR)
        if roots[one] != roots[other] and not (found[one] and found[one] == found[other])
    )
    return AutoGroups(tuple(found), likely, copies, sources)


def _equal_files(keys: Sequence[int | None], signs: Signatures) -> list[tuple[int, int]]:
    first: dict[int, int] = {}
    links = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        one = first.setdefault(key, row)
        # a fingerprint does not hash the middle of a file, but the pixels tell
        if one != row and signs["hash"][one] == signs["hash"][row]:
            links.append((one, row))
    return links


def _augmented(names: Sequence[str]) -> list[tuple[int, int]]:
    """Links between images whose names say that they are made of one: by Roboflow, or beside the source."""
    first: dict[str, int] = {}
    links = []
    stems: dict[tuple[str, str], int] = {}
    for row, name in enumerate(names):
        path = PurePosixPath(name)
        stems.setdefault((str(path.parent), path.stem), row)
    for row, name in enumerate(names):
        path = PurePosixPath(name)
        if found := _ROBOFLOW.match(path.stem):
            links.append((first.setdefault(found["source"], row), row))
            continue
        stem = path.stem
        while found := _AUGMENTED.fullmatch(stem):
            stem = found["source"]
        if stem != path.stem and (source := stems.get((str(path.parent), stem))) is not None:
            links.append((source, row))
    return [link for link in links if link[0] != link[1]]


def _frames(names: Sequence[str], signs: Signatures) -> list[tuple[int, int]]:
    """Links between neighbours by number that look alike: frames of one clip, or photographs in a row."""
    clips: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    for row, name in enumerate(names):
        path = PurePosixPath(name)
        if found := _NUMBERED.match(path.stem):
            clips[str(path.parent), found["clip"], path.suffix.lower()].append((int(found["number"]), row))
    neighbours = [
        (one, other)
        for members in clips.values()
        for (_, one), (_, other) in zip(sorted(members), sorted(members)[1:], strict=False)
    ]
    if not neighbours:
        return []
    one, other = np.array(neighbours, dtype=np.intp).T
    mean, _ = difference(signs, one, other)
    return [link for link, close in zip(neighbours, (mean <= SIMILAR).tolist(), strict=True) if close]
