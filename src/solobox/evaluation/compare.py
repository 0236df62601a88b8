"""Comparison of two runs on the same images: which is better, by how much, where, and is the difference significant."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats, object_sides
from solobox.evaluation.bootstrap import PairedDifference, paired_difference
from solobox.evaluation.coverage import SIZE_NAMES, size_terciles
from solobox.evaluation.metrics import Evaluation, per_image_metrics
from solobox.utils.json_utils import Json, number


@dataclass(frozen=True, slots=True, eq=False)
class SubsetComparison:
    """The mean IoU of two runs on a subset of the images.

    name: of the subset. n: its images.
    first, second: mean IoU of the first and of the second run.
    paired: their difference.
    """

    name: str
    n: int
    first: float
    second: float
    paired: PairedDifference


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A comparison of two runs on the same N images.

    first, second: the evaluations, of the same dataset.
    first_name, second_name: the names of the runs.
    metrics: the difference of `mean_iou`, `iou50`, `iou75` and `iou90`, by name.
    by_size: the mean IoU on the thirds of the images with the smallest, medium and largest objects; images that neither
        run could read are left out.
    by_label: the mean IoU on the images of each label, if there are at least two labels.
    """

    first: Evaluation
    second: Evaluation
    first_name: str
    second_name: str
    metrics: dict[str, PairedDifference]
    by_size: tuple[SubsetComparison, ...]
    by_label: tuple[SubsetComparison, ...]

    @property
    def mean_iou(self) -> PairedDifference:
        """The difference of the mean IoU, which decides the comparison."""
        return self.metrics["mean_iou"]

    @property
    def differences(self) -> Floats:
        """IoU of the first run minus that of the second, per image, shape (N,)."""
        return self.mean_iou.differences

    @property
    def sentence(self) -> str:
        """The result as one sentence, without a full stop."""
        paired, n = self.mean_iou, len(self.differences)
        first, second, interval = self.first_name, self.second_name, paired.interval
        if math.isnan(interval.lower):
            return f"{n:,} images are too few to compare {first} and {second}"
        confidence = f"{100 * interval.level:g}% CI {signed(interval.lower)} to {signed(interval.upper)}"
        better = f"better in {100 * paired.share_better:.1f}% of resamples"
        if not paired.differences.any():
            return f"{first} and {second} have the same IoU on all {n:,} images"
        if not paired.significant:
            return (
                f"{first} and {second} do not differ significantly on these {n:,} images: "
                f"{signed(paired.difference)} mean IoU ({confidence}), {first} is {better}"
            )
        word = "better" if paired.difference > 0 else "worse"
        return f"{first} is {word} than {second} by {abs(paired.difference):.3f} mean IoU ({confidence}), {better}"

    @property
    def leakage_warning(self) -> str:
        """A warning if one run was trained on more of the images than the other, else the empty string."""
        first, second, n = self.first.n_seen_in_training, self.second.n_seen_in_training, self.first.metrics.n
        if first == second:
            return ""
        name, more, fewer = (
            (self.first_name, first, second) if first > second else (self.second_name, second, first)
        )
        return (
            f"{name} was trained on {more:,} of these {n:,} images, the other run on {fewer:,}: the comparison is "
            f"biased in favor of {name}"
        )

    def extremes(self, count: int = 6) -> tuple[list[int], list[int]]:
        """Rows of the images with the largest gains and losses, at most `count` each, the largest first.

        The first run has a higher IoU on a gain and a lower one on a loss; images with equal IoU are neither.
        """
        order = np.argsort(self.differences, kind="stable")
        gains = [int(row) for row in order[::-1][:count] if self.differences[row] > 0]
        return gains, [int(row) for row in order[:count] if self.differences[row] < 0]

    def to_dict(self) -> dict[str, Json]:
        """The comparison as plain JSON values, without the differences per image."""

        def subset(one: SubsetComparison) -> Json:
            return {"n": one.n, "mean_iou": [one.first, one.second], **_to_dict(one.paired)}

        return {
            "run": self.second_name,
            "n": len(self.differences),
            "n_seen_in_training": self.second.n_seen_in_training,
            "significant": self.mean_iou.significant,
            "metrics": self.second.to_dict(),
            "differences": {name: _to_dict(paired) for name, paired in self.metrics.items()},
            "by_size": {one.name: subset(one) for one in self.by_size},
            "by_label": {one.name: subset(one) for one in self.by_label},
        }


def compare(first: Evaluation, second: Evaluation, first_name: str, second_name: str) -> Comparison:
    """Compare two evaluations of the same images; whole groups of images are resampled.

    first_name, second_name: the names of the runs, for messages and the report.

    Raises ValueError if the evaluations are of different images.
    """
    if not first.dataset.same_images(second.dataset):
        raise ValueError("two runs can only be compared on the same images in the same order")
    groups = first.dataset.group
    second_metrics = per_image_metrics(second.iou)
    metrics = {
        name: paired_difference(values, second_metrics[name], groups)
        for name, values in per_image_metrics(first.iou).items()
    }

    def subset(rows: npt.NDArray[np.intp], name: str) -> SubsetComparison:
        one, other = first.iou[rows], second.iou[rows]
        paired = paired_difference(one, other, [groups[row] for row in rows.tolist()])
        return SubsetComparison(name, len(rows), float(one.mean()), float(other.mean()), paired)

    # A run reports the size (0, 0) for an image that it could not read.
    size = np.array([p.size for p in first.predictions], dtype=np.float64).reshape(-1, 2)
    size = np.maximum(size, np.array([p.size for p in second.predictions], dtype=np.float64).reshape(-1, 2))
    readable = np.flatnonzero((size > 0).all(axis=1))
    sides = object_sides(first.dataset.boxes[readable], size[readable])
    by_size = tuple(
        subset(readable[rows], name)
        for name, rows in zip(SIZE_NAMES, size_terciles(sides), strict=True)
        if len(readable) >= len(SIZE_NAMES)
    )
    labels = np.array(first.dataset.label, dtype=object)
    names = sorted(set(first.dataset.label))
    by_label = tuple(subset(np.flatnonzero(labels == name), name) for name in names if len(names) > 1)
    return Comparison(first, second, first_name, second_name, metrics, by_size, by_label)


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a true minus sign, and no sign if it rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def _to_dict(paired: PairedDifference) -> dict[str, Json]:
    return {
        "difference": number(paired.difference),
        "interval": paired.interval.to_json(),
        "share_better": number(paired.share_better),
    }
