"""`check`: all the rules, one after the other, over one set of annotations."""

from typing import Literal

from solobox.data.checks.box_rules import judge_boxes
from solobox.data.checks.context import Case
from solobox.data.checks.findings import Diagnosis
from solobox.data.checks.image_info import Progress, look
from solobox.data.checks.image_rules import judge_files
from solobox.data.checks.set_rules import judge_sets
from solobox.data.formats.records import Annotations


def check(
    annotations: Annotations,
    *,
    images: Literal["none", "headers", "all"] = "all",
    progress: Progress | None = None,
) -> Diagnosis:
    """Say what is wrong with labelled images. Reads, never writes, and raises nothing about bad data.

    images: ``none`` judges the numbers alone; ``headers`` opens each file for its format and size, which
        finds missing files and boxes outside their image; ``all`` also decodes every image and compares
        the files' bytes, which finds truncated ones and the same image in two splits under two names.
    progress: called with (images looked at, of how many) after each image.
    """
    case = Case(annotations)
    if images != "none":
        case.see(look(list(case.images), decode=images == "all", progress=progress))
        judge_files(case)
    judge_boxes(case)
    judge_sets(case)
    return case.diagnosis()
