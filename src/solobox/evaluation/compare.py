"""Two runs on the same images: which is better, by how much, where, and whether chance alone could be the reason."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solobox.boxes import Floats
from solobox.evaluation.bootstrap import Paired, paired
from solobox.evaluation.coverage import THIRDS, object_sides, thirds
from solobox.evaluation.metrics import Evaluation, figures
from solobox.utils.json_utils import Json, number


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The mean IoU of two runs on some of the images.

    name: what these images have in common. n: how many they are.
    first, second: mean IoU of the one run and of the other.
    paired: how these compare.
    """

    name: str
    n: int
    first: float
    second: float
    paired: Paired


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How a run compares with another one on the same N images.

    first, second: what both found; their samples are the same.
    name, other: what the runs are called.
    figures: of the mean IoU and of the shares of images, by their names in `Metrics`: how they compare.
    by_size: the mean IoU on the thirds of the images with the smallest, the middle and the largest objects; of those
        images that either run could read.
    by_label: that on the images of each label, by name, where there are at least two labels.
    """

    first: Evaluation
    second: Evaluation
    name: str
    other: str
    figures: dict[str, Paired]
    by_size: tuple[Part, ...]
    by_label: tuple[Part, ...]

    @property
    def mean_iou(self) -> Paired:
        """How the mean IoU compares: the figure that decides."""
        return self.figures["mean_iou"]

    @property
    def differences(self) -> Floats:
        """The first run's IoU less the second's, shape (N,)."""
        return self.mean_iou.differences

    @property
    def sentence(self) -> str:
        """What came out, for people."""
        found, n = self.mean_iou, len(self.differences)
        if math.isnan(found.interval.lower):
            return f"{self.name} and {self.other} cannot be compared on so few images"
        between = f"({100 * found.interval.level:g}% {signed(found.interval.lower)} to {signed(found.interval.upper)})"
        often = f"better in {100 * found.better:.1f}% of resamples"
        if not found.differences.any():
            return f"{self.name} and {self.other} have the same IoU on every one of {n:,} images"
        if not found.clear:
            return (
                f"{self.name} and {self.other} cannot be told apart on these {n:,} images: they differ by "
                f"{signed(found.difference)} mean IoU {between}, {self.name} {often}, which chance alone could give"
            )
        word = "better" if found.difference > 0 else "worse"
        return f"{self.name} is {word} than {self.other} by {abs(found.difference):.3f} mean IoU {between}, {often}"

    @property
    def unfair(self) -> str:
        """Where one run has seen more of the images in its training than the other: a warning; else nothing."""
        one, other, n = self.first.n_seen, self.second.n_seen, self.first.metrics.n
        if one == other:
            return ""
        more, seen, less = (self.name, one, other) if one > other else (self.other, other, one)
        return (
            f"{more} used {seen:,} of these {n:,} images in its training, the other run {less:,}: the comparison "
            f"flatters {more}"
        )

    def extremes(self, count: int = 6) -> tuple[list[int], list[int]]:
        """Rows of the images with the largest gains and losses, at most `count` each, the largest first.

        A gain is an image on which the first run has the higher IoU; images with equal IoU are neither.
        """
        order = np.argsort(self.differences, kind="stable")
        gains = [int(row) for row in order[::-1][:count] if self.differences[row] > 0]
        return gains, [int(row) for row in order[:count] if self.differences[row] < 0]

    def to_dict(self) -> dict[str, Json]:
        """As plain JSON values; image by image it is in neither."""

        def part(of: Part) -> Json:
            return {"n": of.n, "mean_iou": [of.first, of.second], **_plain(of.paired)}

        return {
            "run": self.other,
            "n": len(self.differences),
            "n_seen": self.second.n_seen,
            "clear": self.mean_iou.clear,
            "metrics": self.second.to_dict(),
            "figures": {name: _plain(found) for name, found in self.figures.items()},
            "by_size": {of.name: part(of) for of in self.by_size},
            "by_label": {of.name: part(of) for of in self.by_label},
        }


def compare(first: Evaluation, second: Evaluation, name: str, other: str) -> Comparison:
    """Compare two evaluations of the same images; groups of images are drawn as one.

    name, other: what the runs are called, for people.

    Raises ValueError when they are of different images.
    """
    if not first.dataset.same_images(second.dataset):
        raise ValueError("two runs are compared on the same images, in the same order")
    groups = first.dataset.group
    others = figures(second.iou)
    of_each = {key: paired(values, others[key], groups) for key, values in figures(first.iou).items()}

    def part(rows: npt.NDArray[np.intp], called: str) -> Part:
        one, another = first.iou[rows], second.iou[rows]
        found = paired(one, another, [groups[row] for row in rows.tolist()])
        return Part(called, len(rows), float(one.mean()), float(another.mean()), found)

    # Either run knows the sizes of the images that it could read.
    size = np.array([p.size for p in first.predictions], dtype=np.float64).reshape(-1, 2)
    size = np.maximum(size, np.array([p.size for p in second.predictions], dtype=np.float64).reshape(-1, 2))
    known = np.flatnonzero((size > 0).all(axis=1))
    sides = object_sides(first.dataset.boxes[known], size[known])
    labels = np.array(first.dataset.label, dtype=object)
    names = sorted(set(first.dataset.label))
    by_size = [part(known[rows], word) for rows, word in zip(thirds(sides), THIRDS, strict=True) if len(rows)]
    return Comparison(
        first=first,
        second=second,
        name=name,
        other=other,
        figures=of_each,
        by_size=tuple(by_size) if len(by_size) == len(THIRDS) else (),
        by_label=tuple(part(np.flatnonzero(labels == label), label) for label in names)
        if len(names) > 1
        else (),
    )


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, and a true minus; no sign for what rounds to nothing."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def _plain(of: Paired) -> dict[str, Json]:
    return {
        "difference": number(of.difference),
        "interval": of.interval.to_json(),
        "better": number(of.better),
    }
