"""Rules about rows beside each other: doubles, contradictions, images in two splits.

Of an image or a group in several splits the most guarded part stays: `SPLITS` are in that order, test last.
"""

from collections.abc import Hashable, Iterable

import numpy as np

from solobox import boxes as geometry
from solobox.data.checks.context import PIXEL_FORMATS, Case
from solobox.data.formats.records import SPLITS

CONFLICT_IOU = 0.5


def judge_sets(case: Case) -> None:
    """Every rule about several rows."""
    _presence(case)
    splits = _splits(case)
    leaking = _images_in_splits(case, splits)
    _groups_in_splits(case, splits)
    _rows_of_one_image(case)
    _same_bytes(case, leaking, has_splits=any(splits))


def _presence(case: Case) -> None:
    if not case.records:
        advice = "look whether it is the right file or folder"
        case.note("no-records", -1, "there is nothing in it: not one image", advice)
    elif not case.has_box.any():
        case.note(
            "no-boxes",
            -1,
            f"not one of the {len(case.records)} records has a box",
            "nothing can be learned without boxes: look whether this is the right file",
        )


def _first_words(case: Case, index: int) -> str:
    record = case.records[index]
    return f"{record.image} ({record.where})"


def _identities(case: Case) -> list[Hashable]:
    """Tell records' images apart: by their bytes where they are known, else by their path."""
    digests = {key: seen.digest for key, seen in case.looks.items()}
    return [digests.get(key) or key for key in case.keys]


def _gather(names: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    found: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return found


def _splits(case: Case) -> list[str]:
    """Give the split that each record will be in: the file's own, and where it has none as training deals it.

    Of a file with some splits, a row without one goes where its image or its group is, else to train. All
    empty where the file names no split.
    """
    named = [record.split for record in case.records]
    if not any(named):
        return named
    homes: dict[Hashable, set[str]] = {}
    for index, record in enumerate(case.records):
        for unit in _units(case, index):
            homes.setdefault(unit, set()).update({record.split} - {""})
    alone = {unit: next(iter(splits)) for unit, splits in homes.items() if len(splits) == 1}
    return [
        split or next((alone[unit] for unit in _units(case, index) if unit in alone), "train")
        for index, split in enumerate(named)
    ]


def _units(case: Case, index: int) -> list[Hashable]:
    group = case.records[index].group
    return [case.keys[index], *([group] if group else [])]


def _ranked(splits: Iterable[str]) -> list[str]:
    """Sort the different splits among these, the least guarded first."""
    return sorted(set(splits) - {""}, key=SPLITS.index)


def _images_in_splits(case: Case, splits: list[str]) -> set[Hashable]:
    leaking: set[Hashable] = set()
    for identity, indices in _gather(_identities(case)).items():
        ranked = _ranked(splits[index] for index in indices)
        if len(ranked) < 2:
            continue
        leaking.add(identity)
        kept_split = ranked[-1]
        kept = next(index for index in indices if splits[index] == kept_split)
        for index in indices:
            if splits[index] == kept_split:
                continue
            here = splits[index] + ("" if case.records[index].split else " (no split is given)")
            case.note(
                "leaked-image",
                index,
                f"in {here}, and the same image in {kept_split}: {_first_words(case, kept)}",
                f"take one of the two out; --fix keeps the one in {kept_split}",
            )
    return leaking


def _groups_in_splits(case: Case, splits: list[str]) -> None:
    for group, indices in _gather(record.group for record in case.records).items():
        ranked = _ranked(splits[index] for index in indices) if group != "" else []
        if len(ranked) < 2:
            continue
        counts = {split: sum(splits[index] == split for index in indices) for split in ranked}
        astray = [index for index in indices if splits[index] != ranked[-1]]
        case.note(
            "leaked-group",
            astray[0],
            f"group {group!r} is in several splits: "
            + ", ".join(f"{split} ({count})" for split, count in counts.items()),
            "give all of a group one split, or empty the split column and let the groups be dealt out; "
            f"--fix keeps its {ranked[-1]} part",
            bad=astray,
        )


def _rows_of_one_image(case: Case) -> None:
    for indices in case.images.values():
        if len(indices) < 2:
            continue
        unique: dict[Hashable, int] = {}
        for index in indices:
            record = case.records[index]
            box = None if record.box is None else tuple(map(repr, record.box))
            first = unique.setdefault((box, record.label, record.split), index)
            if first != index:
                case.note(
                    "duplicate-row",
                    index,
                    f"says the same as {case.records[first].where}",
                    "nothing is lost: it is read once; --fix takes it out",
                    leave_out=(index,),
                )
        _judge_boxes_of_one(case, list(unique.values()))


def _judge_boxes_of_one(case: Case, indices: list[int]) -> None:
    boxed = [index for index in indices if case.has_box[index]]
    contents = _gather((case.records[index].box, case.records[index].label) for index in boxed)
    different = [boxed[members[0]] for members in contents.values()]
    if different and len(boxed) < len(indices):
        case.note(
            "conflicting-boxes",
            boxed[0],
            "the image is listed with a box and without one",
            "look at it and take out the wrong row; --fix leaves out both",
            bad=indices,
        )
        return
    if len(different) < 2:
        return
    overlap = _largest_overlap(case, different)
    # a row of a CSV says where the one thing is; the other formats list things, which may well overlap
    if case.annotations.format in PIXEL_FORMATS and overlap >= CONFLICT_IOU:
        rows = ", ".join(case.records[index].where for index in different[:4])
        more = ", …" if len(different) > 4 else ""
        case.note(
            "conflicting-boxes",
            different[0],
            f"{len(different)} rows disagree about one thing (IoU {overlap:.2f}): {rows}{more}",
            "keep the better one; --fix leaves out all of them",
            bad=boxed,
        )
        return
    case.note(
        "several-boxes",
        different[0],
        f"{len(different)} boxes in one image; one is expected",
        "it is left out, unless --keep largest or --keep first takes one box",
    )


def _largest_overlap(case: Case, indices: list[int]) -> float:
    boxes = case.boxes[indices]
    overlaps = geometry.iou(boxes[:, None], boxes[None, :])
    pairs = overlaps[np.triu_indices(len(boxes), 1)]
    return float(np.nan_to_num(pairs).max())


def _same_bytes(case: Case, leaking: set[Hashable], *, has_splits: bool) -> None:
    seen: dict[bytes, int] = {}
    for key, indices in case.images.items():
        looked = case.looks.get(key)
        if looked is None or not looked.digest or looked.digest in leaking:
            continue
        first = seen.setdefault(looked.digest, indices[0])
        if first == indices[0]:
            continue
        message = f"the same bytes as {_first_words(case, first)}"
        both = case.boxes[[first, indices[0]]]
        if np.isfinite(both).all():
            overlap = float(geometry.iou(both[0], both[1]))
            if overlap < CONFLICT_IOU:
                message += f", but another box (IoU {overlap:.2f})"
        if has_splits:
            advice = "keep one of the two: an image seen twice counts twice"
        else:
            advice = (
                "keep one of the two, or give them one group: one may be trained on and the other measured"
            )
        case.note("same-bytes", indices[0], message, advice)
