"""What the readers found, as findings; and which image a row is of, where its two names contradict each other."""

from dataclasses import replace

from solobox.data.checks.context import CheckContext
from solobox.data.formats.records import Annotations, Problem, Record
from solobox.errors import ImageError
from solobox.images.reading import probe

_MAX_NAMED = 3


def check_problems(context: CheckContext) -> None:
    """Add the findings of the reader, and count what lies among the images without labels."""
    for problem in context.annotations.problems:
        context.add_problem(problem)
    unlabelled = context.annotations.unlabelled
    if unlabelled:
        more = f" and {len(unlabelled) - _MAX_NAMED:,} more" if len(unlabelled) > _MAX_NAMED else ""
        context.add(
            "unlabelled-images",
            -1,
            f"{len(unlabelled):,} {'image has' if len(unlabelled) == 1 else 'images have'} no labels: "
            f"{', '.join(unlabelled[:_MAX_NAMED])}{more}",
            "they are left out. Where the object is absent, say so as the format does (in YOLO, an empty label file)",
        )


def choose_images(annotations: Annotations) -> Annotations:
    """The same records, each of the image that it is of where its file names two that exist.

    The recorded sizes decide, over all such records: the key by which all sizes agree, while by the other they do not.
    Where they cannot decide, each of these records is at fault (``two-images``).
    """
    rows = [index for index, record in enumerate(annotations.records) if record.other_path is not None]
    if not rows:
        return annotations
    records = list(annotations.records)
    first = [_agrees(records[row], other=False) for row in rows]
    second = [_agrees(records[row], other=True) for row in rows]
    names = f"e.g. {records[rows[0]].where} names {records[rows[0]].path.name} and {_other(records[rows[0]])}"
    if all(first) and not all(second):
        kept, word = False, "the sizes that the file records are those of the images of the first name"
    elif all(second) and not all(first):
        kept, word = True, "the sizes that the file records are those of the images of the second name"
    else:
        problems = [
            Problem(
                "two-images", records[row].where, records[row].row, records[row].image,
                f"names two images, which both exist: {records[row].path.name} and {_other(records[row])}",
                "correct one of the two names, or rename the files, so that both mean one image", row,
            )
            for row in rows
        ]  # fmt: skip
        return replace(annotations, problems=(*annotations.problems, *problems))
    if kept:
        for row in rows:
            records[row] = replace(records[row], path=records[row].other_path or records[row].path)
    told = Problem(
        "two-names", annotations.path.name, 0, "", f"{len(rows):,} rows name two images that exist; {names}: {word}",
        "look at some of them; better, correct the names",
    )  # fmt: skip
    return replace(annotations, records=tuple(records), problems=(*annotations.problems, told))


def _other(record: Record) -> str:
    return record.other_path.name if record.other_path else ""


def _agrees(record: Record, *, other: bool) -> bool:
    path = record.other_path if other else record.path
    if path is None or record.size is None:
        return False
    try:
        return probe(path).size == (round(record.size[0]), round(record.size[1]))
    except ImageError:
        return False
