"""The bound is the exact one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from solobox.uncertainty.binomial import lower_bound


@given(st.integers(1, 400), st.floats(0, 1), st.floats(1e-6, 0.5))
def test_the_bound_is_clopper_and_pearsons(number: int, share: float, error: float) -> None:
    good = round(share * number)
    exact = beta.ppf(error, good, number - good + 1) if good else 0.0
    assert lower_bound(good, number, error) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize(
    ("good", "number", "error"), [(2, 1, 0.1), (-1, 1, 0.1), (0, 0, 0.1), (1, 1, 0.0), (1, 1, 1.0)]
)
def test_what_cannot_have_been_seen(good: int, number: int, error: float) -> None:
    with pytest.raises(ValueError, match="at an error of"):
        lower_bound(good, number, error)
