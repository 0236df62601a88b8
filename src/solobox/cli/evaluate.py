"""``solobox evaluate``: how good a trained localizer is on labelled pictures."""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import as_rows, bars, command_line, console, metrics_table, out
from solobox.cli.train import read_checked
from solobox.files import replacing


def evaluate(
    run: Path,
    data: Path,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure a trained localizer.

    Parameters
    ----------
    run
        The folder that `solobox train` left.
    data
        Labelled pictures, as for training.
    split
        Which of them. Where the data does not say: those that this model was trained on, those that chose its
        epoch (val), and those that it never saw (test).
    json_file
        Write the metrics to this file.
    report
        Write a report to this HTML file: one page, readable anywhere.
    images
        The folder that picture names are relative to, instead of the file's own.
    keep
        Of a picture with several boxes take this one; without it such pictures are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    """
    samples = read_checked(data, images, keep, skip_bad=skip_bad)
    # Heavy to load: bad data is told of before.
    from solobox.evaluation.evaluate import default_name, run_facts
    from solobox.evaluation.evaluate import evaluate as measure
    from solobox.evaluation.report import write_report
    from solobox.localizer.localizer import Localizer

    localizer = Localizer.load(run)
    with bars() as progress:
        evaluation = measure(localizer, samples, split, progress=progress)
    if evaluation.n_unreadable:
        console.print(f"{evaluation.n_unreadable} pictures could not be read and count with an IoU of 0")
    measured = evaluation.metrics.n
    if measured < int(samples.has_box.sum()):
        console.print(
            f"{measured:,} of {int(samples.has_box.sum()):,} labelled pictures are measured", highlight=False
        )
    if split in ("test", "all") and evaluation.n_seen:
        console.print(
            f"[bold]{evaluation.n_seen:,} of these {measured:,} pictures were used in training[/]: figures on them "
            "flatter the model",
            highlight=False,
        )
    out.print(metrics_table(f"{split} pictures", as_rows(evaluation.metrics.to_dict())))
    if json_file is not None:
        with replacing(json_file) as file:
            json.dump(evaluation.to_dict(), file, indent=2)
    if report is not None:
        name = default_name(run)
        write_report(
            report, evaluation, title=f"{name} on {data.name}", run=run_facts(localizer, name, command_line())
        )
        console.print(f"report: {report}", highlight=False, markup=False)
