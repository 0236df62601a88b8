"""``solobox curve``: the learning curve, which says whether more labels would help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from solobox.cli.console import Overwrite, bars, out, say, say_loading, say_reading
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
from solobox.config.recipe import PARTS, Recipe, check_repetitions
from solobox.images.pixel_limit import allow_pixels
from solobox.utils.atomic import replacing
from solobox.utils.outputs import check_outputs

if TYPE_CHECKING:
    from solobox.training.curve import Curve

    Settings = Any
else:
    Settings = options_class(
        *PARTS.values(), Recipe, without=NOT_FOR_CROSS_VALIDATION, shown=SHOWN_FOR_CROSS_VALIDATION
    )


def curve(
    data: DataPath,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    plot: Path | None = None,
    repetitions: int = 5,
    overwrite: Overwrite = False,
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    auto_group: AutoGroup = True,
    max_pixels: MaxPixels = None,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Find out whether more labels would help: the learning curve.

    Trains on an eighth, a quarter, half and most of the labelled images, measures on held-out images, and extrapolates
    to twice as many labels. Images without a box and the test split of the data are left out.
    Options of `solobox train` that are not listed here are accepted too, where they concern the head.

    Parameters
    ----------
    output
        Write the curve to this CSV file: images, mean_iou, lower, upper (a 95% band), kind (measured or expected).
    plot
        Draw the curve to this SVG file.
    repetitions
        The number of folds, at least 3; each is held out once, and four models are trained on the others.
    settings
        Each option of the recipe.
    """
    allow_pixels(max_pixels)
    check_repetitions(repetitions)
    recipe = Recipe.from_preset("quick", set_options(settings))
    say_reading(data)
    require_accelerator(recipe)
    check_outputs({"-o": output, "--plot": plot}, files_of(data, images), overwrite=overwrite)
    dataset = read_checked(data, images, keep, skip_bad=skip_bad, layout=layout)
    say_loading()
    from solobox.training.curve import learning_curve

    with bars() as progress:
        result = learning_curve(
            dataset,
            recipe,
            repetitions=repetitions,
            skip_bad=skip_bad,
            auto_group=auto_group,
            progress=progress,
        )
    out.print(_table(result))
    out.print(result.sentence(), highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        result.write(output)
        say(f"curve: {output}")
    if plot is not None:
        from solobox.evaluation.report.charts import learning_curve_chart

        with replacing(plot) as file:
            file.write(learning_curve_chart(result))
        say(f"plot: {plot}")


def _table(curve: "Curve") -> Table:
    table = Table(title="learning curve", title_justify="left", header_style="bold")
    for header in ("images", "mean IoU", "95% band", ""):
        table.add_column(header, justify="right" if header else "left")
    for point in curve.points:
        band = f"{point.lower:.3f} to {point.upper:.3f}"
        table.add_row(f"{point.images:,}", f"{point.mean_iou:.3f}", band, point.kind)
    return table
