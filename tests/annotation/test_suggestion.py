"""A box is shown if it would probably be accepted."""

import numpy as np
import pytest

from solobox.annotation.suggestion import acceptance, is_worth_showing
from solobox.predict.prediction import Prediction

BOX = np.array([100.0, 50.0, 300.0, 250.0])


def found(std: float) -> Prediction:
    return Prediction("a.jpg", BOX, (400, 300), std=np.full(4, std))


def test_the_surer_the_likelier() -> None:
    chances = [acceptance(found(std)) for std in (0.0, 2.0, 8.0, 16.0, 60.0)]
    assert chances[0] == 1
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.05
    assert is_worth_showing(found(8.0))
    assert not is_worth_showing(found(60.0))


def test_it_is_the_share_of_boxes_that_are_close_enough() -> None:
    """Against a count over boxes drawn another way: one edge off alone changes the IoU by its share of the side."""
    draws = np.random.default_rng(1).normal(0, 8.0, (20_000, 4))
    true = BOX + draws
    wide = np.minimum(BOX[2], true[:, 2]) - np.maximum(BOX[0], true[:, 0])
    high = np.minimum(BOX[3], true[:, 3]) - np.maximum(BOX[1], true[:, 1])
    areas = (true[:, 2] - true[:, 0]) * (true[:, 3] - true[:, 1])
    iou = wide * high / (200 * 200 + areas - wide * high)
    assert acceptance(found(8.0)) == pytest.approx((iou >= 0.85).mean(), abs=0.1)


def test_without_a_box_and_without_doubt() -> None:
    assert acceptance(Prediction("a.jpg")) == 0
    assert acceptance(found(np.nan)) == 1
