"""``solobox audit``: find labels that are probably wrong."""

import shlex
import webbrowser
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from solobox.cli.console import Flag, Overwrite, Raw, bars, out, say, say_loading, say_reading
from solobox.cli.options import (
    NOT_FOR_CROSS_VALIDATION,
    SHOWN_FOR_CROSS_VALIDATION,
    AutoGroup,
    BoxLayout,
    DataPath,
    ImageFolder,
    KeepBox,
    MaxPixels,
    SkipBad,
    files_of,
    options_class,
    require_accelerator,
    set_options,
)
from solobox.cli.train import read_checked
from solobox.config.recipe import PARTS, Recipe, read_toml
from solobox.errors import ConfigError
from solobox.images.pixel_limit import allow_pixels
from solobox.training.run_folder import DataSource
from solobox.utils.outputs import check_outputs
from solobox.utils.text import count_of

if TYPE_CHECKING:
    from solobox.data.dataset import Dataset
    from solobox.evaluation.audit.decisions import AppliedDecisions
    from solobox.evaluation.audit.label_audit import Audit

    Settings = Any
else:
    Settings = options_class(
        *PARTS.values(), Recipe, without=NOT_FOR_CROSS_VALIDATION, shown=SHOWN_FOR_CROSS_VALIDATION
    )

_FOLDS = 5
_MAX_ROWS = 15  # of the printed table


def audit(
    data: DataPath,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    report: Path | None = None,
    fix: Path | None = None,
    apply: Path | None = None,
    open_page: Annotated[bool, Parameter(name="--open"), Flag] = False,
    folds: int | None = None,
    config: Path | None = None,
    overwrite: Overwrite = False,
    raw: Raw = False,
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    auto_group: AutoGroup = True,
    max_pixels: MaxPixels = None,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Find labels that are probably wrong: a model that was trained without them disagrees.

    The images are split into folds (groups stay together), and a localizer trained on the other folds predicts each
    fold. A flagged label may still be correct, so review it. The data is not changed.
    Options of `solobox train` that are not listed here are accepted too, where they concern the head.

    Parameters
    ----------
    output
        Write every label with its score to this CSV, the worst first.
    report
        Write the worst labels to this HTML file: a self-contained page on which to review them.
    fix
        Write a corrected copy to this CSV, and beside it a list of what was left out or changed and why. With --apply
        the decisions are applied; without, every flagged image is left out.
    apply
        A file of decisions that the report page saved: apply them with --fix. Nothing is trained.
    open_page
        Decide on a page in the browser, with --fix: it shows the flagged images, the worst first, each with its label
        and the model's box, and one keeps the label, takes the model's box or draws another. Ctrl-C ends it.
        The same command goes on where it was.
    folds
        The number of folds: 5 unless the TOML file sets it.
    config
        A TOML file with any of the options of training; options on the command line win.
    settings
        Each option of the recipe.
    """
    allow_pixels(max_pixels)
    name, changes = read_toml(config)
    changes |= set_options(settings)
    source = DataSource(data, images, keep, skip_bad, auto_group, layout)
    _check_options(
        fix,
        apply,
        open_page=open_page,
        trains=bool(output or report or changes or open_page or folds is not None),
    )
    say_reading(data)
    from solobox.data.checks import left_out_path
    from solobox.data.formats.writing import writable

    outputs = {"-o": output, "--report": report}
    if not open_page:
        outputs |= {"--fix": fix, "the list beside --fix": fix and left_out_path(fix)}
    others = [path for path in (config, apply) if path is not None]
    check_outputs(outputs, chain(others, files_of(data, images)), overwrite=overwrite)
    if open_page and fix is not None:
        from solobox.annotation.session import check_labels

        check_outputs({"--fix": fix}, chain(others, files_of(data, images)), overwrite=True)
        check_labels(fix)
    if apply is not None and fix is not None:
        _print_counts(
            _apply(read_checked(data, images, keep, skip_bad=skip_bad, layout=layout), apply, fix, raw=raw)
        )
        return
    changes = {"folds": _FOLDS} | changes | ({} if folds is None else {"folds": folds})
    recipe = Recipe.from_preset(name, changes)
    require_accelerator(recipe)
    dataset = read_checked(data, images, keep, skip_bad=skip_bad, layout=layout)
    if fix is not None:
        writable(dataset.annotations().records, fix)
        _ = dataset.paths  # only files can be named, and shown
    say_loading()
    from solobox.api import audit as train_and_audit
    from solobox.evaluation.audit.decisions import apply_decisions, drop_flagged, write_audit
    from solobox.evaluation.audit.page import write_audit_page

    with bars() as progress:
        result = train_and_audit(
            dataset, recipe, folds=recipe.folds, skip_bad=skip_bad, auto_group=auto_group, progress=progress
        )
    out.print(_table(result, dataset))
    say(_count_flagged(result))
    if output is not None:
        write_audit(output, result, dataset, raw=raw)
        say(f"audit: {output}")
    if report is not None:
        arguments = shlex.join(source.to_args())
        write_audit_page(report, result, dataset, title=f"Label audit of {data.name}", data=arguments)
        say(f"report: {report}")
    if fix is not None and open_page:
        _decide(result, dataset, fix)
    elif fix is not None:
        _print_counts(apply_decisions(dataset, drop_flagged(result, dataset), fix, raw=raw))


def _check_options(fix: Path | None, apply: Path | None, *, open_page: bool, trains: bool) -> None:
    for name, is_given in (("--open", open_page), ("--apply", apply is not None)):
        if is_given and fix is None:
            raise ConfigError(
                f"{name} needs --fix: the CSV to write the corrected copy to", code="argument-missing"
            )
    if apply is not None and trains:
        raise ConfigError(
            "--apply trains nothing and takes no other option than --fix", code="options-conflict"
        )


def _decide(result: "Audit", dataset: "Dataset", fix: Path) -> None:
    """The page, until Ctrl-C."""
    if not result.flagged:
        say("no label to look at")
        return
    from solobox.annotation.server import AnnotationServer
    from solobox.annotation.suspects import Suspects

    suspects = Suspects.of(result, dataset)
    with AnnotationServer(suspects.folder(), fix, suspects=suspects) as server:
        say(f"the page is {server.address}")
        say("the address is a secret: who on this machine has it can decide. Ctrl-C ends the program")
        webbrowser.open(server.address)
        server.run()
        say("saving")
    looked_at = server.session.counts()["left"]
    say(f"{fix}: the corrected copy; {count_of(int(looked_at), 'flagged label')} not looked at yet")


def _apply(dataset: "Dataset", decisions: Path, fix: Path, *, raw: bool) -> "AppliedDecisions":
    from solobox.evaluation.audit.decisions import apply_decisions, read_decisions

    return apply_decisions(dataset, read_decisions(decisions), fix, protected=[decisions], raw=raw)


def _print_counts(applied: "AppliedDecisions") -> None:
    say(
        f"{applied.out}: {applied.n_kept:,} rows, of which {applied.n_changed:,} changed; {applied.n_dropped:,} left "
        f"out, see {applied.left_out}"
    )


def _table(result: "Audit", dataset: "Dataset") -> Table:
    flagged = result.flagged
    table = Table(title="labels to review, worst first", title_justify="left", header_style="bold")
    for header in ("image", "kind"):
        table.add_column(header)
    for header in ("score", "IoU"):
        table.add_column(header, justify="right")
    for finding in flagged[:_MAX_ROWS]:
        iou = "–" if finding.iou != finding.iou else f"{finding.iou:.2f}"
        table.add_row(Text(dataset.names[finding.row]), finding.kind.value, f"{finding.score:.1f}", iou)
    if len(flagged) > _MAX_ROWS:
        table.caption = f"and {len(flagged) - _MAX_ROWS:,} more"
    return table


def _count_flagged(result: "Audit") -> str:
    kinds = Counter(finding.kind.value for finding in result.flagged)
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{len(result.flagged):,} of {len(result.findings):,} labels flagged" + (
        f": {by_kind}" if by_kind else ""
    )
