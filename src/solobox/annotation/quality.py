"""How good the model is by the images that were chosen at random and drawn blind, and whether that is enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from solobox.annotation.stopping import LEVEL, Look, count_of_look, last_look
from solobox.boxes import Floats
from solobox.config.options import STRICT
from solobox.utils.atomic import replacing

MIN_BLIND = 6
"""Fewer blind answers say too little to be shown."""

_MIN_POINTS = 4
"""Of the trend, before it is extrapolated."""

_DRAWS = 4000
_SAID_GAIN = 0.002
_STEP = 20


@checked(frozen=True, slots=True, kw_only=True, config=STRICT)
class Measurement:
    """The model at one moment.

    labels: boxes that it learned from. count: blind answers that it was measured by. iou, low, high: their mean IoU, by
    models that did not learn from them, and its 95% interval (see `mean_interval`). good: how many of these
    boxes were good.
    """

    labels: Annotated[int, Field(ge=1)]
    count: Annotated[int, Field(ge=1)]
    iou: float
    low: float
    high: float
    good: int


@checked(slots=True, kw_only=True, config=STRICT)
class Record:
    """All measurements, and what each look saw; see `stopping`.

    threshold: IoU of a good box.
    """

    threshold: float
    measurements: list[Measurement] = field(default_factory=list)
    hits: list[int] = field(default_factory=list)


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Quality:
    """What the page says of the model: the last measurement, the last look, and a sentence for each."""

    last: Measurement
    look: Look | None
    sentence: str
    advice: str


class QualityRecord:
    """The measurements of one folder, kept in a file.

    path: of the file; one that is damaged, or of another threshold, counts as missing, since all of it can be measured
        again. threshold: IoU from which on a box is good. goal: of the share of good boxes.
    """

    def __init__(self, path: Path, *, threshold: float, goal: float) -> None:
        self._path, self.goal = path, goal
        self._record = Record(threshold=threshold)
        try:
            record = _RECORD.validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return
        if record.threshold == threshold:
            self._record = record

    @property
    def threshold(self) -> float:
        """IoU from which on a box is good."""
        return self._record.threshold

    @property
    def trend(self) -> list[tuple[int, float]]:
        """Labels and mean IoU of each measurement."""
        return [(each.labels, each.iou) for each in self._record.measurements]

    def is_due(self, blind: int) -> bool:
        """Whether to measure, with so many blind answers."""
        if blind < MIN_BLIND:
            return False
        if blind >= count_of_look(len(self._record.hits)) or not self._record.measurements:
            return True
        last = self._record.measurements[-1].count
        return blind >= last + max(3, last // 4)

    def add(self, labels: int, ious: Floats) -> None:
        """Add a measurement and save it. ious: (n,) of the blind answers, in their order.

        A count that was passed is looked at now, and never again: a second look at the same answers would be one more
        chance to stop too early.
        """
        good = ious >= self.threshold
        low, high = mean_interval(ious)
        self._record.measurements.append(
            Measurement(
                labels=labels, count=len(ious), iou=float(ious.mean()), low=low, high=high,
                good=int(good.sum()),
            )
        )  # fmt: skip
        while len(ious) >= (count := count_of_look(len(self._record.hits))):
            self._record.hits.append(int(good[:count].sum()))
        with replacing(self._path) as file:
            file.write(_RECORD.dump_json(self._record).decode())

    def quality(self) -> Quality | None:
        """What there is to say; None before the first measurement."""
        if not self._record.measurements:
            return None
        last, look = self._record.measurements[-1], last_look(self._record.hits, self.goal)
        if look is None:
            sentence = (
                f"{last.good} of {last.count} boxes were good. The first look at the goal is at {count_of_look(0)} "
                "blind answers"
            )
        else:
            sentence = look.sentence()
        return Quality(last, look, sentence, advice(self.trend))


def mean_interval(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    """A confidence interval of the mean of a distribution on [0, 1], of which `values` (n,) are a sample.

    By Learned-Miller & Thomas (2019), "A new confidence interval for the mean of a bounded random variable", which uses
    no law of large numbers. The bootstrap of `evaluation.bootstrap` is narrower, and too narrow here: of ten images
    often none is one of the few on which the object is lost (bench/LOG.md).
    """
    uniform = np.sort(np.random.default_rng(0).random((_DRAWS, len(values))), axis=1)

    def upper(sample: Floats) -> float:
        gaps = np.diff(np.append(np.sort(sample), 1.0))
        return float(np.quantile(1 - uniform @ gaps, (1 + level) / 2))

    return 1 - upper(1 - values), upper(values)


def advice(trend: Sequence[tuple[int, float]]) -> str:
    """What more labels would bring, by the law of `training.curve`; empty where the trend says too little."""
    from solobox.training.curve import fit_laws  # torch takes seconds to load, and the page is there at once

    latest = dict(trend)  # of several measurements with as many labels the last one
    if len(latest) < _MIN_POINTS:
        return ""
    sizes = np.array(sorted(latest), dtype=np.float64)
    _, b, c = fit_laws(sizes, np.array([[latest[int(size)] for size in sizes]]))[0]
    now = sizes[-1]
    gain = float(b * (now**-c - (now + _STEP) ** -c))
    if gain < _SAID_GAIN:
        return f"{_STEP} more labels would hardly change it"
    return f"{_STEP} more labels would bring about {gain:.3f}"
