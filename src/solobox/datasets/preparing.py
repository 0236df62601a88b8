"""What a set's preparation gives: rows with a box, images without one, and what was left out and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from solobox.boxes import is_valid
from solobox.data.formats import Record
from solobox.data.formats.parsing import Listings, read_text
from solobox.errors import DataError

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Prepared:
    """A set's images, sorted as they are added.

    folder: where the set was unpacked; what is left out is named relative to it.
    source: what the rows say of where their boxes come from.
    records: images with a box, in the order they were added; one row for each box.
    unlabelled: images for which the set gives no box. In a table of boxes they would count as images
        without the object, which nobody has said, so they are kept apart.
    left_out: an image or a file of annotations, and the reason.
    """

    folder: Path
    source: str
    records: list[Record] = field(default_factory=list)
    unlabelled: list[Record] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    _listings: Listings = field(default_factory=Listings)

    def add(
        self,
        image: Path,
        box: Box | None,
        *,
        where: str,
        text: str = "",
        label: str = "",
        split: str = "",
        group: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Sort an image in. The box is ``x1, y1, x2, y2`` in continuous pixels; see `Record` for the rest."""
        if not self._listings.has(image):
            self.leave_out(image, f"{where}: the image is not in the archive")
            return
        # The source is that of the box: where there is none, there is nothing to say.
        record = Record(
            row=len(self.records) + 1, where=where, image=image.name, path=image, box=box, text=text,
            label=label, split=split, group=group, source="" if box is None else self.source, extra=extra or {},
        )  # fmt: skip
        if box is None:
            self.unlabelled.append(record)
        elif not is_valid(np.asarray(box)):
            self.leave_out(image, f"{where}: the box cannot be used: {text or box}")
        else:
            self.records.append(record)

    def leave_out(self, place: Path, reason: str) -> None:
        """Note that an image, or a line about it, could not be used."""
        self.left_out.append((place.relative_to(self.folder).as_posix(), reason))


def numbered(path: Path) -> dict[str, str]:
    """Read a text file of lines ``number rest``; ``DataError`` where a number comes twice or alone."""
    table: dict[str, str] = {}
    for row, line in enumerate(read_text(path).splitlines(), start=1):
        key, _, rest = line.strip().partition(" ")
        if not key:
            continue
        if not rest.strip() or key in table:
            raise DataError(f"{path.name}, row {row}: {line!r} is no number that is new and its value")
        table[key] = rest.strip()
    return table
