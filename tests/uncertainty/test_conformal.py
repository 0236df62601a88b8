import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solobox.errors import ConfigError
from solobox.uncertainty.conformal import (
    LEVELS,
    Calibration,
    min_calibration_size,
    outer_scores,
    quantile,
    scales,
    scores,
)


def needs_more_images(error: ConfigError) -> bool:
    return error.code == "margins-need-more-images"


FLOATS = st.floats(0, 100, allow_nan=False)
VALUES = st.lists(FLOATS, min_size=1, max_size=60)


@given(VALUES, st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_the_quantile_is_the_order_statistic(values: list[float], level: float) -> None:
    rank = math.ceil(round((len(values) + 1) * level, 9))
    assert quantile(values, level) == (sorted(values)[rank - 1] if rank <= len(values) else math.inf)


@given(VALUES, st.sampled_from([0.5, 0.9]), st.integers(1, 4))
def test_groups_of_one_are_no_groups_and_copies_count_once(
    values: list[float], level: float, times: int
) -> None:
    alone = [f"g{row}" for row in range(len(values))]
    assert quantile(values, level, [""] * len(values)) == quantile(values, level, alone)
    assert quantile(values, level, alone) == quantile(values, level)
    # An image shown several times, as a group, is one image.
    assert quantile(values * times, level, alone * times) == quantile(values, level)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_as_many_as_are_needed_are_enough_and_one_less_is_not(level: float) -> None:
    count = min_calibration_size(level)
    assert math.isfinite(quantile(np.arange(count), level))
    assert math.isinf(quantile(np.arange(count - 1), level))


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ConfigError, check=lambda error: error.code == "out-of-range"):
        quantile([1.0], level)


@given(arrays(np.float64, (5, 4), elements=FLOATS), arrays(np.float64, (5, 4), elements=FLOATS))
def test_the_score_is_what_the_margin_must_be(truth: np.ndarray, predicted: np.ndarray) -> None:
    unit = np.full((5, 4), 2.0)
    reach = scores(truth, predicted, unit)[:, None] * unit + 1e-9
    assert ((truth >= predicted - reach) & (truth <= predicted + reach)).all()
    out = outer_scores(truth, predicted, unit)[:, None] * unit + 1e-9
    assert (truth[:, :2] >= predicted[:, :2] - out[:, :2]).all()
    assert (truth[:, 2:] <= predicted[:, 2:] + out[:, 2:]).all()
    assert (outer_scores(truth, predicted, unit) <= scores(truth, predicted, unit)).all()


def test_without_a_std_the_sides_of_the_box_are_the_scale() -> None:
    box = np.array([10.0, 20.0, 40.0, 60.0])
    assert scales(box, np.full(4, np.nan)).tolist() == [30, 40, 30, 40]
    assert scales(box, np.array([1.0, 2.0, 3.0, 0.0])).tolist() == [1, 2, 3, 40 * 0.002]
    assert (scales(np.zeros(4), np.zeros(4)) > 0).all()


def simulated(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted boxes of which some are harder than others, and a std that is roughly right."""
    predicted = np.array([20.0, 20, 60, 60]) + rng.uniform(-5, 5, (count, 4))
    hardness = rng.uniform(0.5, 4, (count, 1)) * np.ones(4)
    return (
        predicted + rng.standard_t(4, (count, 4)) * hardness,
        predicted,
        hardness * rng.uniform(0.8, 1.25, (count, 4)),
    )


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("outer", [False, True])
def test_coverage_is_the_level_and_no_more(level: float, outer: bool) -> None:
    """Over many draws, coverage is within the band [level, level + 1 / (n + 1)], to three standard errors."""
    rng = np.random.default_rng(3)
    draws, count = 1500, 60
    covered = []
    for _ in range(draws):
        truth, predicted, std = simulated(rng, count + 1)
        calibration = Calibration.fit(truth[:-1], predicted[:-1], scales(predicted, std)[:-1])
        lower, upper = calibration.margins(
            predicted[-1], scales(predicted[-1], std[-1]), (1000, 1000), level, outer=outer
        )
        inside = (truth[-1] >= lower - 1e-9) & (truth[-1] <= upper + 1e-9)
        if outer:
            inside = np.concatenate([truth[-1][:2] >= lower[:2] - 1e-9, truth[-1][2:] <= upper[2:] + 1e-9])
        covered.append(inside.all())
    error = 3 * (level * (1 - level) / draws) ** 0.5
    # The image's frame cuts bands at 0 and 1000, which no box of these reaches.
    assert level - error <= np.mean(covered) <= level + 1 / (count + 1) + error


def test_with_groups_an_image_of_a_new_group_is_covered() -> None:
    """Images of a group err alike, and some groups are large: pooled quantiles would promise too much."""
    rng = np.random.default_rng(8)
    draws, groups, level = 1500, 30, 0.8

    def group(size: int, hardness: float) -> tuple[np.ndarray, np.ndarray]:
        predicted = np.array([20.0, 20, 60, 60]) + rng.uniform(-5, 5, (size, 4))
        return predicted + rng.normal(0, hardness, 4), predicted

    covered = []
    for _ in range(draws):
        hard = rng.uniform(0.1, 3, groups + 1)
        # Easy groups are the large ones.
        parts = [group(20 if each < 1 else 2, each) for each in hard]
        truth, predicted = (np.concatenate([part[i] for part in parts[:-1]]) for i in (0, 1))
        names = [str(number) for number, part in enumerate(parts[:-1]) for _ in part[0]]
        new_truth, new_predicted = parts[-1][0][0], parts[-1][1][0]
        calibration = Calibration.fit(truth, predicted, np.ones_like(predicted), names)
        assert calibration.n_groups == groups
        lower, upper = calibration.margins(new_predicted, np.ones(4), (1000, 1000), level)
        covered.append(((new_truth >= lower) & (new_truth <= upper)).all())
    error = 3 * (level * (1 - level) / draws) ** 0.5
    assert level - error <= np.mean(covered) <= level + 1 / (groups + 1) + error


def test_margins_stay_in_the_image_and_one_sided_ones_reach_outwards_alone() -> None:
    calibration = Calibration(100, 100, {0.9: 2.0}, {0.9: 1.5})
    box, unit = np.array([5.0, 50, 90, 95]), np.full(4, 10.0)
    lower, upper = calibration.margins(box, unit, (100, 100), 0.9)
    assert lower.tolist() == [0, 30, 70, 75]
    assert upper.tolist() == [25, 70, 100, 100]
    lower, upper = calibration.margins(box, unit, (100, 100), 0.9, outer=True)
    assert lower.tolist() == [0, 35, 90, 95]
    assert upper.tolist() == [5, 50, 100, 100]


def test_an_outer_box_is_never_smaller_than_the_box() -> None:
    calibration = Calibration(100, 100, {0.5: 1.0}, {0.5: -0.4})
    assert calibration.factor(0.5, outer=True) == 0


def test_too_few_images_for_a_level_are_an_error_with_both_numbers() -> None:
    truth, predicted, std = simulated(np.random.default_rng(0), 20)
    calibration = Calibration.fit(truth, predicted, scales(predicted, std))
    calibration.factor(0.95)
    with pytest.raises(ConfigError, match=r"99 .* on 20\..* 0\.95", check=needs_more_images):
        calibration.factor(0.99)
    with pytest.raises(ConfigError, check=lambda error: error.code == "out-of-range"):
        calibration.factor(0.3)
    groups = Calibration.fit(truth, predicted, scales(predicted, std), ["a"] * 10 + ["b"] * 10)
    assert groups.n_groups == 2
    with pytest.raises(ConfigError, match="9 held-out groups", check=needs_more_images):
        groups.factor(0.9)


def test_a_level_between_two_that_are_stored_is_the_next_higher_one() -> None:
    table = {level: float(row) for row, level in enumerate(LEVELS)}
    calibration = Calibration(5000, 5000, table, table)
    assert calibration.factor(0.905) == table[0.91]
    assert calibration.factor(0.992) == table[0.995]


def test_a_calibration_reads_back_from_its_dict() -> None:
    truth, predicted, std = simulated(np.random.default_rng(1), 200)
    calibration = Calibration.fit(truth, predicted, scales(predicted, std))
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    with pytest.raises(ConfigError, check=lambda error: error.code == "model-damaged"):
        Calibration.from_dict({"images": 1})
