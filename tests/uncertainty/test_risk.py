"""The mean share of the object that is cut off is at most what was asked for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import clip
from solobox.errors import ConfigError
from solobox.uncertainty.conformal import CUTS, Calibration
from solobox.uncertainty.risk import cut_factor, cut_off


def simulated(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    predicted = np.array([20.0, 20, 60, 60]) + rng.uniform(-5, 5, (count, 4))
    hardness = rng.uniform(0.5, 4, (count, 1)) * np.ones(4)
    return predicted + rng.standard_t(3, (count, 4)) * hardness, predicted, hardness


def test_what_is_cut_off() -> None:
    truth = np.array([10.0, 10, 30, 20])
    assert cut_off(truth, truth) == 0
    assert cut_off(truth, [0, 0, 100, 100]) == 0
    assert cut_off(truth, [20, 0, 100, 100]) == 0.5
    assert cut_off(truth, [20, 15, 100, 100]) == 0.75
    assert cut_off(truth, [40, 0, 100, 100]) == 1
    assert cut_off([10, 10, 10, 20], [0, 0, 1, 1]) == 0  # nothing can be cut off


@given(st.integers(1, 60), st.sampled_from(CUTS), st.integers(0, 1000))
def test_the_factor_is_the_least_one(count: int, max_cut: float, seed: int) -> None:
    truth, predicted, scale = simulated(np.random.default_rng(seed), count)
    factor = cut_factor(truth, predicted, scale, max_cut)
    if max_cut * (count + 1) < 1 - 1e-9:
        assert math.isinf(factor)
        return
    outwards = np.array([-1, -1, 1, 1])

    def bound(factor: float) -> float:
        return float((cut_off(truth, predicted + outwards * factor * scale).sum() + 1) / (count + 1))

    assert bound(factor) <= max_cut + 1e-8
    assert factor == 0 or bound(factor * 0.999) > max_cut - 1e-8


@pytest.mark.parametrize("max_cut", [0.02, 0.05])
def test_on_average_it_is_kept_and_not_by_far_too_much(max_cut: float) -> None:
    rng = np.random.default_rng(4)
    lost = []
    for _ in range(200):
        truth, predicted, scale = simulated(rng, 140)
        truth, predicted = (clip(each, 100, 100) for each in (truth, predicted))
        calibration = Calibration.fit(truth[:100], predicted[:100], scale[:100])
        lower, upper = calibration.margins_for_cut(predicted[100:], scale[100:], (100, 100), max_cut)
        outer = np.concatenate([lower[:, :2], upper[:, 2:]], axis=1)
        lost.append(cut_off(truth[100:], outer).mean())
    error = 3 * float(np.std(lost)) / len(lost) ** 0.5
    # The theorem's other side: no less than max_cut - 2 / (n + 1).
    assert max_cut - 2 / 101 - error <= np.mean(lost) <= max_cut + error


def test_groups_count_once() -> None:
    truth, predicted, scale = simulated(np.random.default_rng(1), 60)
    names = [f"g{row}" for row in range(60)]
    alone = cut_factor(truth, predicted, scale, 0.05)
    assert cut_factor(truth, predicted, scale, 0.05, names) == alone
    three = [np.concatenate([each] * 3) for each in (truth, predicted, scale)]
    assert cut_factor(three[0], three[1], three[2], 0.05, names * 3) == pytest.approx(alone, rel=1e-5)
    assert math.isinf(cut_factor(truth, predicted, scale, 0.05, ["a"] * 30 + ["b"] * 30))


def test_what_cannot_be_promised_is_refused_with_the_reason() -> None:
    truth, predicted, scale = simulated(np.random.default_rng(1), 30)
    calibration = Calibration.fit(truth, predicted, scale)
    assert calibration.factor_for_cut(0.07) == calibration.cut[0.05]  # the next stricter one
    with pytest.raises(
        ConfigError, match=r"takes 49 held-out images.* on 30\. The least it can promise is 0\.05"
    ) as few:
        calibration.factor_for_cut(0.02)
    assert few.value.code == "margins-need-more-images"
    for share in (0.0001, 0.5):
        with pytest.raises(ConfigError, check=lambda error: error.code == "out-of-range"):
            calibration.factor_for_cut(share)
    earlier = {key: value for key, value in calibration.to_dict().items() if key != "cut"}
    with pytest.raises(ConfigError, check=lambda error: error.code == "model-outdated"):
        Calibration.from_dict(earlier).factor_for_cut(0.05)
