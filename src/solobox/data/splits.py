"""Train, val and test by a hash, so that adding images moves none.

A unit is a group of images that must stay together, or a single image without a group. Everything here is a pure
function of the units' names.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from solobox.data.formats import SPLITS
from solobox.errors import ConfigError, DataError


def assign(
    names: Sequence[str],
    groups: Sequence[str],
    named_splits: Sequence[str],
    has_box: Sequence[bool],
    predicted: Sequence[bool],
    *,
    val: float,
    test: float,
) -> tuple[str, ...]:
    """The split of each of N rows, ``train``, ``val`` or ``test``; `Dataset.with_splits` states the rule.

    names, groups, named_splits: N texts each; the group and the split that the data names may be ``""``.
    has_box: N truth values; images without the object cannot fill a split alone.
    predicted: N truth values: boxes of a model that nobody looked at. A unit that has no others is only trained on.
    val, test: fractions, at least 0, together less than 1.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ConfigError(
            f"val and test are fractions, together less than 1; not {val} and {test}", code="out-of-range"
        )
    # The prefix keeps an image named like a group out of it.
    units = [f"g{group}" if group else f"n{name}" for group, name in zip(groups, names, strict=True)]
    judged = [box and not guess for box, guess in zip(has_box, predicted, strict=True)]
    positive = {unit for unit, box in zip(units, judged, strict=True) if box}
    to_train = {unit for unit, guess in zip(units, predicted, strict=True) if guess} - positive
    if any(named_splits):
        split = _completed(units, named_splits)
        if val > 0 and "val" not in split:
            split = _carved(units, split, positive, to_train, val)
    else:
        split = _split_by_hash(units, positive, to_train, val=val, test=test)
    if not any(box and name == "train" for box, name in zip(has_box, split, strict=True)):
        raise DataError(
            "no image with a box has the split train: there is nothing to train on", code="no-training-images"
        )
    return split


def counts(splits: Sequence[str], has_box: Sequence[bool]) -> dict[str, tuple[int, int]]:
    """The rows with and without a box in each split that has any; ``no split`` for rows without one."""
    tally = Counter(zip(splits, has_box, strict=True))
    both = {name or "no split": (tally[name, True], tally[name, False]) for name in (*SPLITS, "")}
    return {name: count for name, count in both.items() if any(count)}


def _hash(unit: str, purpose: str) -> float:
    """A unit's hash, even in [0, 1), the same on every machine and in every version."""
    digest = blake2b(f"{purpose}\0{unit}".encode("utf-8", "surrogatepass"), digest_size=8, person=b"solobox")
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2**53


def ranked(units: Iterable[str], purpose: str) -> dict[str, float]:
    """The hash of each unit, in ascending order."""
    return dict(sorted(((unit, _hash(unit, purpose)) for unit in units), key=lambda pair: (pair[1], pair[0])))


def _split_by_hash(
    units: Sequence[str], positive: set[str], to_train: set[str], *, val: float, test: float
) -> tuple[str, ...]:
    """Split units, one for each row: the lowest hashes become test, the next val, the rest train."""
    hashes = ranked(set(units), "split")
    total = len(positive)
    if total < 2 and val + test > 0:
        raise DataError(_too_few(total), code="too-few-images")
    min_val, min_test = int(val > 0), int(test > 0 and total >= 3)
    # Units with a box are assigned by rank: the same as by threshold unless a split would be empty.
    tests = sum(hashes[unit] < test for unit in positive)
    tests = min(max(tests, min_test), max(total - 1 - min_val, 0))
    vals = sum(test <= hashes[unit] < test + val for unit in positive)
    vals = min(max(vals, min_val), max(total - 1 - tests, 0))
    order = [unit for unit in hashes if unit in positive]
    of_unit = dict.fromkeys(order[:tests], "test") | dict.fromkeys(order[tests : tests + vals], "val")
    of_unit |= dict.fromkeys(order[tests + vals :], "train")
    of_unit |= dict.fromkeys(to_train, "train")
    for unit, value in hashes.items():
        if unit not in of_unit:
            of_unit[unit] = "test" if value < test else "val" if value < test + val else "train"
    return tuple(of_unit[unit] for unit in units)


def _completed(units: Sequence[str], split: Sequence[str]) -> tuple[str, ...]:
    """Rows without a split get that of the rest of their unit, or train where it has none or two."""
    splits_of: dict[str, set[str]] = {}
    for unit, name in zip(units, split, strict=True):
        splits_of.setdefault(unit, set()).update({name} - {""})
    unique = {unit: next(iter(names)) for unit, names in splits_of.items() if len(names) == 1}
    return tuple(name or unique.get(unit, "train") for unit, name in zip(units, split, strict=True))


def _carved(
    units: Sequence[str], split: Sequence[str], positive: set[str], to_train: set[str], val: float
) -> tuple[str, ...]:
    """Move the units of lowest hash from train to val; `val` is a fraction of train."""
    in_other_splits = {unit for unit, name in zip(units, split, strict=True) if name != "train"}
    # Another hash than that of the split: where that one made the test split, all of train lies above it.
    hashes = ranked(set(units) - in_other_splits - to_train, "val")
    order = [unit for unit in hashes if unit in positive]
    if len(order) < 2:
        raise DataError(f"no row is val, and {_too_few(len(order), 'train')}", code="too-few-images")
    count = min(max(sum(hashes[unit] < val for unit in order), 1), len(order) - 1)
    moved = {unit for unit, value in hashes.items() if value < val and unit not in positive} | {
        *order[:count]
    }
    return tuple("val" if unit in moved else name for unit, name in zip(units, split, strict=True))


def _too_few(count: int, where: str = "the data") -> str:
    return (
        f"{where} has {count} images with a box that is not a model's (a group counts as one): at least two are "
        "needed, one to train on and one to hold out"
    )
