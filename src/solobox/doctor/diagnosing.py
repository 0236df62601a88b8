"""`check`: all the rules, one after the other, over one set of annotations."""

from typing import Literal

from solobox.doctor.box_rules import judge_boxes
from solobox.doctor.case import Case
from solobox.doctor.findings import Diagnosis
from solobox.doctor.looks import Progress, look
from solobox.doctor.picture_rules import judge_files
from solobox.doctor.set_rules import judge_sets
from solobox.formats.records import Annotations


def check(
    annotations: Annotations,
    *,
    pictures: Literal["none", "headers", "all"] = "all",
    progress: Progress | None = None,
) -> Diagnosis:
    """Say what is wrong with labelled pictures. Reads, never writes, and raises nothing about bad data.

    pictures: ``none`` judges the numbers alone; ``headers`` opens each file for its format and size, which
        finds missing files and boxes outside their picture; ``all`` also decodes every picture and compares
        the files' bytes, which finds truncated ones and the same picture in two splits under two names.
    progress: called with (pictures looked at, of how many) after each picture.
    """
    case = Case(annotations)
    if pictures != "none":
        case.see(look(list(case.pictures), decode=pictures == "all", progress=progress))
        judge_files(case)
    judge_boxes(case)
    judge_sets(case)
    return case.diagnosis()
