"""``solobox evaluate``: how good a trained localizer is on labelled images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from solobox.cli.console import as_rows, bars, command_line, console, metrics_table, out, trust_lines
from solobox.cli.train import read_checked
from solobox.utils.atomic import replacing

if TYPE_CHECKING:
    from solobox.evaluation.metrics import Evaluation


def evaluate(
    run: Path,
    data: Path,
    *,
    split: Literal["test", "val", "train", "all"] = "test",
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    against: Path | None = None,
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
        Labelled images, as for training.
    split
        Which of them. Where the data does not say: those that this model was trained on, those that chose its
        epoch (val), and those that it never saw (test).
    json_file
        Write the metrics to this file.
    report
        Write a report to this HTML file: one page, readable anywhere.
    against
        The folder of another run, to compare with on the same images: by how much, how surely, and where.
    images
        The folder that image names are relative to, instead of the file's own.
    keep
        Of an image with several boxes take this one; without it such images are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    """
    dataset = read_checked(data, images, keep, skip_bad=skip_bad)
    # Heavy to load: bad data is told of before.
    from solobox.evaluation.compare import compare
    from solobox.evaluation.evaluate import evaluate_on, part, run_facts
    from solobox.evaluation.report import write_report
    from solobox.model.localizer import Localizer

    localizer = Localizer.load(run)
    # Both are loaded before either is measured: a wrong folder is told of at once.
    rival = Localizer.load(against) if against is not None else None
    chosen = part(localizer, dataset, split)
    name, other = _names(run, against)
    with bars() as progress:
        evaluation = evaluate_on(localizer, chosen, split, progress=progress)
        second = evaluate_on(rival, chosen, split, progress=progress) if rival else None
    comparison = compare(evaluation, second, name, other) if second else None
    _remark(evaluation, int(dataset.has_box.sum()))
    if comparison is not None and comparison.unfair:
        console.print(comparison.unfair, style="bold", highlight=False, markup=False)
    out.print(metrics_table(f"{split} images", as_rows(evaluation.metrics.to_dict())))
    for line in trust_lines(evaluation):
        out.print(line, highlight=False, markup=False)
    if comparison is not None:
        out.print(comparison.sentence, highlight=False, markup=False)
    if json_file is not None:
        facts = evaluation.to_dict()
        if comparison is not None:
            facts["against"] = comparison.to_dict()
        with replacing(json_file) as file:
            json.dump(facts, file, indent=2)
    if report is not None:
        write_report(
            report,
            evaluation,
            title=f"{name} on {data.name}",
            run=run_facts(localizer, name, command_line()),
            comparison=comparison,
        )
        console.print(f"report: {report}", highlight=False, markup=False)


def _remark(evaluation: "Evaluation", labelled: int) -> None:
    """Say which images are measured: some unreadable, some left out, some that training has seen."""
    measured = evaluation.metrics.n
    if evaluation.n_unreadable:
        console.print(f"{evaluation.n_unreadable} images could not be read and count with an IoU of 0")
    if measured < labelled:
        console.print(f"{measured:,} of {labelled:,} labelled images are measured", highlight=False)
    if evaluation.split in ("test", "all") and evaluation.n_seen:
        console.print(
            f"[bold]{evaluation.n_seen:,} of these {measured:,} images were used in training[/]: figures on them "
            "flatter the model",
            highlight=False,
        )


def _names(run: Path, against: Path | None) -> tuple[str, str]:
    """What to call the two runs: by their folders' names, or by the paths as given where these are the same."""
    from solobox.evaluation.evaluate import default_name

    name, other = default_name(run), default_name(against) if against is not None else ""
    return (name, other) if name != other else (str(run), str(against))
