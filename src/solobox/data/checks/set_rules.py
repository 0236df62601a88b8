"""Rules about several rows: duplicates, contradictions, images in two splits.

Of an image or a group in several splits the last of `SPLITS` is kept: test before val before train.
"""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np

from solobox import boxes as geometry
from solobox.data.auto_groups import find_groups
from solobox.data.checks.context import TABLE_FORMATS, CheckContext
from solobox.data.formats.records import SPLITS
from solobox.data.identity import Signatures, components, confirmed, no_signatures, pairs
from solobox.data.object_size import ObjectSize

CONFLICT_IOU = 0.5


def check_rows(context: CheckContext) -> None:
    """Run all rules about several rows."""
    _presence(context)
    splits = _splits(context)
    signs = _signatures(context)
    identities = _identities(context, signs)
    leaking = _images_in_splits(context, splits, identities)
    _groups_in_splits(context, splits)
    _rows_of_one_image(context)
    _same_image(context, leaking, identities, has_splits=any(splits))
    _similar_images(context, signs)
    _tiny_objects(context)


def _presence(context: CheckContext) -> None:
    if not context.records:
        advice = "check that this is the right file or folder"
        context.add("no-records", -1, "it lists no image", advice)
    elif not context.has_box.any():
        context.add(
            "no-boxes",
            -1,
            f"none of the {len(context.records)} records has a box",
            "nothing can be learned without boxes: check that this is the right file",
        )


def _reference(context: CheckContext, index: int) -> str:
    record = context.records[index]
    return f"{record.image} ({record.where})"


def _identities(context: CheckContext, signs: Signatures) -> dict[Path, Path]:
    """For each image the first one with the same bytes, or with the same pixels, saved in another way."""
    keys = list(context.images)
    first: dict[bytes, int] = {}
    links: list[tuple[int, int]] = []
    for number, key in enumerate(keys):
        info = context.image_info.get(key)
        if info is not None and info.digest:
            links.append((first.setdefault(info.digest, number), number))
    links += [
        (one, other)
        for one, other in pairs(signs).tolist()
        if context.image_info[keys[one]].digest != context.image_info[keys[other]].digest
        and confirmed(context.image(keys[one]), context.image(keys[other]))
    ]
    return dict(zip(keys, (keys[root] for root in components(len(keys), links)), strict=True))


def _signatures(context: CheckContext) -> Signatures:
    """The signature of each image's pixels; like no other for one that was not decoded."""
    signs = no_signatures(len(context.images))
    for number, key in enumerate(context.images):
        info = context.image_info.get(key)
        if info is not None and info.signature is not None:
            signs[number] = info.signature[0]
    return signs


def _group_indices(names: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name, []).append(index)
    return groups


def _splits(context: CheckContext) -> list[str]:
    """The split of each record: that of the file, or else the one that training assigns.

    Of a file with some splits, a row without one goes where its image or its group is, else to train. All
    empty where the file names no split.
    """
    named = [record.split for record in context.records]
    if not any(named):
        return named
    splits_of: dict[Hashable, set[str]] = {}
    for index, record in enumerate(context.records):
        for unit in _units(context, index):
            splits_of.setdefault(unit, set()).update({record.split} - {""})
    unique = {unit: next(iter(splits)) for unit, splits in splits_of.items() if len(splits) == 1}
    return [
        split or next((unique[unit] for unit in _units(context, index) if unit in unique), "train")
        for index, split in enumerate(named)
    ]


def _units(context: CheckContext, index: int) -> list[Hashable]:
    group = context.records[index].group
    return [context.keys[index], *([group] if group else [])]


def _ranked(splits: Iterable[str]) -> list[str]:
    """The different splits among these, in the order of `SPLITS`."""
    return sorted(set(splits) - {""}, key=SPLITS.index)


def _images_in_splits(
    context: CheckContext, splits: list[str], identities: Mapping[Path, Path]
) -> set[Hashable]:
    leaking: set[Hashable] = set()
    for identity, indices in _group_indices(identities[key] for key in context.keys).items():
        ranked = _ranked(splits[index] for index in indices)
        if len(ranked) < 2:
            continue
        leaking.add(identity)
        kept_split = ranked[-1]
        kept = next(index for index in indices if splits[index] == kept_split)
        for index in indices:
            if splits[index] == kept_split:
                continue
            here = splits[index] + ("" if context.records[index].split else " (no split is given)")
            context.add(
                "leaked-image",
                index,
                f"in {here}, and the same image in {kept_split}: {_reference(context, kept)}",
                f"remove one of the two; --fix keeps the one in {kept_split}",
            )
    return leaking


def _groups_in_splits(context: CheckContext, splits: list[str]) -> None:
    for group, indices in _group_indices(record.group for record in context.records).items():
        ranked = _ranked(splits[index] for index in indices) if group != "" else []
        if len(ranked) < 2:
            continue
        counts = {split: sum(splits[index] == split for index in indices) for split in ranked}
        misplaced = [index for index in indices if splits[index] != ranked[-1]]
        context.add(
            "leaked-group",
            misplaced[0],
            f"group {group!r} is in several splits: "
            + ", ".join(f"{split} ({count})" for split, count in counts.items()),
            "give all of a group one split, or empty the split column and let Solobox split by group; "
            f"--fix keeps its {ranked[-1]} rows",
            bad=misplaced,
        )


def _rows_of_one_image(context: CheckContext) -> None:
    for indices in context.images.values():
        if len(indices) < 2:
            continue
        unique: dict[Hashable, int] = {}
        for index in indices:
            record = context.records[index]
            box = None if record.box is None else tuple(map(repr, record.box))
            first = unique.setdefault((box, record.label, record.split), index)
            if first != index:
                context.add(
                    "duplicate-row",
                    index,
                    f"repeats {context.records[first].where}",
                    "it is read once, nothing is lost; --fix removes it",
                    leave_out=(index,),
                )
        _check_boxes_of_one_image(context, list(unique.values()))


def _check_boxes_of_one_image(context: CheckContext, indices: list[int]) -> None:
    boxed = [index for index in indices if context.has_box[index]]
    contents = _group_indices((context.records[index].box, context.records[index].label) for index in boxed)
    different = [boxed[members[0]] for members in contents.values()]
    if different and len(boxed) < len(indices):
        context.add(
            "conflicting-boxes",
            boxed[0],
            "the image is listed with a box and without one",
            "remove the wrong row; --fix leaves out both",
            bad=indices,
        )
        return
    if len(different) < 2:
        return
    overlap = _largest_overlap(context, different)
    # a CSV row says where the one object is; other formats list objects, which may overlap
    if context.annotations.format in TABLE_FORMATS and overlap >= CONFLICT_IOU:
        rows = ", ".join(context.records[index].where for index in different[:4])
        more = ", …" if len(different) > 4 else ""
        context.add(
            "conflicting-boxes",
            different[0],
            f"{len(different)} rows disagree about one object (IoU {overlap:.2f}): {rows}{more}",
            "keep the better one; --fix leaves out all of them",
            bad=boxed,
        )
        return
    context.add(
        "several-boxes",
        different[0],
        f"{len(different)} boxes in one image; one is expected",
        "it is left out, unless --keep largest or --keep first takes one box",
    )


def _largest_overlap(context: CheckContext, indices: list[int]) -> float:
    boxes = context.boxes[indices]
    overlaps = geometry.iou(boxes[:, None], boxes[None, :])
    pairs = overlaps[np.triu_indices(len(boxes), 1)]
    return float(np.nan_to_num(pairs).max())


def _same_image(
    context: CheckContext, leaking: set[Hashable], identities: Mapping[Path, Path], *, has_splits: bool
) -> None:
    for key, indices in context.images.items():
        original = identities[key]
        if original == key or original in leaking:
            continue
        first, index = context.images[original][0], indices[0]
        equal = context.image_info[key].digest == context.image_info[original].digest
        message = f"{'the same bytes as' if equal else 'the same image, saved again, as'} {_reference(context, first)}"
        both = context.boxes[[first, index]]
        # of a copy of another size the boxes are compared as fractions
        both = both / np.tile(context.size[[first, index]], 2)
        if np.isfinite(both).all():
            overlap = float(geometry.iou(both[0], both[1]))
            if overlap < CONFLICT_IOU:
                message += f", but another box (IoU {overlap:.2f})"
        if has_splits:
            advice = "keep one of the two: the image counts twice"
        else:
            advice = "keep one of the two: the image counts twice; training keeps both in one split"
        context.add("same-bytes" if equal else "same-image", index, message, advice)


def _tiny_objects(context: CheckContext) -> None:
    size = ObjectSize.of(context.boxes, context.size)
    if size is not None and size.is_tiny:
        context.add("tiny-objects", -1, size.sentence(), size.advice())


def _similar_images(context: CheckContext, signs: Signatures) -> None:
    """The groups that training makes, and one finding about images that are probably of one scene but in none."""
    if np.isnan(signs["aspect"]).all():
        return
    first = [context.records[indices[0]] for indices in context.images.values()]
    digests = [context.image_info[key].digest for key in context.images]
    found = find_groups(
        [record.image for record in first],
        [record.group for record in first],
        [int.from_bytes(digest) if digest else None for digest in digests],
        signs,
    )
    context.auto_groups = found.sentence()
    unsure = [(one, other) for one, other in found.likely if not (first[one].group and first[other].group)]
    if unsure:
        one, other = unsure[0]
        context.add(
            "similar-images",
            -1,
            f"{len(unsure):,} {'pair of images looks' if len(unsure) == 1 else 'pairs of images look'} like one scene, "
            f"such as {first[one].image} and {first[other].image}",
            "look at them: if they belong together, give them one group, so that a split does not divide them",
        )
