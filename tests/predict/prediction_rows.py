"""Predictions for tests: made up, one for each input."""

from collections.abc import Iterable, Iterator
from zlib import crc32

import numpy as np

from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions
from stand_in_predictor import StandIn

WIDTH, HEIGHT = 40, 30


def made_up(name: str) -> Prediction:
    """The same for the same name in any process: an unreadable image where the name says so."""
    if "broken" in name:
        return Prediction(name, error=f'{name}: is broken, in "two"\nlines')
    rng = np.random.default_rng(crc32(name.encode()))
    x, y = np.sort(rng.uniform(0, WIDTH, 2)), np.sort(rng.uniform(0, HEIGHT, 2))
    box = np.array([x[0], y[0], x[1], y[1]])
    std = rng.uniform(0, 3, 4)
    limit = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT])
    lower, upper = np.clip(box - std, 0, limit), np.clip(box + std, 0, limit)
    return Prediction(name, box, (WIDTH, HEIGHT), std, lower, upper, rng.uniform(), rng.uniform())


class MadeUp(StandIn):
    """Predicts what `made_up` says."""

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        return map(made_up, images)
