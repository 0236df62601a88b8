"""``solobox demo``: training, evaluation and prediction on synthetic images."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter
from PIL import Image

from solobox import synthetic
from solobox.cli.console import (
    bars,
    command_line,
    console,
    metrics_rows,
    metrics_table,
    out,
    say,
    uncertainty_lines,
)
from solobox.errors import DataError
from solobox.images.drawing import Tile, contact_sheet, predicted, truth
from solobox.images.reading import decode
from solobox.predict.writers import write
from solobox.utils.atomic import explained, replacing

if TYPE_CHECKING:
    from solobox.evaluation.metrics import Evaluation

IMAGES = 600
_MARK = ".solobox-demo"


def demo(*, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo")) -> None:
    """Draw synthetic images, train on them, evaluate, predict, and write a report, in a minute or two.

    Parameters
    ----------
    output
        The folder to write everything to. An earlier demo in it is replaced; any other folder must be empty.
    """
    _clear(output)
    console.print(f"[bold]1[/] drawing {IMAGES} images")
    dataset = synthetic.write(output / "images", IMAGES, seed=0)
    console.print("[bold]2[/] training (loading PyTorch takes some seconds)")
    from solobox.config.recipe import Recipe
    from solobox.evaluation.evaluate import evaluate
    from solobox.evaluation.report import RunMetadata, write_report
    from solobox.training.train import train

    with bars() as progress:
        localizer = train(dataset, output / "run", Recipe(), progress=progress)
        console.print("[bold]3[/] evaluating on held-out images")
        evaluation = evaluate(localizer, dataset, "test", progress=progress)
    metrics = evaluation.to_dict()
    with replacing(output / "metrics.json") as file:
        json.dump(metrics, file, indent=2)
    for _ in write(output / "boxes.csv", evaluation.predictions):
        pass
    _sheet(evaluation).save(output / "sheet.png")
    write_report(
        output / "report.html",
        evaluation,
        title="Solobox demo",
        run=RunMetadata.from_localizer(localizer, "demo", command_line()),
    )
    out.print(metrics_table("test images", metrics_rows(metrics)))
    for line in uncertainty_lines(evaluation):
        out.print(line, highlight=False, markup=False)
    for name, what in (
        ("sheet.png", "test images with their boxes"), ("report.html", "the report: open it in a browser"),
        ("metrics.json", "the metrics"), ("boxes.csv", "the predicted boxes"),
        ("run", "the trained localizer: solobox predict RUN IMAGES..."),
        ("images", "the images and their labels"),
    ):  # fmt: skip
        say(f"  {output / name}  {what}")


def _clear(folder: Path) -> None:
    """Empty the folder if it holds an earlier demo; refuse any other folder that is not empty."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DataError(
            f"{folder} is a file or a link: choose another folder with -o", code="output-not-empty"
        )
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise DataError(
                f"{folder} is not empty and not an earlier demo: choose another folder with -o",
                code="output-not-empty",
            )
        with explained(folder):
            shutil.rmtree(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("Made by `solobox demo`, which may replace this folder.\n", encoding="utf-8")


def _sheet(evaluation: "Evaluation", count: int = 24) -> Image.Image:
    """A contact sheet of the first test images with both boxes."""
    tiles: list[Tile] = []
    for index in range(min(count, len(evaluation.dataset))):
        prediction = evaluation.predictions[index]
        pixels = decode(evaluation.dataset.images[index]).pixels
        outlines = [predicted(prediction.box), truth(evaluation.dataset.boxes[index])]
        tiles.append((pixels, outlines, f"IoU {evaluation.iou[index]:.2f}"))
    no_box = np.full(4, np.nan)
    return contact_sheet(
        tiles, columns=6, tile=220, legend=[truth(no_box, "true box"), predicted(no_box, "predicted box")]
    )
