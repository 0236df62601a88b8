"""Drift: when a stream of images no longer looks like the training images.

Familiarity is a p-value. A conformal test martingale bets against its being one (Vovk, Nouretdinov & Gammerman, 2003,
"Testing exchangeability on-line"; Vovk, 2021, "Testing randomness online"): each bet multiplies its wealth by

    1 + stake * ([familiarity <= level] / bound - 1),

which is at most 1 on average where familiarity is at most `level` with a probability of at most `bound`. Wealth that
nobody could have had by luck is evidence of drift. Two things differ from the textbook:

- All p-values come from the same n calibration images. Given these, the probability of one at or below k / (n + 1) is
  not k / (n + 1) but has the distribution Beta(k, n + 1 - k) (Vovk, 2012, "Conditional validity of inductive conformal
  predictors"), and a long stream would expose the difference as if it were drift. So `bound` is a high quantile of it.
- Drift may begin late. A bet is opened anew at each image, with a share of the money: the sum over beginnings is that
  of Shiryaev and Roberts (Shin, Ramdas & Rinaldo, 2023, "E-detectors"), and as the shares add up to 1, Ville's
  inequality holds for all times together.

So for a stream of images drawn like the calibration images, one by one, the probability that there is ever an alarm is
at most `FALSE_ALARM`: a half for the calibration images, a half for the stream. Frames of a clip, or many images of one
scene in a row, are not drawn one by one, and may look like drift while they last. With groups of calibration images
that count is used for n, which is approximate.

Memory and time of an image are constant. Pure functions of numbers: no torch.
"""

import math
from dataclasses import dataclass

import numpy as np

from solobox.uncertainty.binomial import lower_bound

FALSE_ALARM = 0.002
"""Probability of an alarm in all of a stream of images that are like the training images, at most."""

_LEVELS = (0.01, 0.05)
"""Only images that are rare by themselves count. Successive files of a folder often are a little more, or less, usual
together than chance has it; that is no reason for an alarm."""

_STAKES = (0.05, 0.25, 0.9)
_ALARM = math.log(2 / FALSE_ALARM)
_SHARES = 2.11
"""A little more than the sum of 1 / (k log(k)^2) over k = 2, 3, ..."""
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class DriftSpan:
    """Successive images of a stream that, taken together, are unlike the training images.

    first: about where they begin, counted from 1. last: about where they end; None where they have not.
    """

    first: int
    last: int | None = None


class DriftDetector:
    """Watches the familiarity of a stream of images, in constant memory. For one thread at a time.

    n_reference: the images that familiarity was calibrated on, or groups of them; at least 1.

    count: images so far. span: where they were unlike the training images, the last such span; None if there was none.
    is_drifting: whether it lasts.
    """

    def __init__(self, n_reference: int) -> None:
        counts = sorted({max(1, math.floor(level * (n_reference + 1))) for level in _LEVELS})
        error = FALSE_ALARM / 2 / len(counts)
        bets = [
            (count / (n_reference + 1), 1 - lower_bound(n_reference + 1 - count, n_reference, error), stake)
            for count in counts
            for stake in _STAKES
        ]
        level, bound, stake = np.array(bets).T
        self._level = level * (1 + _ROUNDING)
        self._win, self._lose = np.log1p(stake * (1 / bound - 1)), np.log1p(-stake)
        self._share = -math.log(len(bets) * _SHARES)
        self._wealth = np.full(len(bets), -np.inf)
        # Page's cumulative sums say where drift begins and ends: what each bet gained since it had gained nothing.
        self._gain = np.zeros(len(bets))
        self._highest = np.zeros(len(bets))
        self._begin = np.ones(len(bets), dtype=np.int64)
        self._end = np.ones(len(bets), dtype=np.int64)
        self._watched = 0
        self.count = 0
        self.span: DriftSpan | None = None

    @property
    def is_drifting(self) -> bool:
        """Whether the images of late are unlike the training images."""
        return self.span is not None and self.span.last is None

    @property
    def evidence(self) -> float:
        """The wealth of all bets as a power of ten, at least 0: at 3 there is an alarm, with `FALSE_ALARM` 0.002."""
        return max(self._total() / math.log(10), 0.0)

    def _total(self) -> float:
        return float(np.logaddexp.reduce(self._wealth))

    def add(self, familiarity: float) -> bool:
        """Add the next image of the stream. Gives whether drift was found just now.

        familiarity: NaN for an image that could not be read, which is only counted.
        """
        self.count += 1
        if math.isnan(familiarity):
            return False
        self._watched += 1
        step = np.where(familiarity <= self._level, self._win, self._lose)
        k = self._watched + 1
        opened = self._share - math.log(k) - 2 * math.log(math.log(k))
        self._wealth = np.logaddexp(self._wealth, opened) + step
        is_new = self._gain <= 0
        self._begin[is_new] = self.count
        self._gain = np.maximum(self._gain, 0) + step
        is_highest = is_new | (self._gain >= self._highest)
        self._end[is_highest] = self.count
        self._highest[is_highest] = self._gain[is_highest]
        return self._judge(self._total())

    def _judge(self, wealth: float) -> bool:
        strongest = int(np.argmax(self._highest))
        if not self.is_drifting:
            if wealth >= _ALARM:
                self.span = DriftSpan(int(self._begin[strongest]))
                return True
        elif self.span is not None and self._gain[strongest] <= self._highest[strongest] - _ALARM:
            # As improbable where drift goes on as the alarm is where there is none. All bets begin again.
            self.span = DriftSpan(self.span.first, int(self._end[strongest]))
            self._wealth[:] = -np.inf
            self._gain[:] = self._highest[:] = 0
        return False
