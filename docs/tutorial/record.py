"""Run the tutorial's commands and keep their output and pictures for its page: `python docs/tutorial/record.py`.

By hand, when what they print has changed: it trains for a minute or more, too long for each build of the site.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import solobox
from solobox import synthetic
from solobox.images.drawing import Tile, contact_sheet, predicted, truth
from solobox.images.reading import decode

HERE = Path(__file__).parent
COMMANDS = {
    "check": "check labels.csv",
    "train": "train labels.csv -o run",
    "evaluate": "evaluate run labels.csv --report report.html",
    "predict": "predict run photos/ -o boxes.csv --margins 0.9 --draw drawn/",
    "export": "export run -o model.onnx --check labels.csv",
}


def main() -> None:
    """Write the outputs and the pictures beside this file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synthetic.write(folder, 300, size=(320, 240))
        (folder / "images").rename(folder / "photos")
        text = (folder / "annotations.csv").read_text(encoding="utf-8").replace("images/", "photos/")
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        for title, command in COMMANDS.items():
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-m", "solobox", *command.split()],
                cwd=folder, env=os.environ | {"COLUMNS": "96"}, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            output = "\n".join(line.rstrip() for line in done.stdout.splitlines())
            if output.strip():
                (HERE / f"{title}.txt").write_text(output.strip() + "\n", encoding="utf-8")
        rows = (folder / "boxes.csv").read_text(encoding="utf-8").splitlines()[:4]
        (HERE / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        draw(folder)


def draw(folder: Path) -> None:
    """Draw eight test images with the true box, the predicted one and its margins."""
    data = solobox.Dataset.read(folder / "labels.csv").with_splits().of_split("test")
    tiles: list[Tile] = []
    for sample, prediction in zip(
        data, solobox.load(folder / "run").predict(data.paths, margins=0.9), strict=True
    ):
        outlines = [predicted(prediction.box, lower=prediction.lower, upper=prediction.upper)]
        if sample.box is not None:
            outlines.append(truth(sample.box))
        tiles.append((decode(sample.image).pixels, outlines, ""))
    legend = [truth([0, 0, 1, 1], "true box"), predicted([0, 0, 1, 1], "predicted box, and its margins")]
    contact_sheet(tiles[:8], columns=4, tile=240, legend=legend).save(HERE / "margins.jpg", quality=85)


if __name__ == "__main__":
    main()
