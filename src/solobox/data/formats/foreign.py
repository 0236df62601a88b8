"""Formats that are recognized and not read: what each is, and what to export from its program instead."""

import re
from collections.abc import Callable
from pathlib import Path

from solobox.data.formats.json_reading import Outline, outline
from solobox.data.formats.parsing import head, sorted_files

_KITTI = re.compile(r"[A-Za-z_]+( -?\d+(\.\d+)?){14,15}")
_SAMPLED_FILES = 20


def describe(path: Path) -> str:
    """What a file, or a folder of such files, is, and what to do; the empty text for what is not recognized."""
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        return ""
    for pattern in (
        "*",
        "ann/*.json",
        "*/ann/*.json",
        "annotations/*.json",
        "label_2/*.txt",
        "*/label_2/*.txt",
    ):
        for file in sorted_files(path, pattern)[:_SAMPLED_FILES]:
            if file.is_file() and (found := _of_file(file)):
                return f"{found} (found in {file.relative_to(path).as_posix()})"
    return ""


def _of_file(path: Path) -> str:
    name = path.name.lower()
    if name.endswith((".tfrecord", ".tfrecords", ".record")) or ".tfrecord-" in name:
        return "TensorFlow's records: export COCO or Pascal VOC from the program that made them"
    try:
        with path.open("rb") as file:
            magic = file.read(6)
    except OSError:
        return ""
    if magic[:4] == b"PAR1" or magic == b"ARROW1" or name.endswith(".arrow"):
        return (
            "a Parquet or Arrow file, as of Hugging Face: save the images in a folder, with a metadata.jsonl of "
            "file_name and objects.bbox, and give that"
        )
    found = outline(path)
    if found.start:
        return next((text for fits, text in _JSON if fits(found)), "")
    if name.endswith((".csv", ".txt", "")):
        lines = head(path, 4096).splitlines()
        first = lines[0].strip() if lines else ""
        if {"ImageId", "EncodedPixels"} <= set(re.split(r"[,;\t]", first)):
            return (
                "a table of run-length encoded masks, as of Kaggle: draw them as masks, images/ beside masks/, and "
                "give that folder"
            )
        if name.endswith(".txt") and _KITTI.fullmatch(first):
            return (
                "KITTI's labels: convert them to a CSV of image,x1,y1,x2,y2 (columns 5 to 8 are the corners)"
            )
    return ""


_JSON: tuple[tuple[Callable[[Outline], bool], str], ...] = (
    (
        lambda keys: keys.has("source-ref"),
        "a manifest of SageMaker Ground Truth: convert it to a CSV of image,left,top,width,height",
    ),
    (
        lambda keys: keys.has("data_row", "projects"),
        "Labelbox's NDJSON: export COCO from there (labelbox's converter), or a CSV of image,x1,y1,x2,y2",
    ),
    (
        lambda keys: (
            keys.has("size", "objects") and keys.has_any("classTitle", "classId", "geometryType", depth=2)
        ),
        "Supervisely's JSON: export COCO from there (the app Export to COCO)",
    ),
    (
        lambda keys: keys.has("size", "objects", "tags") or keys.has("classes", "tags", "projectType"),
        "Supervisely's JSON: export COCO from there (the app Export to COCO)",
    ),
    (
        lambda keys: keys.start == "{" and keys.has("categories", "items"),
        "Datumaro's JSON: convert it with datum convert -f coco, or export COCO from CVAT",
    ),
    (
        lambda keys: keys.has("item", "annotations") and keys.start == "{",
        "V7 Darwin's JSON: export COCO from there",
    ),
    (
        lambda keys: keys.has("annotations") and keys.has_any("itemId", "itemMetadata"),
        "Dataloop's JSON: export COCO from there (dl.Converter, to coco)",
    ),
    (
        lambda keys: keys.has("task_id") and keys.has_any("response", "params", "attachmentS3Downloads"),
        "Scale's JSON: convert it to a CSV of image,left,top,width,height",
    ),
    (
        lambda keys: keys.has("name", "labels") and keys.has_any("box2d", "poly2d", depth=2),
        "BDD100K's JSON: convert it with bdd100k.label.to_coco, and give the COCO file",
    ),
    (
        lambda keys: keys.has("token", "bbox", "sample_data_token"),
        "nuImages: convert it to COCO (the nuimages converter of mmdetection3d), and give the COCO file",
    ),
)
