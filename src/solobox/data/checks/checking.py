"""`check`: all rules, one after the other, on one set of annotations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from solobox.data.checks.box_rules import check_boxes
from solobox.data.checks.context import CheckContext
from solobox.data.checks.diagnosis import Diagnosis
from solobox.data.checks.image_info import ImageInfo, read_image_info
from solobox.data.checks.image_rules import check_files
from solobox.data.checks.problems import check_problems, choose_images
from solobox.data.checks.set_rules import check_rows
from solobox.data.formats.records import Annotations
from solobox.data.layouts import to_pixels
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
        bytes, which finds truncated files and one image under two names. Boxes in fractions need the sizes of their
        images: of them, ``numbers`` opens the headers too.
    in_memory: images that are no files, by `Record.path`.
    progress: counts the images.
    """
    annotations = choose_images(annotations)
    context = _context(annotations, level, in_memory, progress)
    check_problems(context)
    if level != "numbers":
        check_files(context)
    check_boxes(context)
    check_rows(context)
    return context.diagnosis()


def in_pixels(
    annotations: Annotations,
    *,
    in_memory: Mapping[Path, ImageInput] | None = None,
    progress: Progress | None = None,
) -> Annotations:
    """The annotations with boxes in pixels, as the format says; no image is opened where it says pixels."""
    context = _context(annotations, "numbers", in_memory, progress)
    context.set_boxes(to_pixels(annotations.layout, context.boxes, context.size))
    return context.resolved()


def _context(
    annotations: Annotations,
    level: CheckLevel,
    in_memory: Mapping[Path, ImageInput] | None,
    progress: Progress | None,
) -> CheckContext:
    context = CheckContext(annotations, in_memory)
    if level != "numbers" or annotations.layout.unit != "pixels":
        known = {
            key: ImageInfo(annotations.headers[record.path])
            for key, record in zip(context.keys, annotations.records, strict=True)
            if level != "pixels" and record.path in annotations.headers
        }
        images = {key: context.image(key) for key in context.images if key not in known}
        read = read_image_info(images, decode_pixels=level == "pixels", progress=progress)
        context.add_image_info(known | read)
    return context
