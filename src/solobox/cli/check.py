"""``solobox check``: find errors in labelled images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from solobox.cli.console import Overwrite, Raw, bars, out, say, say_reading
from solobox.cli.options import BoxLayout, DataPath, ImageFolder, MaxPixels
from solobox.errors import DataError
from solobox.images.pixel_limit import allow_pixels
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs

if TYPE_CHECKING:
    from solobox.data.checks import Diagnosis


def check(
    data: DataPath,
    *,
    images: ImageFolder = None,
    layout: BoxLayout = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    fix: Path | None = None,
    overwrite: Overwrite = False,
    raw: Raw = False,
    max_pixels: MaxPixels = None,
) -> int:
    """Check labelled images for errors; the data is not changed.

    The exit status is 1 if there are errors or training would refuse the data, else 0; warnings do not count.

    Parameters
    ----------
    json_file
        Write all findings to this JSON file.
    fix
        Write a corrected copy to this CSV, and beside it a list of what was left out or changed and why. The copy is
        read with the same --images, or without.
    """
    say_reading(data)
    from solobox.data import checks, formats
    from solobox.data.layouts import parse_layout

    left_out = fix and checks.left_out_path(fix)
    allow_pixels(max_pixels)
    annotations = formats.read(data, images, parse_layout(layout) if layout else None)
    outputs = {"--json": json_file, "--fix": fix, "the list beside --fix": left_out}
    check_outputs(outputs, formats.files(annotations), overwrite=overwrite)
    with bars() as progress:
        diagnosis = checks.check(annotations, progress=progress)
    out.print(diagnosis.table())
    errors, warnings = len(diagnosis.errors), len(diagnosis.warnings)
    out.print(_counts_table(diagnosis))
    say(f"{data}: {annotations.format}, {annotations.convention}; {errors} errors, {warnings} warnings")
    if diagnosis.object_size is not None:
        say(diagnosis.object_size.sentence())
    if diagnosis.auto_groups:
        say(diagnosis.auto_groups)
    refusal = None if errors else _refusal(diagnosis)
    if refusal:
        say(f"training would refuse this: {refusal}")
    if json_file is not None:
        with replacing(json_file) as file:
            json.dump(diagnosis.to_json(), file, indent=2)
    if fix is not None:
        report = checks.fix(diagnosis, fix, raw=raw)
        say(
            f"{report.out}: {report.n_kept:,} rows, of which {report.n_changed:,} changed; "
            f"{report.n_left_out:,} left out, see {report.left_out}"
        )
    return 1 if errors or refusal else 0


def _counts_table(diagnosis: "Diagnosis") -> Table:
    names = ("", "images", "with a box", "without", "several boxes")
    table = Table(title="images listed", title_justify="left", title_style="")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for name, count in diagnosis.counts().items():
        table.add_row(name, *(f"{number:,}" for number in count))
    if diagnosis.annotations.unlabelled:
        table.add_row("without labels", f"{len(diagnosis.annotations.unlabelled):,}", "", "", "")
    return table


def _refusal(diagnosis: "Diagnosis") -> str:
    """Why training would refuse data without errors, or an empty text."""
    from solobox.data.dataset import Dataset

    try:
        dataset = Dataset.from_annotations(diagnosis.annotations, check="off")
        split = dataset.without_auto_groups().with_splits()
    except DataError as error:
        return str(error)
    missing = [name for name in ("train", "val") if not split.of_split(name).has_box.any()]
    return f"no image with a box has the split {missing[0]}" if missing else ""
