"""``solobox train``: from labelled pictures to a folder with a trained localizer."""

import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from solobox import doctor, formats
from solobox.cli.console import as_rows, bars, console, metrics_table, out
from solobox.cli.settings import given, options
from solobox.errors import ConfigError, DataError
from solobox.formats import Annotations
from solobox.localizer.architecture import Architecture
from solobox.samples import Samples
from solobox.training.recipe import Recipe

if TYPE_CHECKING:
    Settings = Any
else:
    # So that a preset's own values stand where an option is left out.
    Settings = options(Recipe, Architecture)


def train(
    data: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    recipe: Literal["quick", "full"] | None = None,
    config: Path | None = None,
    images: Path | None = None,
    keep: Literal["largest", "first"] | None = None,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
) -> None:
    """Train a localizer.

    Parameters
    ----------
    data
        A CSV, a COCO JSON, a folder of Pascal VOC XML, or a YOLO data.yaml.
    output
        The folder to leave the trained localizer in.
    recipe
        quick: the trunk stays as it is, in about a minute (the default). full: then the trunk is trained too.
    config
        A TOML file with a `recipe` and any of the settings below; options given here win.
    images
        The folder that picture names are relative to, instead of the file's own.
    keep
        Of a picture with several boxes take this one; without it such pictures are left out.
    skip_bad
        Leave out rows with errors, and count them, rather than refuse the data.
    settings
        Each knob of the recipe.
    """
    name, changes = _read_config(config)
    changes |= given(settings)
    chosen = Recipe.named(recipe or name, changes)
    if (output / "config.json").exists():
        raise ConfigError(f"{output} already holds a model: choose another folder, or remove this one first")
    samples = read_checked(data, images, keep, skip_bad=skip_bad)
    # The engine is heavy to load: bad data and bad settings are told of before it is.
    from solobox.evaluation.evaluate import evaluate
    from solobox.training.train import train as run

    with bars() as progress:
        localizer = run(samples, output, chosen, skip_bad=skip_bad, progress=progress)
        evaluation = evaluate(localizer, samples, "val", progress=progress)
    facts: Any = localizer.facts
    seconds = sum(facts["seconds"].values())
    out.print(metrics_table("validation pictures", as_rows(evaluation.metrics.to_dict())))
    counts = facts["counts"]
    again = ["solobox", "evaluate", str(output), str(data)]
    again += ["--images", str(images)] if images else []
    again += ["--keep", keep] if keep else []
    again += ["--skip-bad"] if skip_bad else []
    rest = (
        f"{counts['test']:,} test pictures were not touched: `{shlex.join(again)}` measures on them."
        if counts["test"]
        else "The data holds no test pictures."
    )
    console.print(
        f"{output}: trained in {seconds:.0f} s on {counts['train']:,} pictures; epoch {facts['best']['epoch']} of the "
        f"{facts['best']['stage']} stage was kept. {rest}",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def read_checked(
    data: Path, images: Path | None, keep: Literal["largest", "first"] | None, *, skip_bad: bool
) -> Samples:
    """Read the data past the cheap part of the doctor (numbers and file headers).

    Raises DataError when it finds errors, unless told to skip the rows at fault, which are then counted.
    """
    annotations = formats.read(data, images)
    diagnosis = doctor.check(annotations, pictures="headers")
    if diagnosis.errors and not skip_bad:
        out.print(diagnosis.table())
        raise DataError(
            f"{data} has {len(diagnosis.errors)} errors (above). Mend them (`solobox check {data} --fix CLEAN.csv` "
            "writes a clean copy), or leave the rows at fault out with --skip-bad"
        )
    if diagnosis.errors:
        bad = set(diagnosis.bad_rows)
        if not bad:
            raise DataError(f"{data}: {diagnosis.errors[0].message}. {diagnosis.errors[0].advice}")
        console.print(
            f"left out: {len(bad)} rows with errors (`solobox check {data}` lists them)", highlight=False
        )
        records = tuple(record for index, record in enumerate(annotations.records) if index not in bad)
        annotations = Annotations(annotations.path, annotations.format, annotations.convention, records)
    samples = Samples.from_annotations(annotations, keep=keep, skip_bad=skip_bad)
    console.print(samples.summary(), highlight=False, markup=False)
    return samples


def _read_config(path: Path | None) -> tuple[str, dict[str, Any]]:
    if path is None:
        return "quick", {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    name = table.pop("recipe", "quick")
    return str(name), table
