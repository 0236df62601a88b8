"""Is the object there at all, and is the image like those that were trained on? `python bench/presence.py`.

Presence: drawn scenes of which 30% are empty, and Caltech's faces with airplanes as images without a face, by the
split rule; AUROC and expected calibration error (15 bins) on the test part, and the mean IoU of the images with the
object, beside that of the same recipe that was shown these alone. Familiarity: a model of faces is shown faces that it
never saw, and kangaroos and airplanes; the share that is told as unlike (a figure of at most 0.05, 0.01), and the AUROC
of the figure.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from datasets import caltech, joined, kangaroo
from solobox import Architecture, Dataset, Localizer, Recipe, synthetic, train
from solobox.boxes import iou
from solobox.cli.console import quieten
from solobox.evaluation.presence_metrics import auroc, calibration_error, reliability


def faces(dataset: Dataset, *, only: bool = False) -> Dataset:
    """Airplanes without their boxes, or left out."""
    is_face = np.array([label == "face" for label in dataset.label])
    if only:
        return dataset.select(is_face)
    boxes = np.where(is_face[:, None], dataset.boxes, np.nan)
    return Dataset(dataset.images, boxes, label=dataset.label, names=dataset.names, where=dataset.where)


def trained(dataset: Dataset, size: int, seed: int) -> Localizer:
    recipe = Recipe.from_preset("quick", {"test": 0.0, "size": size, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        return train(dataset, Path(folder) / "run", recipe)


def overlap(localizer: Localizer, dataset: Dataset) -> float:
    found = np.stack([one.box for one in localizer.predict(list(dataset.images))])
    return float(iou(found, dataset.boxes).mean())


def presence(name: str, training: Dataset, test: Dataset, size: int, seeds: int) -> None:
    rows = []
    for seed in range(seeds):
        localizer = trained(training, size, seed)
        told = np.array([one.presence for one in localizer.predict(list(test.images))])
        there = test.has_box
        error = calibration_error(reliability(told, there))
        both = overlap(localizer, test.positives())
        alone = overlap(trained(training.positives(), size, seed), test.positives())
        rows.append((auroc(told[there], told[~there]), error, both, alone, both - alone))
    mean, std = np.mean(rows, axis=0), np.std(rows, axis=0)
    cells = "  ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, std, strict=True))
    print(f"{name:28s} {cells}", flush=True)


def familiarity(
    training: Dataset, test: Dataset, others: dict[str, list[Path]], size: int, seeds: int
) -> None:
    print(
        f"\nfamiliarity, a model of faces, {seeds} seeds: "
        "shares of at most 0.05 and 0.01, median, AUROC against faces"
    )
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        localizer = trained(training, size, seed)
        own = np.array([one.familiarity for one in localizer.predict(list(test.images))])
        for name, images in {"faces not seen": list(test.paths), **others}.items():
            told = np.array([one.familiarity for one in localizer.predict(images)])
            told = told[np.isfinite(told)]  # one of the kangaroos is truncated
            row = [
                float((told <= 0.05).mean()),
                float((told <= 0.01).mean()),
                float(np.median(told)),
                auroc(own, told),
            ]
            found.setdefault(name, []).append(row)
    for name, rows in found.items():
        print(
            f"{name:28s} "
            + "  ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(np.mean(rows, 0), np.std(rows, 0), strict=True))
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=Architecture().side)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    quieten()
    training, test = caltech()
    size, seeds = arguments.size, arguments.seeds
    print(
        f"{'presence':28s} "
        + "  ".join(f"{head:>15s}" for head in ("AUROC", "ECE", "mean IoU", "without empties", "difference"))
    )
    presence("faces, airplanes as empty", faces(training), faces(test), size, seeds)
    with tempfile.TemporaryDirectory() as folder:
        drawn = synthetic.write(folder, 2000, seed=12, empty_share=0.3)
        rows = np.arange(len(drawn))
        presence("scenes, 30% empty", drawn.select(rows < 800), drawn.select(rows >= 800), size, seeds)
    every_kangaroo = joined(*kangaroo())
    planes = [image for image, label in zip(test.paths, test.label, strict=True) if label != "face"]
    others = {"kangaroos": list(every_kangaroo.paths), "airplanes": planes}
    familiarity(faces(training, only=True), faces(test, only=True), others, size, seeds)


if __name__ == "__main__":
    main()
