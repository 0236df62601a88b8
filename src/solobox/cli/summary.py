"""``solobox summary``: a localizer's layers as a table and as a drawing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from solobox.cli.console import Overwrite, out, quieten, say_loading
from solobox.cli.options import options_class, set_options
from solobox.config.architecture import Architecture
from solobox.errors import ConfigError
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs

if TYPE_CHECKING:
    from solobox.model.summary import Summary

    Settings = Any
else:
    Settings = options_class(Architecture)


def summary(
    run: Path | None = None,
    /,
    *,
    plot: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    overwrite: Overwrite = False,
    depth: Annotated[int, Parameter(validator=Number(gte=1))] = 2,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """List a localizer's layers with output shapes, parameters and multiply-adds, and draw it.

    Either a trained localizer, or one with the options below, for which nothing is downloaded.

    Parameters
    ----------
    run
        The folder of a trained localizer, or hf:OWNER/NAME, one on the Hugging Face Hub.
    plot
        Draw the modules and their shapes to this SVG file.
    json_file
        Write the table to this file, with exact numbers.
    depth
        How deep the rows go: 1 the main modules, 2 their stages, 3 and more their layers.
    settings
        The options of the architecture.
    """
    changes = set_options(settings)
    if run is not None and changes:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
        raise ConfigError(
            f"{run} has an architecture already, which {options} cannot change: name the folder or options, not both",
            code="options-conflict",
        )
    if plot is not None and plot.suffix.lower() != ".svg":
        raise ConfigError(f"{plot}: the drawing is an SVG; name it {plot.with_suffix('.svg').name}")
    check_outputs(
        {"--plot": plot, "--json": json_file}, [run] if run is not None else [], overwrite=overwrite
    )
    architecture = Architecture(**changes)
    say_loading(run)
    quieten()
    from solobox.hub.download import local_model
    from solobox.model.diagram import diagram
    from solobox.model.localizer import Localizer
    from solobox.model.summary import meta_localizer, summarize

    table = summarize(
        meta_localizer(architecture) if run is None else Localizer.load(local_model(run, "folder"))
    )
    name = "A localizer" if run is None else run.resolve().name
    out.print(_table(table, depth))
    out.print(_totals(table), highlight=False, soft_wrap=True)
    if json_file is not None:
        with replacing(json_file) as file:
            json.dump(table.to_json(depth), file, indent=2)
            file.write("\n")
    if plot is not None:
        with replacing(plot) as file:
            file.write(diagram(table, f"{name}: one image in, one box out"))


def _table(summary: "Summary", depth: int) -> Table:
    from solobox.model.diagram import format_shape

    table = Table(header_style="bold")
    for head in ("layer", "type"):
        table.add_column(head, overflow="fold")
    for head in ("output", "parameters", "multiply-adds"):
        table.add_column(head, justify="right")
    table.add_row("image", "RGB, resized to a square", format_shape(summary.input), "", "")
    for row in summary.to_depth(depth):
        frozen = " frozen" if row.parameters and not row.trainable else ""
        table.add_row(
            Text("  " * (row.depth - 1) + row.label),
            Text(row.description),
            "\n".join(map(format_shape, row.outputs)),
            f"{row.parameters:,}{frozen}" if row.parameters else "",
            f"{row.macs:,}" if row.macs else "",
            style="bold" if row.depth == 1 and depth > 1 else "",
        )
    return table


def _totals(summary: "Summary") -> str:
    trainable = (
        "" if summary.trainable == summary.parameters else f", {summary.trainable:,} of them trainable"
    )
    return (
        f"{summary.parameters:,} parameters{trainable}; {summary.macs:,} multiply-adds for one image; "
        f"{summary.weight_bytes / 1e6:,.1f} MB of weights"
    )
