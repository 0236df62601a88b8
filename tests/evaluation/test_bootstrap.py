import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.boxes import Floats
from solobox.evaluation import bootstrap
from solobox.evaluation.bootstrap import ConfidenceInterval, mean_intervals, paired_difference, units

UNIT = st.floats(0, 1, allow_subnormal=False)


def interval_of(values: Floats, groups: list[str] | None = None, **words: float) -> ConfidenceInterval:
    (found,) = mean_intervals(values[:, None], groups, **words)  # type: ignore[arg-type]
    return found


def empirical_coverage(draw: "np.random.Generator", make: str, trials: int, n: int) -> float:
    """How often the interval of a sample mean contains the true mean."""
    hits = 0
    for trial in range(trials):
        if make == "normal":
            values, mean = draw.normal(0.8, 0.05, n), 0.8
        else:  # skewed towards 1, like the IoU of good boxes
            values, mean = 1 - draw.gamma(0.5, 0.1, n), 0.95
        hits += interval_of(values, resamples=400, seed=trial).contains(mean)
    return hits / trials


@pytest.mark.parametrize("make", ["normal", "skewed"])
def test_the_interval_contains_the_mean_as_often_as_its_level(make: str) -> None:
    # 400 intervals at 95%: the share is 0.95 with a standard deviation of 0.011.
    assert 0.91 <= empirical_coverage(np.random.default_rng(1), make, 400, 60) <= 0.98


def test_the_interval_of_many_images_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 2000)
    found = interval_of(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert found.lower == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_more_confidence_is_a_wider_interval_and_more_images_a_narrower_one() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 400)

    def width(interval: ConfidenceInterval) -> float:
        return interval.upper - interval.lower

    assert (
        width(interval_of(values, level=0.5)) < width(interval_of(values)) < width(interval_of(values[:100]))
    )


def test_copies_of_an_image_in_one_group_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 50)
    alone = interval_of(values)
    copies, names = np.repeat(values, 4), [f"person {n}" for n in np.repeat(np.arange(50), 4)]
    together, apart = interval_of(copies, names), interval_of(copies)
    assert (together.lower, together.upper) == pytest.approx((alone.lower, alone.upper))
    # As four times as many independent images, they would halve it.
    assert apart.upper - apart.lower == pytest.approx((alone.upper - alone.lower) / 2, rel=0.1)


def test_correlated_images_of_a_group_widen_the_interval_as_theory_says() -> None:
    random = np.random.default_rng(3)
    own, shared = random.normal(0, 0.03, (80, 5)), random.normal(0, 0.04, (80, 1))
    values, names = (0.8 + own + shared).ravel(), [str(n) for n in np.repeat(np.arange(80), 5)]
    half = 1.96 * (0.8 + own + shared).mean(axis=1).std(ddof=1) / math.sqrt(80)
    found = interval_of(values, names)
    assert (found.upper - found.lower) / 2 == pytest.approx(half, rel=0.08)


def test_groups_are_weighted_by_their_number_of_images() -> None:
    values, names = np.array([1.0] * 9 + [0.0, 0.2, 0.4]), ["one"] * 9 + ["a", "b", "c"]
    found = bootstrap._ResampledMeans.draw(values[:, None], units(12, names), 4000, 0)
    assert found is not None
    assert found.mean[0] == pytest.approx(9.6 / 12)
    # Brute force: every one of the 4 ** 4 equally likely draws of four groups, as means over their images.
    sums, counts = np.array([9, 0, 0.2, 0.4]), np.array([9, 1, 1, 1])
    draws = np.stack(np.meshgrid(*[np.arange(4)] * 4), axis=-1).reshape(-1, 4)
    exact = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    assert found.means.mean() == pytest.approx(exact.mean(), abs=0.01)
    assert found.means.std() == pytest.approx(exact.std(), rel=0.05)
    assert found.jackknife[:, 0] == pytest.approx((9.6 - sums) / (12 - counts))


def test_an_image_without_a_group_is_a_unit_by_itself() -> None:
    assert units(5, ["a", "", "b", "", "a"]).tolist() == [0, 1, 2, 3, 0]
    assert units(3).tolist() == [0, 1, 2]
    values = np.random.default_rng(0).uniform(0, 1, 30)
    assert interval_of(values, [""] * 30) == interval_of(values)
    with pytest.raises(ValueError, match="3 images but 2 groups"):
        units(3, ["a", "b"])


def test_a_proportion_of_0_or_1_has_the_exact_interval() -> None:
    ones, noughts = mean_intervals(np.stack([np.ones(20), np.zeros(20)], axis=1))
    # At this proportion, all of 20 succeed in one case of 40.
    assert ones.lower**20 == pytest.approx(0.025)
    assert ones.upper == 1
    assert (noughts.lower, noughts.upper) == pytest.approx((0, 1 - ones.lower))
    grouped = interval_of(np.ones(20), ["a", "b"] * 10)
    assert grouped.lower == pytest.approx(math.sqrt(0.025))


def test_the_interval_of_fewer_than_two_units_is_nan() -> None:
    for values, groups in ((np.ones(1), None), (np.array([0.1, 0.9, 0.4]), ["a"] * 3), (np.empty(0), None)):
        found = interval_of(values, groups)
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)
        assert found.contains(5.0)


def test_the_batch_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (70, 3))
    whole = mean_intervals(values, resamples=300)
    monkeypatch.setattr(bootstrap, "_MAX_CELLS", 1000)
    parts = mean_intervals(values, resamples=300)
    for one, other in zip(whole, parts, strict=True):
        assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper))
    assert mean_intervals(values, resamples=300, seed=1) != parts


@given(st.lists(UNIT, min_size=2, max_size=30).map(np.array), st.integers(0, 9))
def test_an_interval_is_ordered_and_within_the_values(values: Floats, seed: int) -> None:
    found = interval_of(values, resamples=200, seed=seed)
    if len(set(values.tolist())) > 1:
        assert values.min() - 1e-9 <= found.lower <= found.upper <= values.max() + 1e-9
    else:
        assert found.lower - 1e-9 <= values[0] <= found.upper + 1e-9


def test_a_run_does_not_differ_from_itself() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 50)
    found = paired_difference(values, values)
    assert (found.difference, found.share_better) == (0, 0.5)
    assert (found.interval.lower, found.interval.upper) == (0, 0)
    assert not found.significant
    assert not found.differences.any()


def test_swapping_the_runs_mirrors_the_difference() -> None:
    random = np.random.default_rng(2)
    one, other = random.uniform(0, 1, 80), random.uniform(0, 1, 80)
    here, there = paired_difference(one, other), paired_difference(other, one)
    assert here.difference == pytest.approx(one.mean() - other.mean())
    assert here.difference == pytest.approx(-there.difference)
    assert here.share_better == pytest.approx(1 - there.share_better)
    assert here.interval.lower == pytest.approx(-there.interval.upper, abs=0.005)
    np.testing.assert_allclose(here.differences, one - other)


def test_pairing_finds_a_difference_that_two_intervals_miss() -> None:
    random = np.random.default_rng(4)
    hard = random.uniform(0.4, 1, 60)  # what makes an image hard for both
    one, other = hard - 0.02 + random.normal(0, 0.01, 60), hard - 0.03 + random.normal(0, 0.01, 60)
    assert interval_of(one).contains(other.mean())
    found = paired_difference(one, other)
    assert found.significant
    assert found.share_better > 0.99
    assert found.interval.contains(0.01)


def test_false_positives_are_as_rare_as_the_level_says() -> None:
    random = np.random.default_rng(5)
    called = [
        paired_difference(*random.normal(0.8, 0.05, (2, 50)), resamples=400, seed=trial).significant
        for trial in range(300)
    ]
    assert 0.02 <= np.mean(called) <= 0.09


def test_groups_widen_the_interval_of_a_difference() -> None:
    random = np.random.default_rng(6)
    shift = np.repeat(random.normal(0.01, 0.03, 15), 10)
    one = np.full(150, 0.8) + random.normal(0, 0.005, 150)
    names = [str(n) for n in np.repeat(np.arange(15), 10)]
    together, apart = paired_difference(one + shift, one, names), paired_difference(one + shift, one)
    assert together.difference == apart.difference
    width = [found.interval.upper - found.interval.lower for found in (together, apart)]
    assert width[0] > 2 * width[1]


def test_one_image_has_no_interval_of_the_difference() -> None:
    one = paired_difference([0.9], [0.5])
    assert one.difference == pytest.approx(0.4)
    assert math.isnan(one.share_better)
    assert not one.significant
    assert math.isnan(paired_difference([], []).difference)


def test_wrong_shapes_raise() -> None:
    with pytest.raises(ValueError, match="shape"):
        mean_intervals(np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        paired_difference(np.ones(3), np.ones(4))
