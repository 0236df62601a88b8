"""``solobox convert``: write labelled images in another annotation format."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from solobox.cli.console import Overwrite, say, say_reading
from solobox.cli.options import BoxLayout, DataPath, ImageFolder, KeepBox, SkipBad, files_of
from solobox.cli.train import read_checked
from solobox.errors import ConfigError
from solobox.utils.outputs import check_outputs

if TYPE_CHECKING:
    from solobox.data.dataset import Dataset

_NO_ROOM = {
    "csv": (),
    "article": ("split", "group", "label", "source", "extra"),
    "coco": (),
    "yolo": ("group", "source", "extra"),
    "voc": ("group", "source", "extra"),
    "hf": ("source", "extra"),
    "label-studio": ("split", "group", "extra"),
}


def convert(
    data: DataPath,
    output: Path,
    *,
    to: Annotated[str, Parameter(name="--to")],
    overwrite: Overwrite = False,
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
) -> None:
    """Write labelled images in another annotation format; images stay where they are.

    The data is checked first, as for training. The output appears whole or not at all.

    Parameters
    ----------
    output
        A file for csv, article, coco, hf and label-studio; for voc and yolo a folder, which --overwrite replaces only
        if a conversion wrote all that it holds.
    to
        csv, article, coco, hf (metadata.jsonl), label-studio (predictions to correct), voc or yolo.
    """
    say_reading(data)
    from solobox.data import formats
    from solobox.data.formats.writing import check_replaceable

    if to not in formats.WRITERS:
        raise ConfigError(
            f"--to {to}: no such format: use {', '.join(sorted(formats.WRITERS))}", code="unknown-format"
        )
    if to in formats.FOLDERS:
        check_replaceable(output, formats.FOLDERS[to], files_of(data, images), overwrite=overwrite)
    else:
        check_outputs({"output": output}, files_of(data, images), overwrite=overwrite)
    dataset = read_checked(data, images, keep, skip_bad=skip_bad, layout=layout)
    if left_out := [name for name in _NO_ROOM[to] if _has(dataset, name)]:
        say(f"{to} has no room for: {', '.join(left_out)}; left out")
    dataset.write(output, to, overwrite=overwrite)
    folder = os.path.realpath(output.parent)
    if to == "hf" and (
        output.name != "metadata.jsonl"
        or any(not path.resolve().is_relative_to(folder) for path in dataset.paths)
    ):
        say(
            "load_dataset of Hugging Face finds images only below the folder of a file of the name metadata.jsonl: "
            "write it into the folder that holds them all"
        )
    boxes = int(dataset.has_box.sum())
    say(f"{output}: {to}, {len(dataset):,} images: {boxes:,} with a box, {len(dataset) - boxes:,} without")


def _has(dataset: "Dataset", name: str) -> bool:
    return bool(dataset.extra) if name == "extra" else any(getattr(dataset, name))
