"""Margins: do they hold what they promise, and how wide are they? `python bench/margins.py [--size 224]`.

A localizer is trained once on the training part of Caltech, and once on drawn scenes, and its predictions of images
that it never saw are frozen. They are split at random, again and again, into a half that calibrates and a half that is
covered or not. Mean joint coverage has to lie in [level, level + 1 / (n + 1)], to three standard errors of so many
splits (taken from the splits themselves). Beside it, by the same splits: Bonferroni's correction (each edge by itself,
at a quarter of the risk), and scores that are not normalised by the head's own spread but by the box's size, or not at
all. Areas are means over the covered half, of the outer box in terms of the predicted one; that is defined for every
image, which the ratio to the inner box is not: its median is given, where more than half have one.

Then the pipeline as it is, over seeds: calibrated by `train` on the images that also chose its epoch and, where there
are few, on training images by cross-fitting, measured on the test part.

Last, `--only labels`: what the training images add. From the features of all images of a set, again and again, 100 or
400 of them are drawn as the labels, a head is trained on nine tenths of these as `train` does it, and its margins
are calibrated on the last tenth, or on all labels. Coverage is that of all other images; it varies by itself by 0.013
to 0.019, since there are 250 to 500 of them.

And `--only runs`: the same by whole runs of `train` with default settings, on licence plates, which have a second look;
and how much of the training's time the calibration takes.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from datasets import caltech, whole
from solobox import Dataset, Localizer, Recipe, synthetic, train
from solobox.boxes import Floats, area
from solobox.cli.console import quieten
from solobox.data.splits import ranked
from solobox.predict.predictor import PredictOptions, finish
from solobox.training import training_run
from solobox.training.calibrate import CalibrationImages, CalibrationResult, HeldOut, calibrate
from solobox.training.cross_conformal import held_out
from solobox.training.crossval import CrossValidator
from solobox.training.folds import groups_of
from solobox.training.refined_folds import boxes_and_std
from solobox.training.stages import LocalizerHead
from solobox.uncertainty.conformal import Calibration, scales, scores
from solobox.uncertainty.quantiles import quantile

LEVELS = (0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Frozen:
    """Predictions of images that were not trained on: (n, 4) boxes and spreads, (n, 2) sizes, in pixels."""

    truth: Floats
    boxes: Floats
    std: Floats
    size: Floats


def frozen(training: Dataset, others: Dataset, size: int, seed: int) -> Frozen:
    recipe = Recipe.from_preset("quick", {"test": 0.0, "size": size, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        found = train(training, Path(folder) / "run", recipe).predict(list(others.images))
    return Frozen(
        others.boxes,
        np.stack([one.box for one in found]),
        np.stack([one.std for one in found]),
        np.array([one.size for one in found], dtype=np.float64),
    )


def by_spread(of: Frozen) -> Floats:
    return scales(of.boxes, of.std)


def by_box(of: Frozen) -> Floats:
    return scales(of.boxes, np.full_like(of.std, np.nan))


def by_nothing(of: Frozen) -> Floats:
    """The same share of the image for all."""
    return np.tile(of.size, 2)


Margin = Callable[[Floats, float], Floats]
"""From errors in scales (n, 4) of the half that calibrates, and a level, to factors (4,)."""


def jointly(errors: Floats, level: float) -> Floats:
    return np.full(4, quantile(errors.max(axis=1), level))


def bonferroni(errors: Floats, level: float) -> Floats:
    return np.array([quantile(edge, 1 - (1 - level) / 4) for edge in errors.T])


RIVALS: dict[str, tuple[Callable[[Frozen], Floats], Margin]] = {
    "ours: largest error by spread": (by_spread, jointly),
    "Bonferroni, by spread": (by_spread, bonferroni),
    "largest error by the box's size": (by_box, jointly),
    "Bonferroni, by the box's size": (by_box, bonferroni),
    "largest error, not normalised": (by_nothing, jointly),
    "Bonferroni, not normalised": (by_nothing, bonferroni),
}


def splits(of: Frozen, name: str, times: int) -> None:
    count = len(of.truth)
    half = count // 2
    share = area(of.truth) / of.size.prod(axis=1)
    thirds = np.digitize(share, np.quantile(share, [1 / 3, 2 / 3]))
    print(f"\n{name}: {count} frozen predictions, {half} of them calibrate, {times} splits")
    print(f"{'':34s} level  covered (s.e.)     in the band  outer/box  outer/inner  thirds, small to large")
    for rival, (scale_of, margin_of) in RIVALS.items():
        unit = scale_of(of)
        errors = np.abs(of.truth - of.boxes) / unit
        for level in LEVELS:
            coverage, grown, hollow = [], [], []
            by_third: list[list[float]] = [[], [], []]
            for number in range(times):
                order = np.random.default_rng([7, number]).permutation(count)
                fit, rest = order[:half], order[half:]
                factors = margin_of(errors[fit], level)
                inside: np.ndarray = np.all(errors[rest] <= factors, axis=1)
                coverage.append(inside.mean())
                for third in range(3):
                    own = inside[thirds[rest] == third]
                    by_third[third].append(float(own.mean()))
                outer, inner = areas(of, rest, factors * unit[rest])
                grown.append(np.mean(outer / area(of.boxes[rest])))
                hollow.append(np.median(np.where(inner > 0, outer / np.maximum(inner, 1e-9), np.inf)))
            mean, error = float(np.mean(coverage)), float(np.std(coverage, ddof=1)) / times**0.5
            held = level - 3 * error <= mean <= level + 1 / (half + 1) + 3 * error
            shares = " ".join(f"{np.mean(third):.3f}" for third in by_third)
            print(
                f"{rival:34s} {level:5.2f}  {mean:.4f} ({error:.4f})    {'yes' if held else 'NO':>11s}"
                f" {np.mean(grown):10.3f} {np.mean(hollow):12.3f}  {shares}",
                flush=True,
            )


def areas(of: Frozen, rows: np.ndarray, margin: Floats) -> tuple[Floats, Floats]:
    """Of the outer boxes, cut by the image's frame, and of the inner ones; each (n,)."""
    limit, boxes = np.tile(of.size[rows], 2), of.boxes[rows]
    lower, upper = np.clip(boxes - margin, 0, limit), np.clip(boxes + margin, 0, limit)
    outer = np.concatenate([lower[:, :2], upper[:, 2:]], axis=1)
    inner = np.concatenate([upper[:, :2], lower[:, 2:]], axis=1)
    return area(outer), area(inner)


def pipeline(training: Dataset, test: Dataset, size: int, seeds: int) -> None:
    print(f"\nas `train` calibrates it, {seeds} seeds, {len(test)} test images: joint coverage, mean ± s.d.")
    found: dict[float, list[float]] = {}
    for seed in range(seeds):
        recipe = Recipe.from_preset("quick", {"test": 0.0, "size": size, "seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            localizer = train(training, Path(folder) / "run", recipe)
            for level in LEVELS:
                predictions = localizer.predict(list(test.paths), margins=level)
                lower, upper = (
                    np.stack([getattr(one, end) for one in predictions]) for end in ("lower", "upper")
                )
                inside = (test.boxes >= lower - 1e-9) & (test.boxes <= upper + 1e-9)
                found.setdefault(level, []).append(float(inside.all(axis=1).mean()))
    assert localizer.calibration is not None
    for level, rows in found.items():
        print(
            f"{level:5.2f}  {np.mean(rows):.3f} ± {np.std(rows):.3f}   (calibrated on {localizer.calibration.n_images})"
        )


def labels(dataset: Dataset, name: str, count: int, size: int, draws: int) -> None:
    recipe = Recipe.from_preset("quick", {"test": 0.0, "size": size, "refine": "off"})
    found: dict[tuple[str, float], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        heads = CrossValidator.from_dataset(dataset, recipe, folder=Path(folder), min_images=count)
        for draw in range(draws):
            groups = groups_of(dataset)
            rank = {group: at for at, group in enumerate(ranked(set(groups), f"draw {draw}"))}
            order = np.array(sorted(range(len(dataset)), key=lambda row: rank[groups[row]]))
            tenth, chosen, others = order[: count // 10], order[:count], order[count:]
            rows = np.arange(len(dataset))
            training = np.isin(rows, chosen[count // 10 :])
            head = heads.fit(training, seed=draw)
            tested, validation = held_out_by(heads, head, others), held_out_by(heads, head, tenth)
            final = replace(heads, localizer=heads.localizer_of(head))
            crossed = held_out(final, training, std_of_unseen=partial(std_of, heads, rows=tenth))
            assert crossed is not None
            for way, calibration in (
                ("validation images", validation.calibration()),
                ("all labels", (validation + crossed).calibration()),
            ):
                for level in LEVELS:
                    if level in calibration.two_sided:
                        errors = scores(tested.truth, tested.predicted, tested.scale)
                        inside = errors <= calibration.two_sided[level]
                        found.setdefault((way, level), []).append(float(inside.mean()))
    report(name, count, len(dataset) - count, found)


def runs(dataset: Dataset, name: str, count: int, draws: int) -> None:
    found: dict[tuple[str, float], list[float]] = {}
    seconds: list[tuple[float, float]] = []
    groups = groups_of(dataset)
    for draw in range(draws):
        rank = {group: at for at, group in enumerate(ranked(set(groups), f"draw {draw}"))}
        order = np.array(sorted(range(len(dataset)), key=lambda row: rank[groups[row]]))
        chosen, others = dataset.select(order[:count]), dataset.select(order[count:])
        recipe = Recipe.from_preset("quick", {"test": 0.0, "seed": draw})
        alone: list[Calibration] = []

        def both(
            training: CalibrationImages, validation: CalibrationImages, *,
            frozen: bool, more: HeldOut | None = None, alone: list[Calibration] = alone,
        ) -> CalibrationResult:  # fmt: skip
            alone.append(calibrate(training, validation, frozen=frozen).calibration)
            return calibrate(training, validation, frozen=frozen, more=more)

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(training_run, "calibrate", both):
            localizer = train(replace(chosen, split=("",) * count), Path(folder) / "run", recipe)
        laps: Any = localizer.metadata["seconds"]
        seconds.append((laps["calibration"], sum(laps.values())))
        predictions = localizer.predict(list(others.images))
        assert localizer.calibration is not None
        for way, calibration in ("validation images", alone[0]), ("all labels", localizer.calibration):
            for level in LEVELS:
                if level in calibration.two_sided:
                    options = PredictOptions(margins=level)
                    ends = [finish(one, calibration, level, options) for one in predictions]
                    lower, upper = (
                        np.stack([getattr(one, end) for one in ends]) for end in ("lower", "upper")
                    )
                    inside = (others.boxes >= lower - 1e-9) & (others.boxes <= upper + 1e-9)
                    found.setdefault((way, level), []).append(float(inside.all(axis=1).mean()))
    report(f"{name}, whole runs", count, len(dataset) - count, found)
    took, whole = np.sum(seconds, axis=0)
    print(
        f"calibration takes {took / whole:.2f} of the training's seconds, which are {whole / draws:.0f}",
        flush=True,
    )


def report(name: str, count: int, others: int, found: Mapping[tuple[str, float], Sequence[float]]) -> None:
    print(f"\n{name}: {count} labels, {others} other images, coverage: mean ± s.d. (least), draws")
    for (way, level), values in sorted(found.items()):
        spread = f"{np.mean(values):.3f} ± {np.std(values):.3f} ({min(values):.3f})"
        print(f"{way:18s} {level:5.2f}  {spread}  {len(values)}", flush=True)


def held_out_by(heads: CrossValidator, head: LocalizerHead, rows: np.ndarray) -> HeldOut:
    output = heads.outputs(head, rows)
    truth = torch.from_numpy(heads.images.boxes(rows)).float()
    return HeldOut.of(truth, output.boxes, output.std(), [heads.images.dataset.group[row] for row in rows])


def std_of(heads: CrossValidator, localizer: Localizer, rows: np.ndarray) -> Floats:
    return boxes_and_std(heads.outputs(LocalizerHead(localizer), rows))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", choices=("splits", "pipeline", "labels", "runs"), help="only this part")
    parser.add_argument("--sets", nargs="+", default=["airplane", "face", "synthetic"], help="for labels")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 400], help="for labels")
    arguments = parser.parse_args()
    quieten()
    if arguments.only in ("labels", None):
        with tempfile.TemporaryDirectory() as folder:
            for name in arguments.sets:
                dataset = synthetic.write(folder, 900, seed=12) if name == "synthetic" else whole(name)
                dataset = dataset.with_auto_groups()
                for count in arguments.counts:
                    if count < len(dataset) * 0.8:
                        labels(dataset, name, count, arguments.size, arguments.draws)
    if arguments.only == "runs":
        frames = whole("plates")
        for count in arguments.counts:
            if count < len(frames) * 0.8:
                runs(frames, "plates", count, arguments.draws)
    if arguments.only in ("labels", "runs"):
        return
    training, test = caltech()
    if arguments.only != "splits":
        pipeline(training, test, arguments.size, arguments.seeds)
    if arguments.only == "pipeline":
        return
    splits(frozen(training, test, arguments.size, 0), "Caltech", arguments.splits)
    with tempfile.TemporaryDirectory() as folder:
        drawn = synthetic.write(folder, 1100, seed=11)
        rows = np.arange(len(drawn))
        made = frozen(drawn.select(rows < 600), drawn.select(rows >= 600), arguments.size, 0)
    splits(made, "synthetic", arguments.splits)


if __name__ == "__main__":
    main()
