import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.errors import ConfigError
from solobox.uncertainty.familiarity import Familiarity, shift_p_value


def sample(rng: np.random.Generator, count: int, width: int = 40, shift: float = 0.0) -> np.ndarray:
    """Features with a few strong directions, as a backbone's have."""
    basis = np.random.default_rng(9).normal(size=(6, width)) * np.array([8, 6, 4, 3, 2, 1])[:, None]
    features: np.ndarray = rng.normal(size=(count, 6)) @ basis + rng.normal(0, 0.3, (count, width)) + shift
    return features


def test_held_out_images_are_spread_evenly_and_others_are_near_zero() -> None:
    rng = np.random.default_rng(0)
    fitted = Familiarity.fit(sample(rng, 400), sample(rng, 200))
    like = fitted(sample(rng, 2000))
    # A p-value: what is drawn alike has at most p with a probability of about p.
    for p in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert (like <= p).mean() == pytest.approx(p, abs=0.06)
    assert fitted(sample(rng, 100, shift=3.0)).max() <= 0.02


def test_with_all_directions_it_is_the_mahalanobis_distance() -> None:
    rng = np.random.default_rng(1)
    training = rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5))
    other = rng.normal(size=(50, 5)) * 3
    fitted = Familiarity.fit(training, other)
    centered = other - training.mean(axis=0)
    expected = (centered @ np.linalg.inv(np.cov(training.T)) * centered).sum(axis=1)
    assert fitted.distance(other) == pytest.approx(expected, rel=2e-3)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(2, 12))
def test_few_images_and_constant_features_give_finite_values(count: int, held: int, width: int) -> None:
    rng = np.random.default_rng(count)
    training = rng.normal(size=(count, width))
    training[:, 0] = 1.0
    fitted = Familiarity.fit(training, rng.normal(size=(held, width)))
    values = fitted(rng.normal(size=(7, width)))
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert (values <= 1).all()


def test_a_held_out_image_counts_itself() -> None:
    rng = np.random.default_rng(2)
    held = sample(rng, 9)
    fitted = Familiarity.fit(sample(rng, 50), held)
    assert sorted(fitted(held)) == pytest.approx([rank / 10 for rank in range(2, 11)])


def test_training_images_count_cross_fitted() -> None:
    """Few held-out images suffice for small values, and what is drawn alike still has them evenly."""
    like, unlike = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        fitted = Familiarity.fit(sample(rng, 200), sample(rng, 10), [""] * 200)
        assert len(fitted.distances) == 210
        like.append(fitted(sample(rng, 500)))
        unlike.append(fitted(sample(rng, 40, shift=3.0)))
    assert max(values.max() for values in unlike) == pytest.approx(1 / 211)
    for p in (0.05, 0.1, 0.25, 0.5, 0.75):
        # Somewhat less, as nine tenths of the images make a Gaussian that fits a little less well.
        assert 0.65 * p < (np.concatenate(like) <= p).mean() < 1.05 * p


def test_a_group_is_in_one_fold() -> None:
    """Images of one group are measured by a Gaussian that saw none of them: copies are not familiar to each other."""
    rng = np.random.default_rng(4)
    odd = np.repeat(sample(rng, 1, shift=2.0), 5, axis=0)
    training = np.concatenate([sample(rng, 95), odd])
    alone = Familiarity.fit(training, sample(rng, 5), [""] * 100)
    together = Familiarity.fit(training, sample(rng, 5), [""] * 95 + ["copies"] * 5)
    assert together.distances[-5:].min() > 3 * alone.distances[-5:].max()


@given(st.integers(2, 12), st.integers(1, 3), st.integers(1, 4))
def test_few_images_are_cross_fitted_where_two_others_are_left(count: int, held: int, n_groups: int) -> None:
    rng = np.random.default_rng(count)
    names = [f"g{row % n_groups}" for row in range(count)]
    fitted = Familiarity.fit(rng.normal(size=(count, 6)), rng.normal(size=(held, 6)), names)
    others = [count - names.count(name) for name in names]
    assert len(fitted.distances) == held + sum(number > 1 for number in others)
    assert np.isfinite(fitted(rng.normal(size=(7, 6)))).all()


@pytest.mark.parametrize(("n_reference", "count"), [(60, 39), (400, 39), (400, 400), (60, 1000)])
def test_sets_of_the_same_distribution_seldom_differ(n_reference: int, count: int) -> None:
    """The values of a set come from the same reference, which matters as soon as the set is as large as that."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(2000):
        reference = np.sort(rng.normal(size=n_reference))
        at_least = n_reference - np.searchsorted(reference, rng.normal(size=count))
        values.append(shift_p_value((1 + at_least) / (n_reference + 1), n_reference))
    for level in (0.01, 0.05, 0.2):
        share = np.mean(np.array(values) <= level)
        assert level / 4 < share < 1.25 * level + 0.004


def test_a_set_of_unlike_images_differs_even_where_no_single_one_can() -> None:
    assert shift_p_value(np.full(39, 0.05), 56) < 1e-6
    assert shift_p_value(np.full(39, 0.05), 56, n_groups=1) > 0.05
    assert shift_p_value([1.0], 1) == 1


def test_it_reads_back_from_its_arrays_and_missing_ones_are_an_error() -> None:
    rng = np.random.default_rng(3)
    fitted = Familiarity.fit(sample(rng, 30), sample(rng, 10))
    again = Familiarity.from_arrays(fitted.arrays())
    assert again is not None
    probe = sample(rng, 5)
    assert (again(probe) == fitted(probe)).all()
    assert Familiarity.from_arrays({}) is None
    with pytest.raises(ConfigError, check=lambda error: error.code == "model-damaged"):
        Familiarity.from_arrays({"mean": fitted.mean})
