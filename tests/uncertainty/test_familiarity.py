import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.errors import ConfigError
from solobox.uncertainty.familiarity import Familiarity


def drawn(rng: np.random.Generator, count: int, width: int = 40, shift: float = 0.0) -> np.ndarray:
    """Features with a few strong directions, as a backbone's have."""
    basis = np.random.default_rng(9).normal(size=(6, width)) * np.array([8, 6, 4, 3, 2, 1])[:, None]
    made: np.ndarray = rng.normal(size=(count, 6)) @ basis + rng.normal(0, 0.3, (count, width)) + shift
    return made


def test_held_out_images_are_spread_evenly_and_others_are_near_zero() -> None:
    rng = np.random.default_rng(0)
    made = Familiarity.of(drawn(rng, 400), drawn(rng, 200))
    like = made(drawn(rng, 2000))
    # A p-value: what is drawn alike has at most p with a probability of about p.
    for p in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert (like <= p).mean() == pytest.approx(p, abs=0.06)
    assert made(drawn(rng, 100, shift=3.0)).max() <= 0.02


def test_with_all_directions_it_is_the_mahalanobis_distance() -> None:
    rng = np.random.default_rng(1)
    training = rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5))
    other = rng.normal(size=(50, 5)) * 3
    made = Familiarity.of(training, other)
    centred = other - training.mean(axis=0)
    wanted = (centred @ np.linalg.inv(np.cov(training.T)) * centred).sum(axis=1)
    assert made.distance(other) == pytest.approx(wanted, rel=2e-3)


@given(st.integers(2, 30), st.integers(1, 5), st.integers(2, 12))
def test_few_images_and_constant_features_give_finite_figures(count: int, held: int, width: int) -> None:
    rng = np.random.default_rng(count)
    training = rng.normal(size=(count, width))
    training[:, 0] = 1.0
    made = Familiarity.of(training, rng.normal(size=(held, width)))
    found = made(rng.normal(size=(7, width)))
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert (found <= 1).all()


def test_a_held_out_image_counts_itself() -> None:
    rng = np.random.default_rng(2)
    held = drawn(rng, 9)
    made = Familiarity.of(drawn(rng, 50), held)
    assert sorted(made(held)) == pytest.approx([(place + 1) / 10 for place in range(1, 10)])


def test_arrays_give_it_back_and_missing_ones_are_told() -> None:
    rng = np.random.default_rng(3)
    made = Familiarity.of(drawn(rng, 30), drawn(rng, 10))
    again = Familiarity.from_arrays(made.arrays())
    assert again is not None
    probe = drawn(rng, 5)
    assert (again(probe) == made(probe)).all()
    assert Familiarity.from_arrays({}) is None
    with pytest.raises(ConfigError, match="damaged"):
        Familiarity.from_arrays({"mean": made.mean})
