import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solobox.boxes import object_sides
from solobox.errors import ConfigError
from solobox.uncertainty.conformal import (
    LEVELS,
    Calibration,
    SizeCategory,
    outer_scores,
    scales,
    scores,
)
from solobox.uncertainty.quantiles import min_calibration_size, quantile


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
    with pytest.raises(ConfigError, check=is_damaged):
        Calibration.from_dict({"images": 1})


def is_damaged(error: ConfigError) -> bool:
    return error.code == "model-damaged"


def of_sizes(
    rng: np.random.Generator, count: int, trend: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted boxes as fractions; errors grow with the size by `trend` more than the scale says."""
    side = rng.uniform(0.1, 0.6, (count, 1))
    first = rng.uniform(0, 1 - side, (count, 2))
    predicted = np.concatenate([first, first + side], axis=1)
    scale = np.full((count, 4), 0.02)
    return predicted + rng.normal(0, 0.02, (count, 4)) * (side / 0.3) ** trend, predicted, scale


def coverage_by_thirds(
    calibration: Calibration, *images: np.ndarray, level: float, outer: bool
) -> np.ndarray:
    truth, predicted, scale = images
    lower, upper = calibration.margins(predicted, scale, (1, 1), level, outer=outer)
    inside = np.all((truth >= lower - 1e-9) & (truth <= upper + 1e-9), axis=1)
    if outer:
        beyond = np.concatenate([lower[:, :2] - truth[:, :2], truth[:, 2:] - upper[:, 2:]], axis=1)
        inside = np.all(beyond <= 1e-9, axis=1)
    order = np.argsort(object_sides(predicted, (1, 1)))
    return np.array([inside[third].mean() for third in np.array_split(order, 3)])


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("outer", [False, True])
def test_each_third_of_sizes_is_covered(level: float, outer: bool) -> None:
    rng = np.random.default_rng(6)
    rows, pooled = [], []
    for _ in range(30):
        truth, predicted, scale = (each.clip(0, 1) for each in of_sizes(rng, 1300))
        calibration = Calibration.fit(truth[:300], predicted[:300], scale[:300], size=(1, 1))
        new = truth[300:], predicted[300:], scale[300:]
        one = Calibration.fit(truth[:300], predicted[:300], scale[:300])
        assert len(calibration.categories) == 3
        rows.append(coverage_by_thirds(calibration, *new, level=level, outer=outer))
        pooled.append(coverage_by_thirds(one, *new, level=level, outer=outer))
    error = 3 * np.std(rows, axis=0) / len(rows) ** 0.5
    mean = np.mean(rows, axis=0)
    # The bounds of the thirds are those of the calibration images, so they are about the thirds here.
    assert (mean >= level - error - 0.005).all()
    assert (mean <= level + 1 / 101 + error + 0.005).all()
    assert np.ptp(np.mean(pooled, axis=0)) > 0.08  # one quantile for all is not enough here


@pytest.mark.parametrize(("count", "categories"), [(99, 0), (100, 2), (149, 2), (150, 3), (400, 3)])
def test_few_images_make_fewer_categories(count: int, categories: int) -> None:
    calibration = Calibration.fit(*of_sizes(np.random.default_rng(0), count), size=(1, 1))
    assert len(calibration.categories) == categories
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert all(each.two_sided.keys() == calibration.two_sided.keys() for each in calibration.categories)


def test_categories_count_groups_and_equal_sizes_are_one() -> None:
    images = of_sizes(np.random.default_rng(0), 400)
    assert not Calibration.fit(*images, [f"g{row % 40}" for row in range(400)], size=(1, 1)).categories
    truth, predicted, scale = images
    same = np.tile([0.2, 0.2, 0.5, 0.5], (400, 1))
    assert not Calibration.fit(truth, same, scale, size=(1, 1)).categories
    assert not Calibration.fit(truth, predicted, scale).categories


def test_a_higher_level_is_never_narrower() -> None:
    """Levels that a category has too few images for are those of all images together."""
    calibration = Calibration.fit(*of_sizes(np.random.default_rng(3), 160), size=(1, 1))
    for index in range(3):
        for outer in (False, True):
            factors = [calibration.factors(level, outer=outer)[index] for level in calibration.two_sided]
            assert factors == sorted(factors)
    small, _, large = calibration.categories
    assert small.two_sided[0.9] < calibration.two_sided[0.9] < large.two_sided[0.9]
    assert small.two_sided[0.99] == calibration.two_sided[0.99]


def test_the_category_is_that_of_the_predicted_box_in_any_unit() -> None:
    table = {0.9: 1.0}
    sizes = tuple(
        SizeCategory(below, {0.9: factor}, {0.9: factor})
        for below, factor in ((0.2, 1.0), (0.5, 2.0), (np.inf, 3.0))
    )
    calibration = Calibration(100, 100, table, table, categories=sizes)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 49, 50], [0, 0, 50, 50], [0, 0, 100, 100]]) * [
        4,
        2,
        4,
        2,
    ]
    assert calibration.category(boxes, (400, 200)).tolist() == [0, 1, 1, 2, 2]  # at a bound: the larger one
    lower, _ = calibration.margins(boxes, np.ones((5, 4)), (400, 200), 0.9)
    assert (boxes - lower)[:, 2].tolist() == [1, 2, 2, 3, 3]


def test_models_of_earlier_versions_have_one_category() -> None:
    calibration = Calibration.fit(*of_sizes(np.random.default_rng(0), 200), size=(1, 1))
    earlier = {key: value for key, value in calibration.to_dict().items() if key not in ("cut", "categories")}
    loaded = Calibration.from_dict(earlier)
    assert (loaded.cut, loaded.categories, loaded.two_sided) == ({}, (), calibration.two_sided)


@pytest.mark.parametrize(
    "categories",
    [
        "all", [1], [{}] * 3, [{"below": 0.5}], [{"below": None, "two_sided": {}, "outer": {}}],
        [{"below": float("nan")}], [{"below": 1}, {"below": 0.5}, {"below": None}], [{"below": None}] * 2, [{}] * 9,
    ],
)  # fmt: skip
def test_damaged_categories_are_refused(categories: object) -> None:
    values = Calibration.fit(*of_sizes(np.random.default_rng(0), 200), size=(1, 1)).to_dict()
    with pytest.raises(ConfigError, check=is_damaged):
        Calibration.from_dict(values | {"categories": categories})
    with pytest.raises(ConfigError, check=is_damaged):
        Calibration.from_dict(values | {"cut": {"0.05": -1.0}})
