"""``solobox check``: find errors in labelled images."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from solobox.cli.console import Overwrite, Raw, bars, out, say
from solobox.cli.options import DataPath, ImageFolder, MaxPixels
from solobox.data import checks, formats
from solobox.images.reading import allow_pixels
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs


def check(
    data: DataPath,
    *,
    images: ImageFolder = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    fix: Path | None = None,
    overwrite: Overwrite = False,
    raw: Raw = False,
    max_pixels: MaxPixels = None,
) -> int:
    """Check labelled images for errors; the data is not changed.

    The exit status is 1 if there are errors, else 0; warnings do not count.

    Parameters
    ----------
    json_file
        Write all findings to this JSON file.
    fix
        Write a corrected copy to this CSV, and beside it a list of what was left out or changed and why. The copy is
        read with the same --images, or without.
    """
    left_out = fix and checks.left_out_path(fix)
    allow_pixels(max_pixels)
    annotations = formats.read(data, images)
    outputs = {"--json": json_file, "--fix": fix, "the list beside --fix": left_out}
    check_outputs(outputs, formats.files(annotations), overwrite=overwrite)
    with bars() as progress:
        diagnosis = checks.check(annotations, progress=progress)
    out.print(diagnosis.table())
    errors, warnings = len(diagnosis.errors), len(diagnosis.warnings)
    say(
        f"{data}: {annotations.format}, {annotations.convention}; {diagnosis.n_images:,} images, "
        f"{diagnosis.n_records:,} rows; {errors} errors, {warnings} warnings"
    )
    if diagnosis.object_size is not None:
        say(diagnosis.object_size.sentence())
    if json_file is not None:
        with replacing(json_file) as file:
            json.dump(diagnosis.to_json(), file, indent=2)
    if fix is not None:
        report = checks.fix(diagnosis, fix, raw=raw)
        say(
            f"{report.out}: {report.n_kept:,} rows, of which {report.n_changed:,} changed; "
            f"{report.n_left_out:,} left out, see {report.left_out}"
        )
    return 1 if errors else 0
