"""Which rows train, which choose the epoch, which measure: by a hash, so that more data moves nothing.

A unit is a group of images that must not part ways, or a single image that has no group. Everything
here is a pure function of the units' names.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from solobox.errors import ConfigError, DataError


def assign(
    names: Sequence[str],
    groups: Sequence[str],
    given: Sequence[str],
    has_box: Sequence[bool],
    *,
    val: float,
    test: float,
) -> tuple[str, ...]:
    """Give each of N rows its split, ``train``, ``val`` or ``test``; `Dataset.with_splits` says by what rule.

    names, groups, given: N texts each; the group and the given split may be ``""``.
    has_box: N truth values; images without the object can fill no part alone.
    val, test: fractions, at least 0, together less than 1.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise ConfigError(f"val and test are fractions, together less than 1; not {val} and {test}")
    # The prefix keeps an image named like a group out of it.
    units = [f"g{group}" if group else f"n{name}" for group, name in zip(groups, names, strict=True)]
    positive = {unit for unit, box in zip(units, has_box, strict=True) if box}
    if any(given):
        split = _completed(units, given)
        if val > 0 and "val" not in split:
            split = _carved(units, split, positive, val)
    else:
        split = _split_by_hash(units, positive, val=val, test=test)
    if not any(box and name == "train" for box, name in zip(has_box, split, strict=True)):
        raise DataError("no image with a box has the split train: there is nothing to train on")
    return split


def _hash(unit: str, purpose: str) -> float:
    """Place a unit evenly in [0, 1), the same on every machine and in every version."""
    digest = blake2b(f"{purpose}\0{unit}".encode("utf-8", "surrogatepass"), digest_size=8, person=b"solobox")
    return (int.from_bytes(digest.digest(), "big") >> 11) / 2**53


def ranked(units: Iterable[str], purpose: str) -> dict[str, float]:
    """Order units by their hash; gives unit to hash."""
    return dict(sorted(((unit, _hash(unit, purpose)) for unit in units), key=lambda pair: (pair[1], pair[0])))


def _split_by_hash(units: Sequence[str], positive: set[str], *, val: float, test: float) -> tuple[str, ...]:
    """Split units, one for each row: the lowest hashes are test, the next val, the rest train."""
    places = ranked(set(units), "split")
    total = len(positive)
    if total < 2 and val + test > 0:
        raise DataError(_too_few(total))
    wants_val, wants_test = int(val > 0), int(test > 0 and total >= 3)
    # Units with a box are dealt out by rank: the same as by threshold unless a part would end up empty.
    tests = sum(places[unit] < test for unit in positive)
    tests = min(max(tests, wants_test), max(total - 1 - wants_val, 0))
    vals = sum(test <= places[unit] < test + val for unit in positive)
    vals = min(max(vals, wants_val), max(total - 1 - tests, 0))
    order = [unit for unit in places if unit in positive]
    of_unit = dict.fromkeys(order[:tests], "test") | dict.fromkeys(order[tests : tests + vals], "val")
    of_unit |= dict.fromkeys(order[tests + vals :], "train")
    for unit, place in places.items():
        if unit not in positive:
            of_unit[unit] = "test" if place < test else "val" if place < test + val else "train"
    return tuple(of_unit[unit] for unit in units)


def _completed(units: Sequence[str], split: Sequence[str]) -> tuple[str, ...]:
    """Give rows without a split that of the rest of their unit, or train where it has none or two."""
    homes: dict[str, set[str]] = {}
    for unit, name in zip(units, split, strict=True):
        homes.setdefault(unit, set()).update({name} - {""})
    alone = {unit: next(iter(names)) for unit, names in homes.items() if len(names) == 1}
    return tuple(name or alone.get(unit, "train") for unit, name in zip(units, split, strict=True))


def _carved(units: Sequence[str], split: Sequence[str], positive: set[str], val: float) -> tuple[str, ...]:
    """Move the units of lowest hash from train to val, `val` being a fraction of train."""
    elsewhere = {unit for unit, name in zip(units, split, strict=True) if name != "train"}
    # With another hash than the split's: where that one made the test part, all of train lies above it.
    places = ranked(set(units) - elsewhere, "val")
    order = [unit for unit in places if unit in positive]
    if len(order) < 2:
        raise DataError(f"no row is val, and {_too_few(len(order), 'train')}")
    count = min(max(sum(places[unit] < val for unit in order), 1), len(order) - 1)
    moved = {unit for unit, place in places.items() if place < val and unit not in positive} | {
        *order[:count]
    }
    return tuple("val" if unit in moved else name for unit, name in zip(units, split, strict=True))


def _too_few(count: int, where: str = "the data") -> str:
    return (
        f"{where} has {count} images with a box (a group counts as one); two are the least, "
        "one to train on and one to hold out"
    )
