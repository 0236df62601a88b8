"""The two files that labeling leaves: boxes, and what was rejected and why."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from solobox.autolabel.candidates import by_score, choose
from solobox.autolabel.running import Found
from solobox.data.formats import csv as csv_format
from solobox.data.formats.records import Record
from solobox.data.formats.writing import relative_to
from solobox.errors import DataError
from solobox.utils.atomic import CsvLines, replacing

REJECTED_COLUMNS = ("image", "reason", "count", "candidates")


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What `write` wrote.

    out: the CSV of boxes. rejected: the CSV beside it of the images that got none.
    n_labelled, n_nothing, n_several, n_failed: images with a box; and of those without, the ones where nothing
        was found, the ones with several candidates, and the ones that could not be read or looked at.
    first_error: what was wrong with the first of the last, or the empty string.
    """

    out: Path
    rejected: Path
    n_labelled: int
    n_nothing: int
    n_several: int
    n_failed: int
    first_error: str


def rejected_beside(out: Path) -> Path:
    """The file that stands beside `out`."""
    return out.with_name(f"{out.stem}.rejected.csv")


def write(found: Iterable[Found], out: Path, source: str, label: str = "") -> LabelReport:
    """Write each image to one of two files, in the order given.

    out: a CSV with ``image,x1,y1,x2,y2,(label,)source,score``: pixels of the upright image to a hundredth;
        names relative to its folder.
    source: written in each row, such as the labeler's name. label: the object's class, or the empty string for
        no such column.

    ``OUT.rejected.csv`` beside it has ``image,reason,count,candidates``: how many candidates there were, and all
    of them, the surest first, as a JSON list of ``[x1, y1, x2, y2, score]``. It holds its header alone when every
    image got a box. Both files appear when all is done, or neither; rows are not kept in memory.

    ``DataError`` where `out` is not a ``.csv`` or cannot be written.
    """
    if out.suffix.lower() != ".csv":
        raise DataError(f"{out}: boxes are written as CSV; give the file a name that ends in .csv")
    rejected = rejected_beside(out)
    counts = {"labelled": 0, "nothing": 0, "several": 0, "failed": 0}
    first_error = ""
    name_of = relative_to(out.parent)
    optional = ("label", "source") if label else ("source",)
    with (
        replacing(rejected) as file,
        # inside, so that what was rejected appears only once the boxes are there
        csv_format.writing(out, optional, ("score",)) as add,
    ):
        writer = CsvLines(file)
        writer.put(REJECTED_COLUMNS)
        for row, each in enumerate(found, start=1):
            chosen, reason = (None, each.error) if each.error else choose(each.candidates)
            if chosen is not None:
                counts["labelled"] += 1
                x1, y1, x2, y2 = (round(value, 2) for value in chosen.box)
                add(
                    Record(
                        row, f"row {row}", str(each.image), each.image, (x1, y1, x2, y2),
                        label=label, source=source, extra={"score": f"{chosen.score:.4g}"},
                    )
                )  # fmt: skip
                continue
            counts["failed" if each.error else "several" if each.candidates else "nothing"] += 1
            first_error = first_error or each.error
            listed = [
                [round(value, 2) for value in (*candidate.box, candidate.score)]
                for candidate in by_score(each.candidates)
            ]
            writer.put([name_of(each.image), reason, len(listed), json.dumps(listed)])
    return LabelReport(
        out,
        rejected,
        counts["labelled"],
        counts["nothing"],
        counts["several"],
        counts["failed"],
        first_error,
    )
