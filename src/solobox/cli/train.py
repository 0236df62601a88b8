"""``solobox train``: from labelled images to a folder with a trained localizer."""

import csv
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from solobox.cli.console import bars, console, metrics_rows, metrics_table, out, say, say_loading, say_reading
from solobox.cli.options import (
    DATA_HELP,
    AutoGroup,
    BoxLayout,
    ImageFolder,
    KeepBox,
    MaxPixels,
    SkipBad,
    options_class,
    require_accelerator,
    set_options,
)
from solobox.config.choices import Keep
from solobox.config.recipe import PARTS, Recipe, RecipeName, read_toml
from solobox.errors import ConfigError, Paused
from solobox.images.pixel_limit import allow_pixels
from solobox.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    OUT_OF_FOLD,
    PSEUDO_LABELS,
    DataSource,
    must_be_unfinished,
    must_be_vacant,
)
from solobox.utils.concurrency import is_main_process
from solobox.utils.outputs import RUN_FILES, is_run
from solobox.utils.progress import Progress

if TYPE_CHECKING:
    from solobox.data.dataset import Dataset
    from solobox.model.localizer import Localizer

    Settings = Any
else:
    # Each is None unless the user sets it, so that the values of the preset and the TOML file stay.
    Settings = options_class(*PARTS.values(), Recipe)


def train(
    data: Annotated[Path | None, Parameter(help=DATA_HELP)] = None,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    recipe: RecipeName | None = None,
    config: Path | None = None,
    resume: Path | None = None,
    stop_after: int = 0,
    unlabelled: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    images: ImageFolder = None,
    keep: KeepBox = None,
    skip_bad: SkipBad = False,
    layout: BoxLayout = None,
    auto_group: AutoGroup = True,
    max_pixels: MaxPixels = None,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> int:
    """Train a localizer on labelled images.

    Ctrl-C pauses the run after the current step and prints how to resume it; a second Ctrl-C ends it at once.

    Parameters
    ----------
    output
        The folder to write the trained localizer to, with history.csv and the last epoch's checkpoint.
    recipe
        The preset that all options start from. quick (the default): train the head on a frozen backbone, in about a
        minute. finetune: then train the backbone too. article: the tutorial's recipe, see docs/explanation/article.md.
    config
        A TOML file with `recipe` and any of the options below; options on the command line win.
    resume
        Continue the paused or killed run in this folder, with its data and options, exactly as if it had never
        stopped.
    stop_after
        Pause after so many epochs; for short time slots on a shared machine. 0: do not.
    unlabelled
        Learn from these images too, as `solobox predict` takes them, but no URLs, each with the object: a first
        model, saved in RUN-teacher, labels them, and the surest half counts. Worthwhile with few labels. If stopped
        while the first model trains, the same command goes on; later, --resume RUN does.
    settings
        Each option of the recipe.
    """
    allow_pixels(max_pixels)
    if not is_main_process():
        console.quiet = out.quiet = True
    preset, options = read_toml(config)
    options |= set_options(settings)
    chosen: Recipe | None = None
    if resume is not None:
        if any((data, output, recipe, options, images, keep, skip_bad, layout, unlabelled, not auto_group)):
            raise ConfigError(
                "--resume takes only the run's folder, which holds its data and options: leave out everything else",
                code="options-conflict",
            )
        must_be_unfinished(resume)
        output, source = resume, DataSource.load(resume)
    elif data is None or output is None:
        raise ConfigError(
            "the data and a folder for the trained localizer are needed: solobox train DATA -o RUN",
            code="argument-missing",
        )
    else:
        source, chosen = (
            DataSource(data, images, keep, skip_bad, auto_group, layout),
            Recipe.from_preset(recipe or preset, options),
        )
        _check_folder(output)
    say_reading(source.data)
    if chosen is not None:
        require_accelerator(chosen)
    with bars() as progress:
        dataset = source.read(progress)
    _say_data(dataset, chosen)
    if chosen is not None and is_main_process() and not unlabelled:
        source.save(output)
    # Errors in the data and the options are reported first.
    say_loading()
    from solobox.evaluation.evaluate import evaluate_selection
    from solobox.training.train import train as fit

    labelled = source
    with bars() as progress:
        try:
            if chosen is not None and unlabelled:
                source = _with_unlabelled(dataset, unlabelled, output, chosen, source, progress)
                dataset = source.read(progress)
                source.save(output)
            localizer = fit(
                dataset, output, chosen, skip_bad=source.skip_bad, progress=progress, resume=resume is not None,
                stop_after=stop_after, auto_group=source.auto_group,
            )  # fmt: skip
        except Paused as paused:
            progress.say(str(paused))
            # In a group of processes another one may have got the signal: then as after Ctrl-C.
            return 0 if stop_after or not is_main_process() else 128 + (paused.signal or signal.SIGINT)
        if not is_main_process():
            return 0
        shares: Any = localizer.metadata["recipe"]
        validation = dataset.with_splits(val=shares["val"], test=shares["test"]).of_split("val")
        evaluation = evaluate_selection(localizer, validation, "val", progress=progress)
    out.print(metrics_table("validation images", metrics_rows(evaluation.metrics.to_dict())))
    if (output / OUT_OF_FOLD).exists():
        out.print(_out_of_fold(output / OUT_OF_FOLD), highlight=False, markup=False, soft_wrap=True)
    say(_conclusion(localizer, output, labelled))
    return 0


def _with_unlabelled(
    dataset: "Dataset",
    unlabelled: Sequence[str],
    output: Path,
    recipe: Recipe,
    source: DataSource,
    progress: Progress,
) -> DataSource:
    """Train the teacher, and write its boxes of other images beside the labels: what is to be trained on."""
    from solobox.model.localizer import Localizer
    from solobox.predict.inputs import check_named, expand
    from solobox.training.self_training import (
        check_local,
        check_recipe,
        is_of_recipe,
        teacher_folder,
        with_pseudo_labels,
    )
    from solobox.training.train import train as fit

    check_recipe(recipe)
    check_named(unlabelled)
    check_local(item.removeprefix("file://") for item in unlabelled)
    others, folder = expand(unlabelled), teacher_folder(output)
    check_local(others)
    teacher = Localizer.load(folder) if (folder / CONFIG).exists() else None
    if teacher is not None and is_of_recipe(teacher, recipe) and DataSource.load(folder).is_same(source):
        progress.say(f"{folder} is finished and is not trained again")
    else:
        is_begun = teacher is None and (folder / CHECKPOINT).exists()
        if not is_begun:
            _check_folder(folder)
            source.save(folder)
        teacher = fit(
            dataset, folder, recipe, skip_bad=source.skip_bad, progress=progress, auto_group=source.auto_group,
            resume=is_begun,
        )  # fmt: skip
    both = with_pseudo_labels(
        dataset.with_splits(val=recipe.val, test=recipe.test), others, teacher, progress=progress
    )
    both.write(folder / PSEUDO_LABELS)
    return DataSource(folder / PSEUDO_LABELS, skip_bad=source.skip_bad, auto_group=False)


def _check_folder(folder: Path) -> None:
    """Raise ConfigError where a new run's folder holds a run, or a file that a run would replace."""
    must_be_vacant(folder)
    if not is_run(folder) and (foreign := [name for name in RUN_FILES if (folder / name).exists()]):
        raise ConfigError(
            f"{folder / foreign[0]} exists and is not of a run, which would replace it: choose another folder",
            code="output-exists",
        )


def read_checked(
    data: Path, images: Path | None, keep: Keep | None, *, skip_bad: bool, layout: str | None = None
) -> "Dataset":
    """Read and check the data, see `Dataset.read`, and say what it holds. Raises DataError."""
    from solobox.data.dataset import Dataset

    with bars() as progress:
        dataset = Dataset.read(data, images, keep=keep, skip_bad=skip_bad, layout=layout, progress=progress)
    say(dataset.summary())
    return dataset


def _say_data(dataset: "Dataset", recipe: Recipe | None) -> None:
    if recipe is not None:
        console.print(_split_table(dataset.with_splits(val=recipe.val, test=recipe.test)))
    if left_out := dataset.left_out().strip():
        say(left_out)


def _split_table(dataset: "Dataset") -> Table:
    """The images of each split, with and without a box."""
    table = Table(title="images to use", title_justify="left", header_style="bold")
    for header in ("", "with a box", "without", "in all"):
        table.add_column(header, justify="right" if header else "left")
    counts = dataset.counts()
    both = [sum(column) for column in zip(*counts.values(), strict=True)]
    for name, (boxes, none) in {**counts, "in all": tuple(both)}.items():
        table.add_row(name, f"{boxes:,}", f"{none:,}", f"{boxes + none:,}")
    return table


def _conclusion(localizer: "Localizer", output: Path, source: DataSource) -> str:
    """What was trained in how long, and the command that measures on the test images."""
    metadata: Any = localizer.metadata
    counts, best = metadata["counts"], metadata["best"]
    command = shlex.join(["solobox", "evaluate", str(output), *source.to_args()])
    rest = (
        f"{counts['test']:,} test images were not used: measure on them with `{command}`"
        if counts["test"]
        else "The data has no test images."
    )
    return (
        f"{output}: trained in {sum(metadata['seconds'].values()):.0f} s on {counts['train']:,} images; the best "
        f"epoch is {best['epoch']} of the {best['stage']} stage. {rest}"
    )


def _out_of_fold(path: Path) -> str:
    """The mean IoU in the CSV that `OutOfFold.write` wrote, with its confidence interval."""
    from solobox.evaluation.bootstrap import mean_intervals, units

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ious, groups = [float(row["iou"]) for row in rows], [row["group"] for row in rows]
    (interval,) = mean_intervals([[iou] for iou in ious], groups)
    images = f"{len(rows):,} images"
    if any(groups):
        images += f" in {int(units(len(rows), groups).max()) + 1:,} groups"
    bounds = ""
    if interval.lower == interval.lower:  # NaN is unequal to itself
        percent = f"{100 * interval.level:g}%"
        bounds = f", {percent} confidence {interval.lower:.3f} to {interval.upper:.3f} (bootstrap)"
    folds = len({row["fold"] for row in rows})
    return (
        f"out of fold: mean IoU {sum(ious) / len(rows):.3f}{bounds}, over {images} in {folds} folds: {path}"
    )
