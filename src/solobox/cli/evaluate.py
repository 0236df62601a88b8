"""``solobox evaluate``: measure a trained localizer on labelled images."""

import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import (
    Overwrite,
    bars,
    command_line,
    console,
    metrics_rows,
    metrics_table,
    out,
    say,
    say_loading,
    say_reading,
    uncertainty_lines,
)
from solobox.cli.options import BoxLayout, DataPath, ImageFolder, KeepBox, MaxPixels, SkipBad, files_of
from solobox.cli.train import read_checked
from solobox.images.pixel_limit import allow_pixels
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs

if TYPE_CHECKING:
    from solobox.evaluation.metrics import Evaluation


def evaluate(
    run: Path,
    data: DataPath,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    against: Path | None = None,
    overwrite: Overwrite = False,
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Evaluate a trained localizer: boxes, margins, presence, familiarity.

    Parameters
    ----------
    run
        The folder that `solobox train` wrote, or hf:OWNER/NAME, a model on the Hugging Face Hub.
    split
        The split to measure. If the data defines none: the images that this model was trained on (train), those that
        selected its epoch (val), and those that it has never seen (test).
    json_file
        Write the metrics to this JSON file.
    report
        Write a report to this HTML file: one self-contained page.
    against
        Another run, or hf:OWNER/NAME, to compare with on the same images: by how much, where, and whether the
        difference is significant.
    """
    allow_pixels(max_pixels)
    say_reading(data)
    runs = [run, against] if against is not None else [run]
    check_outputs(
        {"--json": json_file, "--report": report}, chain(runs, files_of(data, images)), overwrite=overwrite
    )
    dataset = read_checked(data, images, keep, skip_bad=skip_bad, layout=layout)
    say_loading(run)
    from solobox.evaluation.compare import compare
    from solobox.evaluation.evaluate import evaluate_selection, select_split
    from solobox.hub.download import local_model
    from solobox.model.localizer import Localizer

    localizer = Localizer.load(local_model(run, "folder"))
    # Both are loaded before either is measured, so that a wrong folder is reported at once.
    other = Localizer.load(local_model(against, "folder")) if against is not None else None
    selection = select_split(localizer, dataset, split)
    name, other_name = _names(run, against)
    with bars() as progress:
        evaluation = evaluate_selection(localizer, selection, split, progress=progress)
        second = evaluate_selection(other, selection, split, progress=progress) if other else None
    comparison = compare(evaluation, second, name, other_name) if second else None
    _print_notes(evaluation, int(dataset.has_box.sum()))
    if localizer.fingerprints is None:
        say(
            "this model does not tell which images it was trained on: on those the metrics are biased upwards"
        )
    if comparison is not None and comparison.leakage_warning:
        console.print(comparison.leakage_warning, style="bold", highlight=False, markup=False, soft_wrap=True)
    out.print(metrics_table(f"{split} images", metrics_rows(evaluation.metrics.to_dict())))
    for line in uncertainty_lines(evaluation):
        out.print(line, highlight=False, markup=False)
    if comparison is not None:
        out.print(comparison.sentence, highlight=False, markup=False)
    if json_file is not None:
        metrics = evaluation.to_dict()
        if comparison is not None:
            metrics["against"] = comparison.to_dict()
        with replacing(json_file) as file:
            json.dump(metrics, file, indent=2)
    if report is not None:
        from solobox.evaluation.report import RunMetadata, write_report

        write_report(
            report,
            evaluation,
            title=f"{name} on {data.name}",
            run=RunMetadata.from_localizer(localizer, name, command_line()),
            comparison=comparison,
        )
        say(f"report: {report}")


def _print_notes(evaluation: "Evaluation", labelled: int) -> None:
    """Print which images are measured: how many are unreadable, left out, or were used in training."""
    measured = evaluation.metrics.n
    if evaluation.n_unreadable:
        console.print(f"{evaluation.n_unreadable} images could not be read and count as IoU 0")
    if measured < labelled:
        console.print(f"{measured:,} of {labelled:,} labelled images are measured", highlight=False)
    if evaluation.split in ("test", "all") and evaluation.n_seen_in_training:
        advice = (
            "train again on a copy of the data without them, which `solobox check --fix` writes, or measure on others"
            if evaluation.split == "test"
            else "--split test measures on the others"
        )
        console.print(
            f"[bold]{evaluation.n_seen_in_training:,} of these {measured:,} images were used in training[/], or are "
            f"copies of such images: the metrics on them are biased upwards; {advice}",
            highlight=False,
        )


def _names(run: Path, against: Path | None) -> tuple[str, str]:
    """The names of the two runs: their folder names, or their paths if those are the same."""
    name, other = run.resolve().name, against.resolve().name if against is not None else ""
    return (name, other) if name != other else (str(run), str(against))
