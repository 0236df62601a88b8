"""Labels that an audit found suspicious, to be looked at again on the page."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from solobox.annotation.events import Answer
from solobox.boxes import Floats
from solobox.data.dataset import Dataset
from solobox.evaluation.audit.label_audit import Audit, ErrorKind


@dataclass(frozen=True, slots=True, eq=False)
class Suspect:
    """One label to look at again.

    predicted: (4,) the box of a model that was not trained on it, pixels; NaN where the model sees no object.
    why: what is suspicious, in a sentence.
    """

    predicted: Floats
    why: str


@dataclass(frozen=True, slots=True)
class Suspects:
    """All labels of a dataset, and those to look at again.

    dataset: of image files. by_row: the suspicious labels by the row of the dataset, the worst first.
    """

    dataset: Dataset
    by_row: Mapping[int, Suspect]

    @classmethod
    def of(cls, audit: Audit, dataset: Dataset) -> "Suspects":
        """The flagged labels of an audit."""
        nothing = np.full(4, np.nan)
        return cls(
            dataset,
            {
                each.row: Suspect(nothing if each.kind is ErrorKind.EMPTY else each.predicted, each.why)
                for each in audit.flagged
            },
        )

    def folder(self) -> Path:
        """The folder that all images are in; that of the first one where they are on several drives.

        Raises DataError, ``images-in-memory``, for what is no file.
        """
        folders = [str(path.absolute().parent) for path in self.dataset.paths]
        try:
            return Path(os.path.commonpath(folders))
        except ValueError:  # drives of Windows have nothing in common
            return Path(folders[0])

    def names(self) -> list[str]:
        """Each image's path relative to `folder`, with slashes; absolute for an image elsewhere."""
        folder = self.folder()
        return [
            (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
            for path in map(Path.absolute, self.dataset.paths)
        ]

    def given(self, row: int) -> Answer:
        """The label of a row."""
        box = self.dataset.boxes[row]
        label = self.dataset.label[row]
        if not np.isfinite(box).all():
            return Answer(kind="absent", source="given")
        x1, y1, x2, y2 = box.tolist()
        return Answer(kind="box", box=(x1, y1, x2, y2), label=label, source="given")

    def corrected(self, answers: Mapping[int, Answer]) -> Dataset:
        """The dataset with these answers, by row. Labels that were kept or skipped, and all other columns, stay."""
        data = self.dataset
        boxes, label, source = data.boxes.copy(), list(data.label), list(data.source)
        for row, answer in answers.items():
            if answer.kind == "skipped" or answer.source == "given":
                continue
            boxes[row] = (np.nan,) * 4 if answer.box is None else answer.box
            if answer.box is not None:
                label[row], source[row] = answer.label or label[row], answer.source
        # The same rows with other values: images, splits, groups and further columns are those of the data.
        return Dataset(
            data.images, boxes, data.split, data.group, label, source, data.extra, data.names, data.where,
            replace(data.notes),
        )  # fmt: skip
