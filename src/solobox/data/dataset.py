"""The table of labelled images: one row an image, one box at most a row, checked where it is made."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats, area, is_valid
from solobox.data import formats, splits
from solobox.data.formats import SPLITS, Annotations, Record
from solobox.data.formats.parsing import NOT_A_BOX
from solobox.data.formats.writing import plain
from solobox.errors import ConfigError, DataError

Keep: TypeAlias = Literal["largest", "first"]
Texts: TypeAlias = tuple[str, ...]

_TEXTS = ("split", "group", "label", "source", "names", "where")
_COLUMNS = frozenset({"image", "x1", "y1", "x2", "y2", "split", "group", "label", "source"})
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a data set did; all counts are of the whole set as it was read.

    path: the file or folder, None for samples that were not read.
    format, convention: as in `Annotations`.
    images, positives, negatives: rows kept, and of these the ones with and without a box.
    chosen: images with several boxes of which one was kept.
    several: names of images with several boxes that were left out.
    duplicates: rows that only repeated another and were dropped.
    bad: the rows that were left out as unusable, each with its place and the reason.
    """

    path: Path | None = None
    format: str = ""
    convention: str = ""
    images: int = 0
    positives: int = 0
    negatives: int = 0
    chosen: int = 0
    several: Texts = ()
    duplicates: int = 0
    bad: Texts = ()


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Dataset:
    """Labelled images, N of them, in order; every sequence has N entries.

    images: where each image is.
    boxes: shape (N, 4), float64, read-only: ``x1, y1, x2, y2`` in pixels of the upright image. A row of
        four NaN is a negative: an image without the object.
    split: ``train``, ``val``, ``test``, or ``""`` where unknown.
    group: images of one group (a person, a film) never part ways in a split; ``""`` where unknown.
    label: the object's class; it is kept and reported by, never learnt. ``""`` where unknown.
    source: where a box comes from (a person, a detector); ``""`` where unknown.
    extra: the data's other columns, as text.
    names: each image as its file names it, with ``/``: the key of the split by hash.
    where: each row's place in its file, for messages.
    notes: what reading did.

    Texts may be given as None, which stands for all ``""``; names are then the last parts of the paths.
    ``ValueError`` for shapes and lengths that do not fit together, ``DataError`` for a box that is neither
    valid nor all NaN, and for an unknown split.
    """

    images: tuple[Path, ...]
    boxes: Floats
    split: Texts
    group: Texts
    label: Texts
    source: Texts
    extra: Mapping[str, Texts]
    names: Texts
    where: Texts
    notes: Reading

    def __init__(
        self,
        images: Iterable[str | Path],
        boxes: npt.ArrayLike,
        split: Iterable[str] | None = None,
        group: Iterable[str] | None = None,
        label: Iterable[str] | None = None,
        source: Iterable[str] | None = None,
        extra: Mapping[str, Iterable[str]] | None = None,
        names: Iterable[str] | None = None,
        where: Iterable[str] | None = None,
        notes: Reading | None = None,
    ) -> None:
        paths = tuple(image if isinstance(image, Path) else Path(image) for image in images)
        count = len(paths)
        table = np.array(boxes, dtype=np.float64)  # a copy: what is checked here must not change later
        if count == 0 and table.size == 0:
            table = table.reshape(0, 4)
        if table.shape != (count, 4):
            raise ValueError(f"{count} images go with boxes of shape ({count}, 4), not {table.shape}")
        table.flags.writeable = False
        if names is None:
            names = (path.name for path in paths)
        texts = dict(zip(_TEXTS, (split, group, label, source, names, where), strict=True))
        columns = {key: ("",) * count if value is None else tuple(value) for key, value in texts.items()}
        others = {key: tuple(values) for key, values in (extra or {}).items()}
        for key, values in (columns | others).items():
            if len(values) != count:
                raise ValueError(f"{count} images go with {count} entries of {key!r}, not {len(values)}")
        if not _COLUMNS.isdisjoint(others):
            raise ValueError(f"{sorted(_COLUMNS.intersection(others))} cannot be the names of extra columns")
        _check(paths, table, columns["split"], columns["where"])
        values_of = {"images": paths, "boxes": table, "extra": others, "notes": notes or Reading(), **columns}
        for key, value in values_of.items():
            object.__setattr__(self, key, value)

    @classmethod
    def read(
        cls,
        data: str | Path,
        *,
        images: str | Path | None = None,
        keep: Keep | None = None,
        skip_bad: bool = False,
    ) -> "Dataset":
        """Read labelled images; the format is found out by looking.

        data: a CSV, a COCO JSON, a YOLO ``data.yaml``, or a folder of Pascal VOC XML, of COCO files or with a
            ``data.yaml``.
        images: the folder that names of images are relative to; by default that of `data`.
        keep: of an image with several boxes, take the one of largest area or the first; by default such an
            image is left out and counted in `notes`.
        skip_bad: leave rows that cannot be used out, and count them, rather than refuse the data.

        ``DataError`` where nothing can be read, where rows cannot be used, or where nothing is left.
        """
        annotations = formats.read(Path(data), None if images is None else Path(images))
        return cls.from_annotations(annotations, keep=keep, skip_bad=skip_bad)

    @classmethod
    def from_annotations(
        cls, annotations: Annotations, *, keep: Keep | None = None, skip_bad: bool = False
    ) -> "Dataset":
        """Bring records to one row an image, in the order in which the images first appear; see `read`.

        Records of one image with the same box and label are duplicates, of which one stays.
        """
        if keep not in {None, "largest", "first"}:
            raise ConfigError(f"keep is 'largest' or 'first', not {keep!r}")
        kept, notes = _one_for_each_image(annotations, keep)
        if notes.bad and not skip_bad:
            raise DataError(_unusable(annotations.path, notes.bad))
        if not kept:
            raise DataError(_nothing_left(notes))
        columns = dict.fromkeys(name for record in kept for name in record.extra)
        return cls(
            images=(record.path for record in kept),
            boxes=[record.box or NOT_A_BOX for record in kept],
            split=(record.split for record in kept),
            group=(record.group for record in kept),
            label=(record.label for record in kept),
            source=(record.source for record in kept),
            extra={name: tuple(record.extra.get(name, "") for record in kept) for name in columns},
            names=(record.image for record in kept),
            where=(record.where for record in kept),
            notes=notes,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<Samples: {self.summary()}>"

    @property
    def has_box(self) -> npt.NDArray[np.bool_]:
        """Whether the object is in each image, shape (N,)."""
        return ~np.isnan(self.boxes[:, 0])

    def positives(self) -> "Dataset":
        """Only the images with a box."""
        return self.select(self.has_box)

    def select(self, rows: npt.ArrayLike) -> "Dataset":
        """Take some of the rows; the notes stay as they are.

        rows: a mask of shape (N,), or row numbers in the order wanted.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ValueError(f"a mask of {len(self)} rows has shape ({len(self)},), not {chosen.shape}")
            chosen = np.flatnonzero(chosen)
        elif chosen.size == 0:
            chosen = np.zeros(0, dtype=np.intp)
        elif chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(f"rows are a mask or row numbers, not {chosen.dtype} of shape {chosen.shape}")
        at = chosen.tolist()

        def pick(values: Texts) -> Texts:
            return tuple(values[index] for index in at)

        return Dataset(
            images=(self.images[index] for index in at),
            boxes=self.boxes[chosen],
            extra={name: pick(values) for name, values in self.extra.items()},
            notes=self.notes,
            **{key: pick(getattr(self, key)) for key in _TEXTS},
        )

    def of_split(self, name: str) -> "Dataset":
        """Only the rows of a split: ``train``, ``val``, ``test``, or ``""`` for those that have none."""
        if name not in {"", *SPLITS}:
            raise ConfigError(f"{name!r} is no split; the splits are {', '.join(SPLITS)}")
        return self.select(np.array([split == name for split in self.split], dtype=np.bool_))

    def write(self, path: str | Path, format: str = "csv") -> None:  # noqa: A002 (the field's word)
        """Write the rows as ``csv``, ``article`` or ``coco`` (a file), ``voc`` or ``yolo`` (a new folder).

        All of it or nothing; images are never moved or changed. What a format has no room for is left
        out: see its module. CSV keeps everything. ``ConfigError`` for an unknown format, ``DataError``
        where it cannot be written.
        """
        texts = zip(
            self.images, self.names, self.where, self.split, self.group, self.label, self.source, strict=True
        )
        records = []
        for index, (image, name, where, split, group, label, source) in enumerate(texts):
            x1, y1, x2, y2 = self.boxes[index].tolist()
            records.append(
                Record(
                    row=index + 1,
                    where=where or f"row {index + 1}",
                    image=name,
                    path=image,
                    box=None if math.isnan(x1) else (x1, y1, x2, y2),
                    split=split,
                    group=group,
                    label=label,
                    source=source,
                    extra={key: values[index] for key, values in self.extra.items()},
                )
            )
        formats.write(Path(path), records, format)

    def summary(self) -> str:
        """Say in a sentence or two what is here and what was left out."""
        boxes = int(self.has_box.sum())
        parts = [f"{_count(len(self), 'image')}: {boxes:,} with a box, {len(self) - boxes:,} without"]
        if any(self.split):
            counts = [(name or "no split", self.split.count(name)) for name in (*SPLITS, "")]
            parts.append("; " + ", ".join(f"{count:,} {name}" for name, count in counts if count))
        notes = self.notes
        if notes.chosen:
            parts.append(f". One box was kept of each of {_count(notes.chosen, 'image')} with several")
        if notes.several:
            parts.append(f". Left out: {_count(len(notes.several), 'image')} with several boxes")
        if notes.duplicates:
            parts.append(f". Dropped: {_count(notes.duplicates, 'duplicate row')}")
        if notes.bad:
            parts.append(f". Left out: {_count(len(notes.bad), 'bad row')}")
        return "".join(parts) + "."

    def with_splits(self, val: float = 0.1, test: float = 0.1) -> "Dataset":
        """Give every row a split, by a hash of its group (of its name where it has none).

        val, test: fractions, at least 0, together less than 1.

        Where no row has a split, each group goes where its hash says, so that adding images never moves
        others. Where the data gives splits they are kept; a row without one goes where the rest of its
        group is, else to train; and where no row is val, it is carved from train by hash, `val` being the
        fraction of train. Whole groups stay together, but for those that the data itself parts.

        What is asked for is never left empty: when the hashes alone put no group with a box into val, into
        train, or (of three groups or more) into test, the nearest by hash is moved there. Only in such tiny
        sets can another image change a split. ``DataError`` when fewer than two groups have a box,
        ``ConfigError`` for fractions that make no sense.
        """
        split = splits.assign(self.names, self.group, self.split, self.has_box.tolist(), val=val, test=test)
        return replace(self, split=split)


def _check(images: Sequence[Path], boxes: Floats, split: Texts, where: Texts) -> None:
    bad = np.flatnonzero(~(is_valid(boxes) | np.isnan(boxes).all(axis=-1))).tolist()
    if bad:
        rows = [
            f"{where[row] or f'row {row + 1}'}: {images[row]}: {_why(boxes[row].tolist())}" for row in bad
        ]
        raise DataError(f"{_count(len(rows), 'row')} cannot be used:{_listed(rows)}")
    unknown = sorted(set(split) - {"", *SPLITS})
    if unknown:
        raise DataError(f"the split {unknown[0]!r} is unknown; the splits are {', '.join(SPLITS)}")


def _one_for_each_image(annotations: Annotations, keep: Keep | None) -> tuple[list[Record], Reading]:
    """Choose one record for each image that can be used, and say what became of the others."""
    records = annotations.records
    table = np.array([record.box or NOT_A_BOX for record in records], dtype=np.float64).reshape(-1, 4)
    usable = [ok or record.box is None for ok, record in zip(is_valid(table).tolist(), records, strict=True)]
    firsts: dict[str, int] = {}
    repeated: dict[int, list[int]] = {}
    for row, record in enumerate(records):
        first = firsts.setdefault(str(record.path), row)
        if first != row:
            repeated.setdefault(first, [first]).append(row)
    kept: list[Record] = []
    bad = {
        row: _why(record.box, record.text)
        for row, record in enumerate(records)
        if record.box and not usable[row]
    }
    several: list[str] = []
    chosen = duplicates = 0
    for first in firsts.values():
        rows = [row for row in repeated.get(first, (first,)) if usable[row]]
        mine = [records[row] for row in rows]
        if len(mine) > 1:
            contradiction = _contradiction(mine)
            if contradiction:
                bad[rows[0]] = contradiction
                continue
            boxes = {(record.box, record.label): record for record in reversed(mine)}
            duplicates += len(mine) - len(boxes)
            if len(boxes) > 1 and keep is None:
                several.append(mine[0].image)
                continue
            chosen += len(boxes) > 1
            mine = [_joined(mine, largest=keep == "largest")]
        kept.extend(mine)
    positives = sum(record.box is not None for record in kept)
    notes = Reading(
        path=annotations.path,
        format=annotations.format,
        convention=annotations.convention,
        images=len(kept),
        positives=positives,
        negatives=len(kept) - positives,
        chosen=chosen,
        several=tuple(several),
        duplicates=duplicates,
        bad=tuple(f"{records[row].where}: {records[row].image}: {bad[row]}" for row in sorted(bad)),
    )
    return kept, notes


def _contradiction(records: Sequence[Record]) -> str:
    """Say what the records of one image disagree on that no rule can settle, or nothing."""
    splits = sorted({record.split for record in records} - {""})
    if len(splits) > 1:
        return f"the image is in the splits {' and '.join(splits)}"
    without = [record.where for record in records if record.box is None]
    if without and len(without) < len(records):
        return f"the image is listed with a box and without one ({without[0]})"
    return ""


def _joined(records: Sequence[Record], *, largest: bool) -> Record:
    """Take the first or the largest record of an image, with the split and group that any of them gives."""
    best = max(records, key=lambda record: float(area(record.box or (0, 0, 0, 0)))) if largest else records[0]
    split = next((record.split for record in records if record.split), "")
    group = best.group or next((record.group for record in records if record.group), "")
    return replace(best, split=split, group=group)


def _why(box: Sequence[float], text: str = "") -> str:
    """Say why a box is not valid; `text` is how the file wrote it."""
    x1, y1, x2, y2 = box
    shown = text or ", ".join(map(plain, box))
    if not all(map(math.isfinite, box)):
        return f"the box is not four numbers: {shown}"
    wrong = [words for words, is_so in (("x2 <= x1", x2 <= x1), ("y2 <= y1", y2 <= y1)) if is_so]
    return f"{' and '.join(wrong)} in the box {shown}"


def _unusable(path: Path, bad: Sequence[str]) -> str:
    return (
        f"{path}: {_count(len(bad), 'row')} cannot be used:{_listed(bad)}\n"
        f"`solobox check {path}` explains every one; --skip-bad (skip_bad=True) leaves them out."
    )


def _nothing_left(notes: Reading) -> str:
    reasons = []
    if notes.several:
        reasons.append(f"{_count(len(notes.several), 'image')} with several boxes (keep takes one of them)")
    if notes.bad:
        reasons.append(f"{_count(len(notes.bad), 'bad row')}:{_listed(notes.bad)}")
    return f"{notes.path}: no image is left to use: {', '.join(reasons) or 'it lists none'}"


def _listed(rows: Sequence[str]) -> str:
    more = f"\n  and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return "".join(f"\n  {row}" for row in rows[:_SHOWN]) + more


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
