"""``solobox train``: from labelled images to a folder with a trained localizer."""

import csv
import json
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from solobox.cli.console import as_rows, bars, console, metrics_table, out
from solobox.cli.options import given, options
from solobox.config.recipe import PARTS, Recipe, RecipeName
from solobox.data.dataset import Dataset
from solobox.errors import ConfigError, Paused
from solobox.training.run_folder import OUT_OF_FOLD, must_be_unfinished, must_be_vacant
from solobox.utils.atomic import replacing
from solobox.utils.concurrency import is_main_process

if TYPE_CHECKING:
    Settings = Any
else:
    # So that a preset's own values stand where an option is left out.
    Settings = options(Recipe, *PARTS.values())


def train(
    data: Path | None = None,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    resume: Path | None = None,
    stop_after: int = 0,
    recipe: RecipeName | None = None,
    config: Path | None = None,
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> int:
    """Train a localizer.

    Ctrl-C pauses the run after the step that is under way and says how to go on; a second one ends it at once.

    Parameters
    ----------
    data
        A CSV, a COCO JSON, a folder of Pascal VOC XML, or a YOLO data.yaml.
    output
        The folder to leave the trained localizer in. It also holds history.csv and the last epoch's checkpoint.
    resume
        Go on with the run in this folder, exactly as if it had never stopped; it knows its data and settings.
    stop_after
        Pause after so many epochs, as if interrupted; for short slots on a shared machine.
    recipe
        quick: the backbone stays as it is, in about a minute (the default). full: then the backbone is trained too.
        article: the tutorial's recipe as it was written, see docs/article.md.
    config
        A TOML file with a `recipe` and any of the settings below; options given here win.
    images
        The folder that image names are relative to, instead of the file's own.
    keep
        Of an image with several boxes take this one; without it such images are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    settings
        Each option of the recipe.
    """
    if not is_main_process():
        console.quiet = out.quiet = True
    name, changes = read_config(config)
    changes |= given(settings)
    if resume is not None:
        if data or output or recipe or changes or images or keep or skip_bad:
            raise ConfigError("--resume takes the run's folder alone: its data and settings are kept in it")
        must_be_unfinished(resume)
        output, origin, chosen = resume, Origin.load(resume), None
    else:
        if data is None or output is None:
            raise ConfigError(
                "name the data, and with -o the folder for the model: solobox train DATA -o RUN"
            )
        origin = Origin(data, images, keep, skip_bad=skip_bad)
        chosen = Recipe.named(recipe or name, changes)
        must_be_vacant(output)
    dataset = origin.read()
    if resume is None and is_main_process():
        origin.save(output)
    # The engine is heavy to load: bad data and bad settings are told of before it is.
    from solobox.evaluation.evaluate import evaluate
    from solobox.training.train import train as run

    with bars() as progress:
        try:
            localizer = run(
                dataset, output, chosen, skip_bad=origin.skip_bad, progress=progress, resume=resume is not None,
                stop_after=stop_after,
            )  # fmt: skip
        except Paused as paused:
            progress.say(str(paused))
            return 0 if stop_after or not is_main_process() else 130
        if not is_main_process():
            return 0
        evaluation = evaluate(localizer, dataset, "val", progress=progress)
    facts: Any = localizer.facts
    seconds = sum(facts["seconds"].values())
    out.print(metrics_table("validation images", as_rows(evaluation.metrics.to_dict())))
    if facts["recipe"]["folds"]:
        out.print(_out_of_fold(output / OUT_OF_FOLD), highlight=False, markup=False, soft_wrap=True)
    counts = facts["counts"]
    again = ["solobox", "evaluate", str(output), *origin.words()]
    rest = (
        f"{counts['test']:,} test images were not touched: `{shlex.join(again)}` measures on them."
        if counts["test"]
        else "The data holds no test images."
    )
    console.print(
        f"{output}: trained in {seconds:.0f} s on {counts['train']:,} images; epoch {facts['best']['epoch']} of the "
        f"{facts['best']['stage']} stage was kept. {rest}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip
    return 0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run's images come from, as the command line said it; kept beside the run so that it can go on."""

    data: Path
    images: Path | None
    keep: Literal["largest", "first"] | None
    skip_bad: bool = field(kw_only=True)

    def read(self) -> Dataset:
        """The images, past the cheap part of the checks."""
        return read_checked(self.data, self.images, self.keep, skip_bad=self.skip_bad)

    def words(self) -> list[str]:
        """As the options of a command."""
        words = [str(self.data)]
        words += ["--images", str(self.images)] if self.images else []
        words += ["--keep", self.keep] if self.keep else []
        return words + (["--skip-bad"] if self.skip_bad else [])

    def save(self, folder: Path) -> None:
        """Write it into a run's folder."""
        facts = {
            "data": str(self.data.resolve()), "images": str(self.images.resolve()) if self.images else None,
            "keep": self.keep, "skip_bad": self.skip_bad,
        }  # fmt: skip
        with replacing(folder / _ORIGIN) as file:
            json.dump(facts, file, indent=2)

    @classmethod
    def load(cls, folder: Path) -> "Origin":
        """What `save` wrote. Raises ConfigError where it is not."""
        path = folder / _ORIGIN
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            images = Path(facts["images"]) if facts["images"] else None
            return cls(Path(facts["data"]), images, facts["keep"], skip_bad=facts["skip_bad"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{folder} holds no run that this command began: {path.name} is missing or damaged"
            ) from error


_ORIGIN = "origin.json"


def read_checked(
    data: Path, images: Path | None, keep: Literal["largest", "first"] | None, *, skip_bad: bool
) -> Dataset:
    """Read and check the data, see `Dataset.read`, and say what it holds. Raises DataError."""
    dataset = Dataset.read(data, images, keep=keep, skip_bad=skip_bad)
    console.print(dataset.summary(), highlight=False, markup=False)
    return dataset


def _out_of_fold(path: Path) -> str:
    """In a sentence what `OutOfFold.write` wrote, and how far it may be off."""
    from solobox.evaluation.bootstrap import mean_intervals, units

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    reached, groups = [float(row["iou"]) for row in rows], [row["group"] for row in rows]
    (found,) = mean_intervals([[value] for value in reached], groups)
    mean, folds = sum(reached) / len(rows), len({row["fold"] for row in rows})
    by = f"{len(rows):,} images"
    if any(groups):
        by += f" in {int(units(len(rows), groups).max()) + 1:,} groups"
    known = ""
    if found.lower == found.lower:  # NaN is unequal to itself
        known = f", {100 * found.level:g}% confidence {found.lower:.3f} to {found.upper:.3f} (bootstrap)"
    return f"out of fold: mean IoU {mean:.3f}{known}, over {by} in {folds} folds: {path}"


def read_config(path: Path | None) -> tuple[str, dict[str, Any]]:
    """The name of a recipe and changes to it, of a TOML file; ``quick`` and none without a file."""
    if path is None:
        return "quick", {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    name = table.pop("recipe", "quick")
    return str(name), table
