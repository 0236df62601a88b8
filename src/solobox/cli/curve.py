"""``solobox curve``: the learning curve, which says whether more labels would help."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from solobox.cli.console import bars, console, out
from solobox.cli.options import NOT_FOR_CROSS_VALIDATION, options_class, set_options
from solobox.cli.train import read_checked
from solobox.config.recipe import PARTS, Recipe
from solobox.utils.atomic import replacing

if TYPE_CHECKING:
    from solobox.training.curve import Curve

    Settings = Any
else:
    Settings = options_class(*PARTS.values(), Recipe, without=NOT_FOR_CROSS_VALIDATION)


def curve(
    data: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    plot: Path | None = None,
    repetitions: int = 5,
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Find out whether more labels would help: the learning curve.

    Trains on an eighth, a quarter, half and most of the labelled images, measures on held-out images, and extrapolates
    to twice as many labels. Images without a box and the test split of the data are left out.

    Parameters
    ----------
    data
        Labelled images, as for training.
    output
        Write the curve to this CSV file: images, mean_iou, lower, upper (a 95% band), kind (measured or expected).
    plot
        Draw the curve to this SVG file.
    repetitions
        The number of parts that the images are split into; each part is held out once, for four trainings.
    images
        The folder that image names are relative to, instead of that of the data file.
    keep
        The box to keep of an image with several boxes; by default such images are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    settings
        Each option of the recipe.
    """
    recipe = Recipe.from_preset("quick", set_options(settings))
    dataset = read_checked(data, images, keep, skip_bad=skip_bad)
    # PyTorch takes seconds to import: errors in the data are reported before.
    from solobox.evaluation.report.charts import learning_curve_chart
    from solobox.training.curve import learning_curve

    with bars() as progress:
        result = learning_curve(
            dataset, recipe, repetitions=repetitions, skip_bad=skip_bad, progress=progress
        )
    out.print(_table(result))
    out.print(result.sentence(), highlight=False, markup=False, soft_wrap=True)
    if output is not None:
        result.write(output)
        console.print(f"curve: {output}", highlight=False, markup=False)
    if plot is not None:
        with replacing(plot) as file:
            file.write(learning_curve_chart(result))
        console.print(f"plot: {plot}", highlight=False, markup=False)


def _table(curve: "Curve") -> Table:
    table = Table(title="learning curve", title_justify="left", header_style="bold")
    for header in ("images", "mean IoU", "95% band", ""):
        table.add_column(header, justify="right" if header else "left")
    for point in curve.points:
        band = f"{point.lower:.3f} to {point.upper:.3f}"
        table.add_row(f"{point.images:,}", f"{point.mean_iou:.3f}", band, point.kind)
    return table
