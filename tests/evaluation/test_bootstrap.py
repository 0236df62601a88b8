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


def held(draw: "np.random.Generator", make: str, trials: int, n: int) -> float:
    """How often the interval of a sample's mean holds the mean that the sample was drawn around."""
    hits = 0
    for trial in range(trials):
        if make == "normal":
            values, mean = draw.normal(0.8, 0.05, n), 0.8
        else:  # crowds below 1, as the IoU of good boxes does
            values, mean = 1 - draw.gamma(0.5, 0.1, n), 0.95
        hits += interval_of(values, resamples=400, seed=trial).contains(mean)
    return hits / trials


@pytest.mark.parametrize("make", ["normal", "skewed"])
def test_an_interval_holds_the_mean_as_often_as_it_says(make: str) -> None:
    # 400 intervals at 95%: the share is 0.95 with a standard deviation of 0.011.
    assert 0.91 <= held(np.random.default_rng(1), make, 400, 60) <= 0.98


def test_the_interval_of_many_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 2000)
    found = interval_of(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert found.lower == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_more_confidence_is_a_wider_interval_and_more_images_a_narrower_one() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 400)

    def width(of: ConfidenceInterval) -> float:
        return of.upper - of.lower

    assert (
        width(interval_of(values, level=0.5)) < width(interval_of(values)) < width(interval_of(values[:100]))
    )


def test_copies_of_a_image_tell_nothing_new_where_they_are_a_group() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.05, 50)
    alone = interval_of(values)
    copies, names = np.repeat(values, 4), [f"person {n}" for n in np.repeat(np.arange(50), 4)]
    together, apart = interval_of(copies, names), interval_of(copies)
    assert (together.lower, together.upper) == pytest.approx((alone.lower, alone.upper))
    # Taken for images of their own, four times as many, they would halve it.
    assert apart.upper - apart.lower == pytest.approx((alone.upper - alone.lower) / 2, rel=0.1)


def test_images_of_a_group_that_agree_widen_the_interval_as_theory_says() -> None:
    random = np.random.default_rng(3)
    own, shared = random.normal(0, 0.03, (80, 5)), random.normal(0, 0.04, (80, 1))
    values, names = (0.8 + own + shared).ravel(), [str(n) for n in np.repeat(np.arange(80), 5)]
    half = 1.96 * (0.8 + own + shared).mean(axis=1).std(ddof=1) / math.sqrt(80)
    found = interval_of(values, names)
    assert (found.upper - found.lower) / 2 == pytest.approx(half, rel=0.08)


def test_groups_of_different_sizes_weigh_as_many_images_as_they_have() -> None:
    values, names = np.array([1.0] * 9 + [0.0, 0.2, 0.4]), ["one"] * 9 + ["a", "b", "c"]
    found = bootstrap._Resampled.of(values[:, None], units(12, names), 4000, 0)
    assert found is not None
    assert found.mean[0] == pytest.approx(9.6 / 12)
    # The brute force: every one of the 4 ** 4 equally likely draws of four groups, as means over their images.
    sums, counts = np.array([9, 0, 0.2, 0.4]), np.array([9, 1, 1, 1])
    draws = np.stack(np.meshgrid(*[np.arange(4)] * 4), axis=-1).reshape(-1, 4)
    exact = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    assert found.means.mean() == pytest.approx(exact.mean(), abs=0.01)
    assert found.means.std() == pytest.approx(exact.std(), rel=0.05)
    assert found.without[:, 0] == pytest.approx((9.6 - sums) / (12 - counts))


def test_no_group_is_a_group_of_its_own() -> None:
    assert units(5, ["a", "", "b", "", "a"]).tolist() == [0, 1, 2, 3, 0]
    assert units(3).tolist() == [0, 1, 2]
    values = np.random.default_rng(0).uniform(0, 1, 30)
    assert interval_of(values, [""] * 30) == interval_of(values)
    with pytest.raises(ValueError, match="3 images but 2 groups"):
        units(3, ["a", "b"])


def test_a_share_of_all_or_none_has_the_exact_interval() -> None:
    ones, noughts = mean_intervals(np.stack([np.ones(20), np.zeros(20)], axis=1))
    # A share of this much has all of 20 in one case of 40.
    assert ones.lower**20 == pytest.approx(0.025)
    assert ones.upper == 1
    assert (noughts.lower, noughts.upper) == pytest.approx((0, 1 - ones.lower))
    grouped = interval_of(np.ones(20), ["a", "b"] * 10)
    assert grouped.lower == pytest.approx(math.sqrt(0.025))


def test_too_few_units_tell_nothing() -> None:
    for values, groups in ((np.ones(1), None), (np.array([0.1, 0.9, 0.4]), ["a"] * 3), (np.empty(0), None)):
        found = interval_of(values, groups)
        assert math.isnan(found.lower)
        assert math.isnan(found.upper)
        assert found.contains(5.0)


def test_drawing_in_parts_is_drawing_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (70, 3))
    whole = mean_intervals(values, resamples=300)
    monkeypatch.setattr(bootstrap, "_CELLS", 1000)
    parts = mean_intervals(values, resamples=300)
    for one, other in zip(whole, parts, strict=True):
        assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper))
    assert mean_intervals(values, resamples=300, seed=1) != parts


@given(st.lists(UNIT, min_size=2, max_size=30).map(np.array), st.integers(0, 9))
def test_an_interval_lies_within_the_figures_and_is_in_order(values: Floats, seed: int) -> None:
    found = interval_of(values, resamples=200, seed=seed)
    if len(set(values.tolist())) > 1:
        assert values.min() - 1e-9 <= found.lower <= found.upper <= values.max() + 1e-9
    else:
        assert found.lower - 1e-9 <= values[0] <= found.upper + 1e-9


def test_a_run_against_itself_differs_by_nothing() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 50)
    found = paired_difference(values, values)
    assert (found.difference, found.better) == (0, 0.5)
    assert (found.interval.lower, found.interval.upper) == (0, 0)
    assert not found.clear
    assert not found.differences.any()


def test_two_runs_are_mirror_images() -> None:
    random = np.random.default_rng(2)
    one, other = random.uniform(0, 1, 80), random.uniform(0, 1, 80)
    here, there = paired_difference(one, other), paired_difference(other, one)
    assert here.difference == pytest.approx(one.mean() - other.mean())
    assert here.difference == pytest.approx(-there.difference)
    assert here.better == pytest.approx(1 - there.better)
    assert here.interval.lower == pytest.approx(-there.interval.upper, abs=0.005)
    np.testing.assert_allclose(here.differences, one - other)


def test_pairing_finds_what_two_intervals_would_miss() -> None:
    random = np.random.default_rng(4)
    hard = random.uniform(0.4, 1, 60)  # what makes an image hard for both
    one, other = hard - 0.02 + random.normal(0, 0.01, 60), hard - 0.03 + random.normal(0, 0.01, 60)
    assert interval_of(one).contains(other.mean())
    found = paired_difference(one, other)
    assert found.clear
    assert found.better > 0.99
    assert found.interval.contains(0.01)


def test_what_is_called_clear_by_chance_is_as_rare_as_the_level_says() -> None:
    random = np.random.default_rng(5)
    called = [
        paired_difference(*random.normal(0.8, 0.05, (2, 50)), resamples=400, seed=trial).clear for trial in range(300)
    ]
    assert 0.02 <= np.mean(called) <= 0.09


def test_a_comparison_by_groups_is_less_sure() -> None:
    random = np.random.default_rng(6)
    shift = np.repeat(random.normal(0.01, 0.03, 15), 10)
    one = np.full(150, 0.8) + random.normal(0, 0.005, 150)
    names = [str(n) for n in np.repeat(np.arange(15), 10)]
    together, apart = paired_difference(one + shift, one, names), paired_difference(one + shift, one)
    assert together.difference == apart.difference
    width = [found.interval.upper - found.interval.lower for found in (together, apart)]
    assert width[0] > 2 * width[1]


def test_one_image_or_none_compares_to_nothing() -> None:
    one = paired_difference([0.9], [0.5])
    assert one.difference == pytest.approx(0.4)
    assert math.isnan(one.better)
    assert not one.clear
    assert math.isnan(paired_difference([], []).difference)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, K\)"):
        mean_intervals(np.ones(3))
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.ones(3), np.ones(4))
