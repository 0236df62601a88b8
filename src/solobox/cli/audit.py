"""``solobox audit``: which labels a model that was trained without them disagrees with."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from solobox.cli.console import bars, console, out
from solobox.cli.options import NOT_FOR_CROSS_VALIDATION, options_class, set_options
from solobox.cli.train import read_checked
from solobox.config.recipe import PARTS, Recipe, read_toml
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError
from solobox.evaluation.audit.decisions import refuse_to_replace
from solobox.training.run_folder import DataSource

if TYPE_CHECKING:
    from solobox.evaluation.audit.decisions import Applied
    from solobox.evaluation.audit.findings import Audit

    Settings = Any
else:
    Settings = options_class(*PARTS.values(), Recipe, without=NOT_FOR_CROSS_VALIDATION)

_FOLDS = 5
_PRINTED = 15  # labels in the table, at most


def audit(
    data: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    report: Path | None = None,
    fix: Path | None = None,
    apply: Path | None = None,
    folds: int | None = None,
    config: Path | None = None,
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Find labels that are probably wrong: those that a model disagrees with which was trained without them.

    The images are dealt into folds (whole groups stay together); a localizer is trained on all folds but one and
    looks at that one, for each in turn. A label that disagrees need not be wrong: look at it. Nothing is changed.

    Parameters
    ----------
    data
        A CSV, a COCO JSON, a folder of Pascal VOC XML, or a YOLO data.yaml.
    output
        Write every label with its score, the worst first, to this CSV.
    report
        Write the worst labels to this HTML file: one page on which to decide what becomes of each of them.
    fix
        Write a new CSV of the data, and beside it what was left out or changed and why. With --apply by the decisions;
        without, every flagged image is left out.
    apply
        Decisions that the page saved. Nothing is trained then.
    folds
        Parts that the images are dealt into: 5, if the TOML file does not say.
    config
        A TOML file with any of the settings of training; options given here win.
    images
        The folder that image names are relative to, instead of the file's own.
    keep
        Of an image with several boxes take this one; without it such images are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data; unreadable images are flagged.
    settings
        Each option of the recipe.
    """
    name, changes = read_toml(config)
    changes |= set_options(settings)
    source = DataSource(data, images, keep, skip_bad)
    if apply is not None:
        if fix is None:
            raise ConfigError("--apply needs --fix: name the new CSV that the decisions make")
        if output or report or changes or folds is not None:
            raise ConfigError("--apply takes what was decided, and trains nothing: give it --fix alone")
        _say(_applied(read_checked(data, images, keep, skip_bad=skip_bad), apply, fix))
        return
    changes = {"folds": _FOLDS} | changes | ({} if folds is None else {"folds": folds})
    chosen = Recipe.from_preset(name, changes)
    dataset = read_checked(data, images, keep, skip_bad=skip_bad)
    for target in (output, report, fix):
        if target is not None:
            refuse_to_replace(target, dataset)
    # Heavy to load: bad data and bad settings are told of before.
    from solobox.evaluation.audit.decisions import apply as write_clean
    from solobox.evaluation.audit.decisions import by_rule, write_audit
    from solobox.evaluation.audit.findings import audit as judge
    from solobox.evaluation.audit.hidden_object import second_look
    from solobox.evaluation.audit.page import write_audit_page
    from solobox.training.crossval import out_of_fold

    with bars() as progress:
        held_out = out_of_fold(dataset, chosen, folds=chosen.folds, skip_bad=skip_bad, progress=progress)
        found = judge(dataset, held_out.predictions, second_look(dataset, held_out))
    out.print(_table(found, dataset))
    console.print(_counted(found), highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        write_audit(output, found, dataset)
        console.print(f"audit: {output}", highlight=False, markup=False, soft_wrap=True)
    if report is not None:
        words = shlex.join(source.to_args())
        write_audit_page(report, found, dataset, title=f"Label audit of {data.name}", data=words)
        console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    if fix is not None:
        _say(write_clean(dataset, by_rule(found, dataset), fix))


def _applied(dataset: Dataset, decisions: Path, fix: Path) -> "Applied":
    from solobox.evaluation.audit.decisions import apply, read_decisions

    return apply(dataset, read_decisions(decisions), fix, never=[decisions])


def _say(applied: "Applied") -> None:
    console.print(
        f"{applied.out}: {applied.n_kept:,} rows, of which {applied.n_changed:,} changed; {applied.n_dropped:,} left "
        f"out, see {applied.story}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _table(found: "Audit", dataset: Dataset) -> Table:
    flagged = found.flagged
    table = Table(title="labels to look at, worst first", title_justify="left", header_style="bold")
    for head, justify in (("image", "left"), ("kind", "left"), ("score", "right"), ("IoU", "right")):
        table.add_column(head, justify="right" if justify == "right" else "left")
    for finding in flagged[:_PRINTED]:
        overlap = "–" if finding.iou != finding.iou else f"{finding.iou:.2f}"
        table.add_row(Text(dataset.names[finding.row]), finding.kind.value, f"{finding.score:.1f}", overlap)
    if len(flagged) > _PRINTED:
        table.caption = f"and {len(flagged) - _PRINTED:,} more"
    return table


def _counted(found: "Audit") -> str:
    kinds = Counter(finding.kind.value for finding in found.flagged)
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{len(found.flagged):,} of {len(found.findings):,} labels flagged" + (
        f": {named}" if named else ""
    )
