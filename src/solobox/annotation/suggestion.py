"""Whether a predicted box is worth showing before the person draws.

To look at a good box and accept it takes a sixth to a ninth of the time of drawing one (Papadopoulos et al., 2016, "We
don't need no bounding-boxes"; Konyushkova et al., 2018, "Learning intelligent dialogs for bounding box annotation"), so
it pays to show a box that would be accepted every fourth time.
"""

from typing import Final

import numpy as np

from solobox.predict.prediction import Prediction

MIN_PROBABILITY: Final = 0.25
"""Of being accepted, below which a box is not shown."""

ACCEPTED_IOU: Final = 0.85
"""With the box that a person would draw; about as exact as people are."""

_SAMPLES = 256


def acceptance(prediction: Prediction) -> float:
    """The probability that the box has an IoU of `ACCEPTED_IOU` with the true one, if its edges' errors are normal.

    Their standard deviations are those of the network, which fit most boxes (bench/LOG.md); margins, which must hold
    the worst tenth too, would say that hardly any box is good.
    """
    if not prediction.has_box:
        return 0.0
    box, std = prediction.box, prediction.std
    if not np.isfinite(std).all():
        return 1.0  # a head that cannot doubt
    true = box + np.random.default_rng(0).standard_normal((_SAMPLES, 4)) * std
    overlap = np.minimum(box[2:], true[:, 2:]) - np.maximum(box[:2], true[:, :2])
    shared = np.maximum(overlap, 0).prod(axis=1)
    areas = (box[2:] - box[:2]).prod() + np.maximum(true[:, 2:] - true[:, :2], 0).prod(axis=1)
    return float((shared / np.maximum(areas - shared, 1e-9) >= ACCEPTED_IOU).mean())


def is_worth_showing(prediction: Prediction) -> bool:
    """Whether a person would accept the box every fourth time, or more often."""
    return acceptance(prediction) >= MIN_PROBABILITY
