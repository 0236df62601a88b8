"""The two files of a labeling run: the boxes, and the rejected images with the reasons."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from solobox.autolabel.candidates import by_score, choose
from solobox.autolabel.run import ImageCandidates
from solobox.data.formats import csv as csv_format
from solobox.data.formats.records import Record
from solobox.data.formats.writing import relative_to
from solobox.errors import DataError
from solobox.predict.inputs import NOT_UTF8
from solobox.utils.atomic import replacing
from solobox.utils.text import CsvLines, is_utf8, printable

REJECTED_COLUMNS = ("image", "reason", "count", "candidates")


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What `write` wrote.

    out: the CSV with the boxes. rejected: the CSV with the images that got none.
    n_labelled, n_nothing, n_several, n_failed: images with a box; and of those without, the ones where nothing was
        found, the ones with several candidates, and the ones that could not be read or made the labeler fail.
    first_error: of the first image that failed, or the empty string.
    """

    out: Path
    rejected: Path
    n_labelled: int
    n_nothing: int
    n_several: int
    n_failed: int
    first_error: str


def rejected_path(out: Path) -> Path:
    """The path of the rejected images for an output: ``boxes.rejected.csv`` for ``boxes.csv``."""
    return out.with_name(f"{out.stem}.rejected.csv")


def write(
    images: Iterable[ImageCandidates], out: Path, source: str, label: str = "", *, raw: bool = False
) -> LabelReport:
    """Write each image to one of two files, in order.

    out: a CSV with ``image,x1,y1,x2,y2,(label,)source,score``: pixels of the upright image to a hundredth; names
        relative to its folder.
    source: written in each row, such as the name of the labeler. label: the class of the object, or the empty string
        for no such column. raw: as in `CsvLines`, of both files.

    ``OUT.rejected.csv`` beside it has ``image,reason,count,candidates``: the number of candidates, and all of them,
    best first, as a JSON list of ``[x1, y1, x2, y2, score]``. It always has a header. Both files appear when all is
    done, or neither; rows are not kept in memory.

    ``DataError`` where `out` is not a ``.csv`` or cannot be written.
    """
    if out.suffix.lower() != ".csv":
        raise DataError(
            f"{out}: boxes are written as CSV; use a name that ends in .csv", code="format-unknown"
        )
    rejected = rejected_path(out)
    n_labelled = n_nothing = n_several = n_failed = 0
    first_error = ""
    name_of = relative_to(out.parent)
    optional = ("label", "source") if label else ("source",)
    with (
        replacing(rejected) as file,
        # inside, so that the rejected images appear only once the boxes are there
        csv_format.writing(out, optional, ("score",), raw=raw) as add,
    ):
        writer = CsvLines(file, raw=raw)
        writer.put(REJECTED_COLUMNS)
        for row, item in enumerate(images, start=1):
            if not is_utf8(str(item.image)):
                item = ImageCandidates(item.image, error=f"{printable(str(item.image))}: {NOT_UTF8}")
            best, why = (None, item.error) if item.error else choose(item.candidates)
            if best is not None:
                n_labelled += 1
                x1, y1, x2, y2 = (round(value, 2) for value in best.box)
                add(
                    Record(
                        row, f"row {row}", str(item.image), item.image, (x1, y1, x2, y2),
                        label=label, source=source, extra={"score": f"{best.score:.4g}"},
                    )
                )  # fmt: skip
                continue
            n_failed += bool(item.error)
            n_several += bool(item.candidates)
            n_nothing += not item.error and not item.candidates
            first_error = first_error or item.error
            candidates = [[round(value, 2) for value in (*c.box, c.score)] for c in by_score(item.candidates)]
            writer.put(
                [printable(name_of(item.image)), printable(why), len(candidates), json.dumps(candidates)]
            )
    return LabelReport(out, rejected, n_labelled, n_nothing, n_several, n_failed, first_error)
