"""The learning curve: how good heads are that learnt from a part of the labels, and what more of them would bring.

Every size of training set predicts each held-out part of the images, and each size is a part of the next one, so
that the sizes are compared on the same images. What more labels would bring is read off an inverse power law through
the measured points, which errors of learners follow over wide ranges of sizes (Cortes et al., 1994, "Learning Curves:
Asymptotic Values and Rate of Convergence"; Figueroa et al., 2012, "Predicting sample size required for classification
performance"; Hestness et al., 2017, "Deep Learning Scaling is Predictable, Empirically"). Such a law says nothing of
labels of another kind than those there are: other places, better boxes.
"""

import csv
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.config.recipe import Recipe
from solobox.data.dataset import Dataset
from solobox.data.splits import ranked
from solobox.errors import ConfigError, DataError
from solobox.training.crossval import CrossValidator, assign_folds, groups_of
from solobox.utils.atomic import replacing
from solobox.utils.progress import Progress

Kind: TypeAlias = Literal["measured", "expected"]
Mask: TypeAlias = npt.NDArray[np.bool_]

MIN_IMAGES = 16
"""Images with a box, fewer of which have no curve that is worth drawing."""

LEVEL = 0.95
"""The probability of the bands."""

_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of all labels; what is not held out is the last size."""

_BOOTSTRAP_SAMPLES = 1000

_EXPONENTS = np.geomspace(0.1, 2, 61)
"""Exponents that are tried."""

MIN_GAIN = 0.005
"""A gain of mean IoU below which labelling as many images again is not worth it."""

_MAX_BAND = 0.02
"""How wide the band of a gain may be that begins below that."""


@dataclass(frozen=True, slots=True)
class Law:
    """Mean IoU of n training images: ``a - b * n ** -c`` with ``a <= 1``, ``b >= 0`` and ``c > 0``."""

    a: float
    b: float
    c: float

    def __call__(self, images: float) -> float:
        """The mean IoU expected from so many, which grows with them."""
        return float(self.a - self.b * images**-self.c)


@dataclass(frozen=True, slots=True)
class Point:
    """A size of the training set in images, the mean IoU there, and the 95% band around it."""

    images: int
    mean_iou: float
    lower: float
    upper: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Gain:
    """What twice as many labels are expected to add to the mean IoU, and the 95% band around it."""

    expected: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Measured sizes, then all labels and twice as many, as the law expects them; sizes ascend."""

    points: tuple[Point, ...]
    law: Law
    gain: Gain

    def sentence(self) -> str:
        """What twice as many labels are expected to bring, for a person."""
        gain, twice = self.gain, f"twice as many labels ({self.points[-1].images:,} images)"
        if gain.upper < MIN_GAIN:
            return f"Hardly anything is to be expected of {twice}: less than {MIN_GAIN:g} mean IoU."
        if gain.lower < MIN_GAIN and gain.upper - gain.lower > _MAX_BAND:
            return (
                f"What {twice} would bring cannot be told from these: from {gain.lower:.3f} to {gain.upper:.3f} mean "
                "IoU all is possible."
            )
        return (
            f"{twice.capitalize()} are expected to bring about +{gain.expected:.3f} mean IoU ({gain.lower:.3f} to "
            f"{gain.upper:.3f})."
        )

    def write(self, path: Path) -> None:
        """A CSV with ``images,mean_iou,low,high,kind``, a row for each point. Raises DataError as `replacing`."""
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
    progress: Progress | None = None,
) -> Curve:
    """Measure the learning curve of labelled images.

    dataset: those without a box are left out, since it is boxes that are judged, and so are those whose split the data
        itself calls test. All others count, whatever their split.
    repetitions: 3 or more. The images are held out in so many parts, each once; groups stay whole.
    skip_bad: leave out images that cannot be read, rather than raise DataError.

    Raises DataError where there are fewer than `MIN_IMAGES` images, or too few or too large groups; ConfigError for too
    few repetitions, and for a recipe that trains the backbone.
    """
    dataset = dataset.select(dataset.has_box & (np.array(dataset.split) != "test"))
    _check_enough(len(dataset), len(set(groups_of(dataset))), repetitions)
    with tempfile.TemporaryDirectory(prefix="solobox-") as folder:
        fewest = max(round(len(dataset) * _SHARES[0]), 1)
        validator = CrossValidator.from_dataset(
            dataset, recipe, folder=Path(folder), min_images=fewest, skip_bad=skip_bad, progress=progress
        )
        readable = validator.images.readable
        groups = np.array(groups_of(dataset))
        _check_enough(int(readable.sum()), len(set(groups[readable].tolist())), repetitions)
        fold = np.where(readable, assign_folds(dataset, repetitions), -1)
        ious = np.full((len(_SHARES) + 1, len(dataset)), np.nan)
        sizes = np.zeros((len(_SHARES) + 1, repetitions))
        for number in range(repetitions):
            held_out, rest = np.flatnonzero(fold == number), (fold >= 0) & (fold != number)
            counts = [share * readable.sum() for share in _SHARES]
            for index, chosen in enumerate(nested(groups, rest, counts, f"curve {number}")):
                sizes[index, number] = chosen.sum()
                stage = f"{chosen.sum():,} images, {number + 1} of {repetitions}"
                head = validator.fit(chosen, stage, seed=(recipe.seed + number) % 2**63)
                boxes = np.stack([prediction.box for prediction in validator.predict(head, held_out)])
                ious[index, held_out] = geometry.iou(boxes, dataset.boxes[held_out])
    return fit_curve(
        sizes.mean(axis=1), ious[:, readable], fold[readable], groups[readable], seed=recipe.seed
    )


def nested(groups: npt.ArrayLike, rest: Mask, targets: list[float], purpose: str) -> list[Mask]:
    """Ever larger sets of whole groups, each a part of the next one; the last is all of `rest`.

    groups: of each of N images. rest: (N,), which may be taken. targets: how many images, about, ascending.
    purpose: decides in what order groups are taken.

    Returns masks (N,), one more than `targets`; none is empty.
    """
    names = np.asarray(groups)
    order = list(ranked(set(names[rest].tolist()), purpose))
    counts = np.array([int((names[rest] == group).sum()) for group in order])
    middles = np.cumsum(counts) - counts / 2
    taken = [max(int(np.searchsorted(middles, count, side="right")), 1) for count in targets]
    return [rest & np.isin(names, order[:number]) for number in (*taken, len(order))]


def fit_curve(
    sizes: Floats, ious: Floats, part: npt.ArrayLike, groups: npt.ArrayLike, *, seed: int = 0
) -> Curve:
    """The curve of what was measured.

    sizes: (K,) images that were trained on, ascending. ious: (K, N), the IoU of each image, held out.
    part: (N,), which repetition it was held out in, and so which heads it was shown to. groups: (N,), of each image.

    Its bands come from a bootstrap in two steps, repetitions and in each of them groups of held-out images, all sizes
    at once (Davison & Hinkley, 1997, "Bootstrap Methods and their Application", 3.8); the law is fitted anew to each.
    Raises DataError where the sizes do not differ enough to tell anything.
    """
    count = ious.shape[1]
    if sizes[-1] < 2 * sizes[0]:
        raise DataError(
            f"the groups are too large for a learning curve: the smallest training set has {sizes[0]:.0f} images and "
            f"the largest {sizes[-1]:.0f}"
        )
    means = ious.mean(axis=1)
    drawn = _bootstrap(ious, np.asarray(part), np.asarray(groups), seed)
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
    draw to draw, and follow the law less. For each exponent on a grid the best ``a`` and ``b`` are known exactly.
    """
    weights = np.arange(1, len(sizes) + 1, dtype=np.float64)
    weights /= weights.sum()
    x = sizes ** -_EXPONENTS[:, np.newaxis]  # (C, K)
    x_mean, y_mean = x @ weights, ious @ weights  # (C,), (B,)
    x_off, y_off = x - x_mean[:, np.newaxis], ious - y_mean[:, np.newaxis]
    slopes = -(y_off * weights) @ x_off.T / (weights * x_off**2).sum(axis=1)  # (B, C)
    b = np.maximum(slopes, 0)
    a = y_mean[:, np.newaxis] + b * x_mean
    # Where it would end above 1, the best that ends at 1: the sum of squares is convex.
    capped = ((1 - ious) * weights) @ x.T / (weights * x**2).sum(axis=1)
    b, a = np.where(a > 1, np.maximum(capped, 0), b), np.minimum(a, 1)
    errors = ((ious[:, np.newaxis] - a[..., np.newaxis] + b[..., np.newaxis] * x) ** 2 * weights).sum(axis=2)
    best = errors.argmin(axis=1)
    rows = np.arange(len(ious))
    return np.stack([a[rows, best], b[rows, best], _EXPONENTS[best]], axis=1)


def _at(laws: Floats, images: int) -> Floats:
    """What laws (..., 3) say of a size."""
    a, b, c = np.moveaxis(laws, -1, 0)
    return np.asarray(a - b * float(images) ** -c, dtype=np.float64)


def _bootstrap(ious: Floats, part: npt.NDArray[np.int64], groups: npt.NDArray[np.str_], seed: int) -> Floats:
    """Mean IoUs (draws, K) of repetitions and groups in them, drawn with repeats."""
    random = np.random.default_rng(seed)
    sums = []  # of each repetition (groups, K + 1), in the last column how many images
    for number in np.unique(part):
        rows = part == number
        _, member = np.unique(groups[rows], return_inverse=True)
        columns = [*ious[:, rows], np.ones(rows.sum())]
        sums.append(np.stack([np.bincount(member, column) for column in columns], axis=1))
    drawn = np.zeros((_BOOTSTRAP_SAMPLES, len(ious) + 1))
    for draw in range(_BOOTSTRAP_SAMPLES):
        for number in random.integers(len(sums), size=len(sums)):
            totals = sums[number]
            drawn[draw] += (
                np.bincount(random.integers(len(totals), size=len(totals)), minlength=len(totals)) @ totals
            )
    return np.asarray(drawn[:, :-1] / drawn[:, -1:], dtype=np.float64)


def _band(values: Floats) -> tuple[float, float]:
    lower, upper = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lower), float(upper)


def _check_enough(images: int, groups: int, repetitions: int) -> None:
    if repetitions < 3:
        raise ConfigError(f"a learning curve takes 3 repetitions or more, not {repetitions}")
    if images < MIN_IMAGES:
        raise DataError(
            f"{images} images with a box that can be read are too few for a learning curve, which takes {MIN_IMAGES}: "
            "label more, that much is certain"
        )
    if groups < repetitions:
        raise DataError(
            f"{groups} groups of images with a box cannot be held out in {repetitions} parts: a learning curve takes "
            f"{repetitions} groups or more"
        )
