import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solobox.errors import ConfigError
from solobox.uncertainty.familiarity import Familiarity


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
