"""The learning curve: the accuracy of heads trained on fewer labels, and the gain expected from more.

Every size of training set is evaluated on the same held-out images, and each training set contains the smaller ones.
The gain from more labels is extrapolated by an inverse power law, which test errors follow over wide ranges of training
set sizes (Cortes et al., 1994, "Learning Curves:
Asymptotic Values and Rate of Convergence"; Figueroa et al., 2012, "Predicting sample size required for classification
performance"; Hestness et al., 2017, "Deep Learning Scaling is Predictable, Empirically"). It does not
cover labels of another kind: other scenes, better boxes.
"""

import csv
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.config.recipe import Recipe, check_repetitions
from solobox.data.dataset import Dataset
from solobox.data.splits import ranked
from solobox.errors import DataError
from solobox.training.crossval import CrossValidator
from solobox.training.folds import assign_folds, groups_of
from solobox.training.refined_folds import FirstLooks
from solobox.utils.atomic import replacing
from solobox.utils.progress import Progress

Kind: TypeAlias = Literal["measured", "expected"]
Mask: TypeAlias = npt.NDArray[np.bool_]

MIN_IMAGES = 16
"""The fewest images with a box for a learning curve."""

LEVEL = 0.95
"""Confidence level of the bands."""

_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of all labels; the last size is all that is not held out."""

_BOOTSTRAP_SAMPLES = 1000

_EXPONENTS = np.geomspace(0.1, 2, 61)
"""The grid of exponents."""

MIN_GAIN = 0.005
"""A gain of mean IoU below which twice as many labels are not worth it."""

_MAX_BAND = 0.02
"""Width of a gain's band above which, if it begins below `MIN_GAIN`, the gain is unknown."""


@dataclass(frozen=True, slots=True)
class Law:
    """Mean IoU of n training images: ``a - b * n ** -c`` with ``a <= 1``, ``b >= 0`` and ``c > 0``."""

    a: float
    b: float
    c: float

    def __call__(self, images: float) -> float:
        """The expected mean IoU."""
        return float(self.a - self.b * images**-self.c)


@dataclass(frozen=True, slots=True)
class Point:
    """A size of the training set in images, the mean IoU, and its 95% band."""

    images: int
    mean_iou: float
    lower: float
    upper: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain of mean IoU expected from twice as many labels, and its 95% band."""

    expected: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Measured sizes, then all labels and twice as many, extrapolated by the law; sizes ascend."""

    points: tuple[Point, ...]
    law: Law
    gain: Gain

    def sentence(self) -> str:
        """The gain expected from twice as many labels, in a sentence."""
        gain, twice = self.gain, f"twice as many labels ({self.points[-1].images:,} images)"
        if gain.upper < MIN_GAIN:
            return f"Hardly any gain is expected from {twice}: less than {MIN_GAIN:g} mean IoU."
        if gain.lower < MIN_GAIN and gain.upper - gain.lower > _MAX_BAND:
            return (
                f"The gain from {twice} is uncertain: between {gain.lower:.3f} and {gain.upper:.3f} mean IoU."
            )
        return (
            f"{twice.capitalize()} are expected to bring about +{gain.expected:.3f} mean IoU ({gain.lower:.3f} to "
            f"{gain.upper:.3f})."
        )

    def write(self, path: Path) -> None:
        """A CSV with ``images,mean_iou,lower,upper,kind``, a row for each point. Raises DataError as `replacing`."""
        with replacing(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["images", "mean_iou", "lower", "upper", "kind"])
            for point in self.points:
                figures = [f"{value:.6f}" for value in (point.mean_iou, point.lower, point.upper)]
                writer.writerow([point.images, *figures, point.kind])


def learning_curve(
    dataset: Dataset,
    recipe: Recipe,
    *,
    repetitions: int = 5,
    skip_bad: bool = False,
    auto_group: bool = True,
    progress: Progress | None = None,
) -> Curve:
    """Measure the learning curve of labelled images.

    dataset: images without a box or with one that nobody looked at (`Dataset.is_predicted`), and those whose split is
        test, are left out; all others are used.
    repetitions: 3 or more. The number of folds; groups stay whole.
    skip_bad: leave out images that cannot be read, rather than raise DataError.
    auto_group: keep copies of an image together, see `Dataset.with_auto_groups`.

    Where objects are small, each size is measured with a second look if that is better, as `train` decides.

    Raises DataError where there are fewer than `MIN_IMAGES` images, or too few or too large groups; ConfigError for too
    few repetitions, and for a recipe that trains the backbone.
    """
    judged = dataset.has_box & ~dataset.is_predicted
    dataset = dataset.select(judged & (np.array(dataset.split) != "test"))
    dataset = dataset.with_auto_groups(progress) if auto_group else dataset
    _check_enough(len(dataset), len(set(groups_of(dataset))), repetitions)
    with tempfile.TemporaryDirectory(prefix="solobox-") as folder:
        min_images = max(round(len(dataset) * _SHARES[0]), 1)
        validator = CrossValidator.from_dataset(
            dataset, recipe, folder=Path(folder), min_images=min_images, skip_bad=skip_bad, progress=progress
        )
        readable = validator.images.readable
        groups = np.array(groups_of(dataset))
        _check_enough(int(readable.sum()), len(set(groups[readable].tolist())), repetitions)
        fold = np.where(readable, assign_folds(dataset, repetitions), -1)
        firsts = [FirstLooks(fold) for _ in (*_SHARES, 1)]
        started = time.monotonic()
        for number in range(repetitions):
            if number == 1 and progress is not None:
                minutes = (repetitions - 1) * (time.monotonic() - started) / 60
                more = ", second looks not counted" if validator.may_refine else ""
                progress.say(f"the other {repetitions - 1} folds will take about {minutes:.1f} min{more}")
            held_out, available = np.flatnonzero(fold == number), (fold >= 0) & (fold != number)
            counts = [share * readable.sum() for share in _SHARES]
            for index, chosen in enumerate(nested(groups, available, counts, f"curve {number}")):
                stage = f"{chosen.sum():,} images, {number + 1} of {repetitions}"
                head = validator.fit(chosen, stage, seed=(recipe.seed + number) % 2**63)
                firsts[index].add(validator.localizer_of(head), chosen, validator.outputs(head, held_out))
        boxes = []
        for first in firsts:
            looks = validator.refine(first) or first.looks
            boxes.append(looks.boxes[readable].clip(0, 1))
        ious = geometry.iou(boxes, validator.images.boxes(np.flatnonzero(readable)))
    sizes = np.array([np.mean([mask.sum() for mask in first.trained]) for first in firsts])
    return fit_curve(sizes, ious, fold[readable], groups[readable], seed=recipe.seed)


def nested(groups: npt.ArrayLike, available: Mask, sizes: list[float], purpose: str) -> list[Mask]:
    """Nested sets of whole groups, ascending; the last is all of `available`.

    groups: of each of N images. available: (N,), which may be chosen. sizes: approximate numbers of images, ascending.
    purpose: the key of the hash that orders the groups.

    Returns masks (N,), one more than `sizes`; none is empty.
    """
    names = np.asarray(groups)
    order = list(ranked(set(names[available].tolist()), purpose))
    counts = np.array([int((names[available] == group).sum()) for group in order])
    midpoints = np.cumsum(counts) - counts / 2
    chosen = [max(int(np.searchsorted(midpoints, count, side="right")), 1) for count in sizes]
    return [available & np.isin(names, order[:number]) for number in (*chosen, len(order))]


def fit_curve(
    sizes: Floats, ious: Floats, fold: npt.ArrayLike, groups: npt.ArrayLike, *, seed: int = 0
) -> Curve:
    """The curve through measured IoUs.

    sizes: (K,) training images, ascending. ious: (K, N), of each held-out image. fold: (N,), in which it was held out.
    groups: (N,), of each image.

    The bands come from a two-stage bootstrap, of folds and of groups in each of them, the same for all sizes (Davison &
    Hinkley, 1997, "Bootstrap Methods and their Application", 3.8); the law is fitted to each sample.
    Raises DataError where the largest size is less than twice the smallest.
    """
    count = ious.shape[1]
    if sizes[-1] < 2 * sizes[0]:
        raise DataError(
            f"the groups are too large for a learning curve: the smallest training set has {sizes[0]:.0f} images and "
            f"the largest {sizes[-1]:.0f}"
        )
    means = ious.mean(axis=1)
    drawn = _bootstrap(ious, np.asarray(fold), np.asarray(groups), seed)
    law, laws = fit_laws(sizes, means[np.newaxis])[0], fit_laws(sizes, drawn)
    points = [
        Point(round(size), float(mean), *_band(column), "measured")
        for size, mean, column in zip(sizes.tolist(), means, drawn.T, strict=True)
    ]
    expected = []
    for size in (count, 2 * count):
        column = _at(laws, size)
        expected.append(column)
        points.append(Point(size, float(_at(law, size)), *_band(column), "expected"))
    gain = Gain(float(_at(law, 2 * count) - _at(law, count)), *_band(expected[1] - expected[0]))
    return Curve(tuple(points), Law(*law.tolist()), gain)


def fit_laws(sizes: Floats, ious: Floats) -> Floats:
    """The laws with the least squared errors: (K,) sizes and B times (K,) mean IoUs, (B, K), to (B, 3) ``a, b, c``.

    Errors of larger sets weigh more, in proportion to their rank (Figueroa et al., 2012): small sets differ more from
    draw to draw, and follow the law less. For each exponent on a grid, ``a`` and ``b`` have a closed form.
    """
    weights = np.arange(1, len(sizes) + 1, dtype=np.float64)
    weights /= weights.sum()
    x = sizes ** -_EXPONENTS[:, np.newaxis]  # (C, K)
    x_mean, y_mean = x @ weights, ious @ weights  # (C,), (B,)
    x_off, y_off = x - x_mean[:, np.newaxis], ious - y_mean[:, np.newaxis]
    slopes = -(y_off * weights) @ x_off.T / (weights * x_off**2).sum(axis=1)  # (B, C)
    b = np.maximum(slopes, 0)
    a = y_mean[:, np.newaxis] + b * x_mean
    # Where a > 1, the best law with a = 1: the sum of squares is convex.
    capped = ((1 - ious) * weights) @ x.T / (weights * x**2).sum(axis=1)
    b, a = np.where(a > 1, np.maximum(capped, 0), b), np.minimum(a, 1)
    errors = ((ious[:, np.newaxis] - a[..., np.newaxis] + b[..., np.newaxis] * x) ** 2 * weights).sum(axis=2)
    best = errors.argmin(axis=1)
    rows = np.arange(len(ious))
    return np.stack([a[rows, best], b[rows, best], _EXPONENTS[best]], axis=1)


def _at(laws: Floats, images: int) -> Floats:
    """Mean IoU by laws (..., 3) at a size."""
    a, b, c = np.moveaxis(laws, -1, 0)
    return np.asarray(a - b * float(images) ** -c, dtype=np.float64)


def _bootstrap(ious: Floats, fold: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], seed: int) -> Floats:
    """Mean IoUs (samples, K) of folds and groups in them, drawn with replacement."""
    random = np.random.default_rng(seed)
    sums = []  # of each fold (groups, K + 1); the last column counts images
    for number in np.unique(fold):
        held_out = fold == number
        _, member = np.unique(groups[held_out], return_inverse=True)
        columns = [*ious[:, held_out], np.ones(held_out.sum())]
        sums.append(np.stack([np.bincount(member, column) for column in columns], axis=1))
    drawn = np.zeros((_BOOTSTRAP_SAMPLES, len(ious) + 1))
    for draw in range(_BOOTSTRAP_SAMPLES):
        for number in random.integers(len(sums), size=len(sums)):
            rows = sums[number]
            drawn[draw] += np.bincount(random.integers(len(rows), size=len(rows)), minlength=len(rows)) @ rows
    return np.asarray(drawn[:, :-1] / drawn[:, -1:], dtype=np.float64)


def _band(values: Floats) -> tuple[float, float]:
    lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def _check_enough(images: int, groups: int, repetitions: int) -> None:
    check_repetitions(repetitions)
    if images < MIN_IMAGES:
        raise DataError(
            f"{images} images with a box that can be read are too few for a learning curve, which needs {MIN_IMAGES}: "
            "label more"
        )
    if groups < repetitions:
        raise DataError(
            f"{groups} groups of images with a box are too few for {repetitions} folds: label images of more "
            "groups, or use fewer repetitions"
        )
