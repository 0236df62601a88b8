"""`check`: all rules, one after the other, on one set of annotations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from solobox.data.checks.box_rules import check_boxes
from solobox.data.checks.context import CheckContext
from solobox.data.checks.diagnosis import Diagnosis
from solobox.data.checks.image_info import read_image_info
from solobox.data.checks.image_rules import check_files
from solobox.data.checks.set_rules import check_rows
from solobox.data.formats.records import Annotations
from solobox.images.reading import ImageInput
from solobox.utils.progress import Progress

CheckLevel: TypeAlias = Literal["numbers", "headers", "pixels"]


def check(
    annotations: Annotations,
    level: CheckLevel = "pixels",
    *,
    in_memory: Mapping[Path, ImageInput] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find what is wrong with labelled images. Writes nothing, and raises nothing about bad data.

    level: ``numbers`` checks the boxes alone; ``headers`` also opens each file for its format and size, which finds
        missing files and boxes outside their image; ``pixels`` also decodes every image and compares the files'
        bytes, which finds truncated files and one image under two names.
    in_memory: images that are no files, by `Record.path`.
    progress: advanced once for each image.
    """
    context = CheckContext(annotations)
    if level != "numbers":
        images = {key: (in_memory or {}).get(key, key) for key in context.images}
        context.add_image_info(read_image_info(images, decode_pixels=level == "pixels", progress=progress))
        check_files(context)
    check_boxes(context)
    check_rows(context)
    return context.diagnosis()
