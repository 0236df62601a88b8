"""The table of labelled images: one row per image, at most one box per row, checked where it is made."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.config.choices import Keep as Keep  # noqa: PLC0414 (a part of its interface)
from solobox.data import checks, formats, in_memory, splits
from solobox.data.auto_groups import groups_and_leaks
from solobox.data.checks import CheckLevel, Diagnosis
from solobox.data.formats import SPLITS, Annotations
from solobox.data.formats.parsing import NOT_A_BOX
from solobox.data.gate import Check as Check  # noqa: PLC0414 (a part of its interface)
from solobox.data.gate import box_table, check_rows, usable_records
from solobox.data.layouts import parse_layout
from solobox.data.one_per_image import ReadNotes
from solobox.data.sample import PREDICTED, Sample, record_of, row_numbers
from solobox.errors import ConfigError, DataError
from solobox.images.reading import ImageInput
from solobox.utils.progress import Progress
from solobox.utils.text import count_of

Texts: TypeAlias = tuple[str, ...]

_TEXTS = ("split", "group", "label", "source", "names", "where")
_COLUMNS = frozenset({"image", "x1", "y1", "x2", "y2", "split", "group", "label", "source", "original_image"})


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Dataset(Sequence[Sample]):
    """N labelled images, in order: a sequence of `Sample`, and the same as columns of N entries each.

    images: a path for each image, or an image in memory, see `ImageInput`.
    boxes: shape (N, 4), float64, read-only: ``x1, y1, x2, y2`` in pixels of the upright image. A row of
        four NaN is a negative: an image without the object.
    split: ``train``, ``val``, ``test``, or ``""`` where unknown.
    group: images of one group (a person, a film) always get the same split; ``""`` where unknown.
    label: the object's class. It is kept and reported, never learned. ``""`` where unknown.
    source: where a box comes from (a person, a detector); ``""`` where unknown.
    extra: the data's other columns, as text.
    names: each image as its file names it, with ``/``; ``image-000001`` for one in memory. The split by hash uses it,
        so a copy that `write` makes keeps it, in ``original_image``, as its images' paths may be others.
    where: each row's location in its file, for messages.
    notes: what happened while the data was read.

    Columns of text may be None, which means ``""`` everywhere; names are then the last parts of the paths. This
    constructor checks no more than the boxes themselves; `from_arrays` checks as `read` does.

    Raises ValueError for shapes and lengths that do not fit together; DataError: ``invalid-box`` for a box that is
    neither valid nor all NaN, ``unknown-split``.
    """

    images: tuple[ImageInput, ...]
    boxes: Floats
    split: Texts
    group: Texts
    label: Texts
    source: Texts
    extra: Mapping[str, Texts]
    names: Texts
    where: Texts
    notes: ReadNotes

    def __init__(
        self,
        images: Iterable[ImageInput],
        boxes: npt.ArrayLike,
        split: Iterable[str] | None = None,
        group: Iterable[str] | None = None,
        label: Iterable[str] | None = None,
        source: Iterable[str] | None = None,
        extra: Mapping[str, Iterable[str]] | None = None,
        names: Iterable[str] | None = None,
        where: Iterable[str] | None = None,
        notes: ReadNotes | None = None,
    ) -> None:
        sources = tuple(Path(image) if isinstance(image, str) else image for image in images)
        count = len(sources)
        table = box_table(boxes, count)
        if names is None:
            names = in_memory.short_names(sources)
        texts = dict(zip(_TEXTS, (split, group, label, source, names, where), strict=True))
        columns = {key: ("",) * count if value is None else tuple(value) for key, value in texts.items()}
        others = {key: tuple(values) for key, values in (extra or {}).items()}
        for key, values in (columns | others).items():
            if len(values) != count:
                raise ValueError(f"{count} images go with {count} entries of {key!r}, not {len(values)}")
        if not _COLUMNS.isdisjoint(others):
            raise ValueError(f"{sorted(_COLUMNS.intersection(others))} cannot be the names of extra columns")
        check_rows(table, columns["names"], columns["split"], columns["where"])
        values_of: dict[str, object] = {"images": sources, "boxes": table, "extra": others, **columns}
        values_of["notes"] = notes or ReadNotes()
        for key, value in values_of.items():
            object.__setattr__(self, key, value)

    @classmethod
    def read(
        cls,
        path: str | Path,
        images: str | Path | None = None,
        *,
        keep: Keep | None = None,
        check: Check = "headers",
        skip_bad: bool = False,
        layout: str | None = None,
        progress: Progress | None = None,
    ) -> "Dataset":
        """Read and check labelled images; the format is detected from the content.

        path: a file or folder of any format in docs/reference/formats.md: CSV, COCO, Pascal VOC, YOLO, CVAT, ...
        images: the folder that image names are relative to; by default that of the file.
        keep: of an image with several boxes, take the one of largest area or the first; by default such an
            image is left out and counted in `notes`.
        check: ``headers`` checks the boxes and opens each image for its format and size (of test images too: a box
            outside its image is found, no pixel is decoded); ``pixels`` also decodes every image; ``numbers`` opens
            no image; ``off`` refuses only what cannot be a row.
        skip_bad: leave out the rows with errors, and count them in `notes`, instead of refusing the data.
        layout: what the numbers of each box mean, such as ``xywh`` or ``xyxy-fractions`` (see
            `solobox.data.layouts.parse_layout`), where that is not what the format says; it is then not judged.

        Raises DataError: ``data-errors`` where the checks find errors, ``nothing-left`` where no row is left, and the
        codes of the readers, see `solobox.data.formats`. ConfigError for an unknown option.
        """
        annotations = formats.read(
            Path(path),
            None if images is None else Path(images),
            None if layout is None else parse_layout(layout),
        )
        return cls.from_annotations(annotations, keep=keep, check=check, skip_bad=skip_bad, progress=progress)

    @classmethod
    def from_arrays(
        cls,
        images: Iterable[ImageInput],
        boxes: Iterable[Any],
        *,
        split: Iterable[str] | None = None,
        group: Iterable[Any] | None = None,
        label: Iterable[Any] | None = None,
        check: Check = "headers",
        skip_bad: bool = False,
    ) -> "Dataset":
        """Make a dataset of N images and boxes, checked as `read` does.

        images: paths, or images in memory, see `ImageInput`.
        boxes: (N, 4), ``x1, y1, x2, y2`` in pixels of the upright image. None or four NaN in place of a box: an image
            without the object.
        split, group, label: N texts each, see `Dataset`. check, skip_bad: see `read`.

        Raises as `read`; ValueError for different lengths; TypeError for what is no image.
        """
        annotations, sources = in_memory.from_arrays(images, boxes, split=split, group=group, label=label)
        return cls.from_annotations(annotations, check=check, skip_bad=skip_bad, sources=sources)

    @classmethod
    def from_dataframe(
        cls,
        frame: in_memory.DataFrame,
        images: str | Path | None = None,
        *,
        keep: Keep | None = None,
        check: Check = "headers",
        skip_bad: bool = False,
    ) -> "Dataset":
        """Make a dataset of a pandas or polars DataFrame, checked as `read` does.

        frame: columns ``image, x1, y1, x2, y2``, perhaps ``split, group, label, source``; others are kept as text. A
            row without coordinates is an image without the object.
        images: the folder that relative paths are relative to; by default the working directory.
        keep, check, skip_bad: see `read`.

        Raises as `read`; DataError: ``missing-column``.
        """
        annotations, sources = in_memory.from_dataframe(frame, None if images is None else Path(images))
        return cls.from_annotations(annotations, keep=keep, check=check, skip_bad=skip_bad, sources=sources)

    @classmethod
    def from_annotations(
        cls,
        annotations: Annotations,
        *,
        keep: Keep | None = None,
        check: Check = "headers",
        skip_bad: bool = False,
        sources: Mapping[Path, ImageInput] | None = None,
        progress: Progress | None = None,
    ) -> "Dataset":
        """Check records and reduce them to one row for each image, in the order in which the images first appear.

        sources: the images that are no files, by `Record.path`. Otherwise as `read`.
        """
        kept, notes = usable_records(
            annotations, keep=keep, check=check, skip_bad=skip_bad, sources=sources, progress=progress
        )
        columns = dict.fromkeys(name for record in kept for name in record.extra)
        return cls(
            images=((sources or {}).get(record.path, record.path) for record in kept),
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

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Dataset": ...

    def __getitem__(self, index: int | slice) -> "Sample | Dataset":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        box = self.boxes[index]
        return Sample(
            image=self.images[index],
            box=None if math.isnan(box[0]) else box,
            label=self.label[index],
            split=self.split[index],
            group=self.group[index],
            source=self.source[index],
            name=self.names[index],
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"<Dataset: {self.summary()}>"

    @property
    def has_box(self) -> npt.NDArray[np.bool_]:
        """Whether the object is in each image, shape (N,)."""
        return ~np.isnan(self.boxes[:, 0])

    @property
    def is_predicted(self) -> npt.NDArray[np.bool_]:
        """Whether each box is a model's that nobody looked at, shape (N,): to learn from, never to measure with."""
        return self.has_box & np.array([source == PREDICTED for source in self.source], dtype=np.bool_)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The image files. Raises DataError: ``images-in-memory`` where an image is no file."""
        for image, name in zip(self.images, self.names, strict=True):
            if not isinstance(image, Path):
                raise DataError(
                    f"{name} is in memory, and a file is needed: save the images, and make the dataset of their paths",
                    code="images-in-memory",
                )
        return tuple(image for image in self.images if isinstance(image, Path))

    def same_images(self, other: "Dataset") -> bool:
        """Whether both have the same images in the same order: equal paths, and the very same images in memory."""
        return len(self) == len(other) and all(
            one is another or (isinstance(one, Path) and one == another)
            for one, another in zip(self.images, other.images, strict=True)
        )

    def positives(self) -> "Dataset":
        """Only the images with a box."""
        return self.select(self.has_box)

    def select(self, rows: npt.ArrayLike) -> "Dataset":
        """Some of the rows; the notes stay as they are.

        rows: a mask of shape (N,), or row numbers in any order.
        """
        chosen = row_numbers(rows, len(self))
        numbers = chosen.tolist()

        def pick(values: Texts) -> Texts:
            return tuple(values[index] for index in numbers)

        return Dataset(
            images=(self.images[index] for index in numbers),
            boxes=self.boxes[chosen],
            extra={name: pick(values) for name, values in self.extra.items()},
            notes=self.notes,
            **{key: pick(getattr(self, key)) for key in _TEXTS},
        )

    def of_split(self, name: str) -> "Dataset":
        """Only the rows of a split: ``train``, ``val``, ``test``, or ``""`` for those that have none.

        Those of ``val`` and ``test`` are without boxes that nobody looked at, see `is_predicted`.
        """
        if name not in {"", *SPLITS}:
            raise ConfigError(
                f"{name!r} is no split; the splits are {', '.join(SPLITS)}", code="unknown-split"
            )
        rows = np.array([split == name for split in self.split], dtype=np.bool_)
        return self.select(rows & ~self.is_predicted if name in ("val", "test") else rows)

    def write(
        self,
        path: str | Path,
        format: str = "csv",  # noqa: A002 (the field's word)
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the rows as csv, article, coco, hf or label-studio (a file), voc or yolo (a folder).

        overwrite: replace a folder that an earlier call wrote, and that holds nothing else; a file is always replaced.

        Whole or not at all; images are never moved or changed. What a format has no room for is left
        out: see its module. CSV keeps everything. `read` reads csv, coco and voc with the ``images`` that the original
        was read with, or without: the names, and so the splits, are the same.

        Raises ConfigError: ``unknown-format``; DataError: ``images-in-memory``, and where it cannot be written.
        """
        _ = self.paths  # only files can be named
        formats.write(Path(path), self.annotations().records, format, overwrite=overwrite)

    def annotations(self) -> Annotations:
        """The rows as records; `Record.path` of an image in memory is its name."""
        records = (
            record_of(
                sample,
                row,
                where or f"row {row}",
                {key: values[row - 1] for key, values in self.extra.items()},
            )
            for row, (sample, where) in enumerate(zip(self, self.where, strict=True), start=1)
        )
        notes = self.notes
        return Annotations(
            notes.path or Path("dataset"), notes.format or in_memory.FORMAT, notes.convention, tuple(records)
        )

    def check(self, level: CheckLevel = "pixels", *, progress: Progress | None = None) -> Diagnosis:
        """Find what is wrong with the images and boxes, see `solobox.data.checks.check`. Changes nothing."""
        annotations = self.annotations()
        sources = dict(zip((record.path for record in annotations.records), self.images, strict=True))
        return checks.check(annotations, level, in_memory=sources, progress=progress)

    def summary(self) -> str:
        """What the dataset holds, and what was left out, in a sentence or two."""
        boxes = int(self.has_box.sum())
        parts = [f"{count_of(len(self), 'image')}: {boxes:,} with a box, {len(self) - boxes:,} without"]
        if any(self.split):
            parts.append(
                "; " + ", ".join(f"{sum(counts):,} {name}" for name, counts in self.counts().items())
            )
        if predicted := int(self.is_predicted.sum()):
            parts.append(
                f". {count_of(predicted, 'image')} with a box of a model that nobody looked at (source {PREDICTED}), "
                "to learn from and never to measure with"
            )
        return "".join(parts) + f".{self.left_out()}"

    def counts(self) -> dict[str, tuple[int, int]]:
        """The images with and without a box in each split that has any; ``no split`` for rows without one."""
        return splits.counts(self.split, self.has_box.tolist())

    def left_out(self) -> str:
        """What reading left out or changed, in sentences that begin with a space; empty for nothing."""
        return self.notes.left_out()

    def with_auto_groups(self, progress: Progress | None = None) -> "Dataset":
        """The same rows; copies of an image, augmented copies and frames of a scene that have no group get one.

        Every image is decoded at reduced size, once: the notes remember it. Groups that the data names stay, and so do
        its splits: copies in two of them are counted in the notes.
        progress: advanced for each image, and told what was found.
        """
        if self.notes.auto_groups is not None:
            return self
        if all(self.group) and not any(self.split):
            return self.without_auto_groups()
        found, torn = groups_and_leaks(self.images, self.names, self.group, self.split, progress)
        notes = replace(self.notes, auto_groups=found.sentence(), leaked=torn)
        return replace(self, group=found.groups, notes=notes)

    def without_auto_groups(self) -> "Dataset":
        """The same rows, for which `with_auto_groups` and `with_splits` look for no copies."""
        return replace(self, notes=replace(self.notes, auto_groups=self.notes.auto_groups or ""))

    def with_splits(self, val: float = 0.1, test: float = 0.1, *, auto_group: bool = True) -> "Dataset":
        """The same rows, each with a split, by a hash of its group (of its name where it has none; a copy keeps names).

        val, test: fractions, at least 0, together less than 1.
        auto_group: first give copies of one image a group, see `with_auto_groups`.

        Where no row has a split, each group goes where its hash says, so adding images never moves others; a group with
        predicted boxes alone (`is_predicted`) goes to train. Splits that the data names are kept; a row without one
        follows the rest of its group, or else goes to train; and where no row is val, the fraction `val` of train is
        moved there by hash. Groups stay together, except those that the data itself divides.

        No requested split is left empty: when the hashes put no group with a box into val, into train, or (of three
        groups or more) into test, the closest by hash is moved there. Only in such tiny sets can another image
        change a split.

        Raises DataError: ``too-few-images`` when fewer than two groups have a box, ``no-training-images``;
        ConfigError: ``out-of-range`` for fractions that make no sense.
        """
        if auto_group and self.notes.auto_groups is None:
            return self.with_auto_groups().with_splits(val, test)
        split = splits.assign(
            self.names,
            self.group,
            self.split,
            self.has_box.tolist(),
            self.is_predicted.tolist(),
            val=val,
            test=test,
        )
        return replace(self, split=split)
