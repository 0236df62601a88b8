"""``solobox audit``: which labels a model that was trained without them disagrees with."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from solobox.cli.console import bars, console, out
from solobox.cli.settings import given, options
from solobox.cli.train import Origin, read_config
from solobox.errors import ConfigError
from solobox.evaluation.audit_fix import refuse_to_replace
from solobox.samples import Samples
from solobox.training.recipe import PARTS, Recipe

if TYPE_CHECKING:
    from solobox.evaluation.audit import Audit
    from solobox.evaluation.audit_fix import Applied

    Settings = Any
else:
    # Heads on kept features alone are trained, on one device, and every picture is held out once.
    Settings = options(
        Recipe, *PARTS.values(),
        without=(
            "full_epochs", "full_lr", "trunk_lr", "freeze", "folds", "patience", "val", "test", "devices", "nodes",
            "loggers",
        ),
    )  # fmt: skip

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

    The pictures are dealt into folds (whole groups stay together); a localizer is trained on all folds but one and
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
        without, every flagged picture is left out.
    apply
        Decisions that the page saved. Nothing is trained then.
    folds
        Parts that the pictures are dealt into: 5, if the TOML file does not say.
    config
        A TOML file with any of the settings of training; options given here win.
    images
        The folder that picture names are relative to, instead of the file's own.
    keep
        Of a picture with several boxes take this one; without it such pictures are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data; unreadable pictures are flagged.
    settings
        Each knob of the recipe.
    """
    name, changes = read_config(config)
    changes |= given(settings)
    origin = Origin(data, images, keep, skip_bad=skip_bad)
    if apply is not None:
        if fix is None:
            raise ConfigError("--apply needs --fix: name the new CSV that the decisions make")
        if output or report or changes or folds is not None:
            raise ConfigError("--apply takes what was decided, and trains nothing: give it --fix alone")
        _say(_applied(origin.read(), apply, fix))
        return
    changes = {"folds": _FOLDS} | changes | ({} if folds is None else {"folds": folds})
    chosen = Recipe.named(name, changes)
    samples = origin.read()
    for target in (output, report, fix):
        if target is not None:
            refuse_to_replace(target, samples)
    # Heavy to load: bad data and bad settings are told of before.
    from solobox.evaluation.audit import audit as judge
    from solobox.evaluation.audit_fix import apply as write_clean
    from solobox.evaluation.audit_fix import by_rule, write_audit
    from solobox.evaluation.audit_page import write_audit_page
    from solobox.evaluation.second_look import second_look
    from solobox.training.folds import out_of_fold

    with bars() as progress:
        held_out = out_of_fold(samples, chosen, folds=chosen.folds, skip_bad=skip_bad, progress=progress)
        found = judge(samples, held_out.predictions, second_look(samples, held_out))
    out.print(_table(found, samples))
    console.print(_counted(found), highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        write_audit(output, found, samples)
        console.print(f"audit: {output}", highlight=False, markup=False, soft_wrap=True)
    if report is not None:
        words = shlex.join(origin.words())
        write_audit_page(report, found, samples, title=f"Label audit of {data.name}", data=words)
        console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    if fix is not None:
        _say(write_clean(samples, by_rule(found, samples), fix))


def _applied(samples: Samples, decisions: Path, fix: Path) -> "Applied":
    from solobox.evaluation.audit_fix import apply, read_decisions

    return apply(samples, read_decisions(decisions), fix, never=[decisions])


def _say(applied: "Applied") -> None:
    console.print(
        f"{applied.out}: {applied.n_kept:,} rows, of which {applied.n_changed:,} changed; {applied.n_dropped:,} left "
        f"out, see {applied.story}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _table(found: "Audit", samples: Samples) -> Table:
    flagged = found.flagged
    table = Table(title="labels to look at, worst first", title_justify="left", header_style="bold")
    for head, justify in (("image", "left"), ("kind", "left"), ("score", "right"), ("IoU", "right")):
        table.add_column(head, justify="right" if justify == "right" else "left")
    for finding in flagged[:_PRINTED]:
        overlap = "–" if finding.iou != finding.iou else f"{finding.iou:.2f}"
        table.add_row(Text(samples.names[finding.row]), finding.kind.value, f"{finding.score:.1f}", overlap)
    if len(flagged) > _PRINTED:
        table.caption = f"and {len(flagged) - _PRINTED:,} more"
    return table


def _counted(found: "Audit") -> str:
    kinds = Counter(finding.kind.value for finding in found.flagged)
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{len(found.flagged):,} of {len(found.findings):,} labels flagged" + (
        f": {named}" if named else ""
    )
