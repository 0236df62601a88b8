"""Whether margins by the size of the object, and outer boxes by the share they cut off, hold what they promise.

`python bench/margins_by_size.py [--only sizes|risk]`. All images of a set are predicted by two heads, each trained on
the other half, and these predictions are split, again and again, by groups: `--calibrate` of the images give margins,
the others are covered or not.

Sizes, by thirds of the predicted size: one quantile for all; ours, one for each third, or half, where there are plenty;
and one for all after the scores are divided by a power of the size, which a line through their logarithms gives. Risk:
the share of the object that the outer box cuts off, asked for and measured, beside that of outer boxes for a
probability.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets import caltech, joined, whole
from margins import LEVELS
from solobox import Dataset, Recipe, synthetic
from solobox.boxes import Floats, area, object_sides
from solobox.cli.console import quieten
from solobox.training.calibrate import HeldOut
from solobox.training.cross_conformal import held_out
from solobox.training.crossval import CrossValidator
from solobox.uncertainty.conformal import scores
from solobox.uncertainty.quantiles import quantile
from solobox.uncertainty.risk import cut_off


def select(held_out: HeldOut, rows: np.ndarray) -> HeldOut:
    groups = tuple(held_out.groups[row] for row in rows.tolist())
    return HeldOut(held_out.truth[rows], held_out.predicted[rows], held_out.scale[rows], groups)


def of_whole_set(dataset: Dataset, size: int) -> HeldOut:
    recipe = Recipe.from_preset("quick", {"test": 0.0, "size": size, "refine": "off"})
    with tempfile.TemporaryDirectory() as folder:
        half = len(dataset) // 2
        heads = CrossValidator.from_dataset(
            dataset, recipe, folder=Path(folder), min_images=half, skip_bad=True
        )
        found = held_out(heads)
    assert found is not None
    return found


def group_splits(held_out: HeldOut, count: int, times: int) -> Iterator[tuple[HeldOut, HeldOut]]:
    """About `count` images, in whole groups, and the others."""
    names = np.array([name or f"\0{row}" for row, name in enumerate(held_out.groups)], dtype=object)
    _, group = np.unique(names, return_inverse=True)
    for number in range(times):
        rank = np.random.default_rng([9, number]).permutation(int(group.max()) + 1)[group]
        order = np.argsort(rank, kind="stable")
        cut = count
        while cut < len(order) and group[order[cut]] == group[order[cut - 1]]:
            cut += 1
        yield select(held_out, np.sort(order[:cut])), select(held_out, np.sort(order[cut:]))


Way = Callable[[HeldOut, HeldOut, float], Floats]
"""From calibration images, others and a level to the factors of the others' scales."""


def one_quantile(fit: HeldOut, others: HeldOut, level: float) -> Floats:
    return np.full(len(others.truth), fit.calibration().factor(level))


def by_category(fit: HeldOut, others: HeldOut, level: float) -> Floats:
    calibration = fit.calibration()
    return np.array(calibration.factors(level))[calibration.category(others.predicted, (1, 1))]


def by_power_of_size(fit: HeldOut, others: HeldOut, level: float) -> Floats:
    mine, theirs = (np.log(object_sides(each.predicted, (1, 1))) for each in (fit, others))
    score = scores(fit.truth, fit.predicted, fit.scale)
    slope = np.polyfit(mine, np.log(np.maximum(score, 1e-6)), 1)[0]
    groups = fit.groups if any(fit.groups) else None
    factor = quantile(score / np.exp(slope * mine), level, groups)
    return np.asarray(factor * np.exp(slope * theirs.clip(mine.min(), mine.max())), dtype=np.float64)


WAYS: dict[str, Way] = {
    "one quantile": one_quantile,
    "by category": by_category,
    "by a power": by_power_of_size,
}


def outer_boxes(of: HeldOut, factors: Floats) -> Floats:
    margin = factors[:, np.newaxis] * of.scale
    low, high = (of.predicted - margin)[:, :2], (of.predicted + margin)[:, 2:]
    return np.concatenate([low, high], axis=1).clip(0, 1)


def sizes(held_out: HeldOut, name: str, count: int, times: int) -> None:
    print(f"\n{name}: about {count} of {len(held_out.truth)} images calibrate, {times} splits")
    print("| way | level | covered: mean ± s.d. | thirds of predicted size, mean | ± s.d. | outer/box |")
    print("|---|---|---|---|---|---|")
    pairs = list(group_splits(held_out, count, times))
    for level in LEVELS:
        for way, factors_of in WAYS.items():
            covered, thirds, grown = [], [], []
            for fit, others in pairs:
                factors = factors_of(fit, others, level)
                inside: np.ndarray = scores(others.truth, others.predicted, others.scale) <= factors
                order = np.argsort(object_sides(others.predicted, (1, 1)), kind="stable")
                covered.append(inside.mean())
                thirds.append([inside[rows].mean() for rows in np.array_split(order, 3)])
                ratio = area(outer_boxes(others, factors)) / np.maximum(area(others.predicted), 1e-9)
                grown.append(np.exp(np.log(ratio).mean()))
            mean, spread = np.mean(thirds, axis=0), np.std(thirds, axis=0)
            print(
                f"| {way} | {level} | {np.mean(covered):.3f} ± {np.std(covered):.3f} | "
                f"{' '.join(f'{each:.3f}' for each in mean)} | {' '.join(f'{each:.3f}' for each in spread)} | "
                f"{np.mean(grown):.3f} |",
                flush=True,
            )


def risk(held_out: HeldOut, name: str, count: int, times: int) -> None:
    print(f"\n{name}: about {count} of {len(held_out.truth)} images calibrate, {times} splits")
    print("| outer box | cut off: mean ± s.d. | images cut | outer/box |\n|---|---|---|---|")
    pairs = list(group_splits(held_out, count, times))
    for what, asked in (
        *(("max_cut", cut) for cut in (0.01, 0.02, 0.05)),
        *(("outer", level) for level in LEVELS),
    ):
        lost, share, grown = [], [], []
        for fit, others in pairs:
            calibration = fit.calibration()
            if what == "max_cut" and asked not in calibration.cut:
                continue
            bounds = (
                calibration.margins_for_cut(others.predicted, others.scale, (1, 1), asked) if what == "max_cut"
                else calibration.margins(others.predicted, others.scale, (1, 1), asked, outer=True)
            )  # fmt: skip
            box = np.concatenate([bounds[0][:, :2], bounds[1][:, 2:]], axis=1)
            cut = cut_off(others.truth.clip(0, 1), box)
            lost.append(cut.mean())
            share.append((cut > 1e-9).mean())
            ratio = area(box) / np.maximum(area(others.predicted), 1e-9)
            grown.append(np.exp(np.log(ratio).mean()))
        if lost:
            print(
                f"| {what} {asked} | {np.mean(lost):.4f} ± {np.std(lost):.4f} | {np.mean(share):.3f} | "
                f"{np.mean(grown):.3f} |",
                flush=True,
            )


def by_name(name: str, folder: str) -> Dataset:
    if name == "synthetic":
        return synthetic.write(folder, 600, seed=12)
    if name == "caltech":
        return joined(*caltech())
    dataset = whole(name)
    return replace(dataset, split=("",) * len(dataset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--splits", type=int, default=60)
    parser.add_argument("--only", choices=("sizes", "risk"), help="only this part")
    parser.add_argument("--sets", nargs="+", default=["airplane", "synthetic", "kangaroo", "plates"])
    parser.add_argument("--calibrate", type=float, default=0.6, help="share of the images")
    arguments = parser.parse_args()
    quieten()
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as folder:
            held_out = of_whole_set(by_name(name, folder).with_auto_groups(), arguments.size)
        count = round(arguments.calibrate * len(held_out.truth))
        if arguments.only != "risk":
            sizes(held_out, name, count, arguments.splits)
        if arguments.only != "sizes":
            risk(held_out, name, count, arguments.splits)


if __name__ == "__main__":
    main()
