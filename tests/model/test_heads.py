from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from solobox import boxes as geometry
from solobox.config.architecture import BoxForm
from solobox.model.heads import from_corners, to_corners

FORMS: tuple[BoxForm, ...] = get_args(BoxForm)
CONVENTION: dict[BoxForm, geometry.Convention] = {
    "corners": "xyxy", "center_size": "cxcywh", "corner_size": "xywh"
}  # fmt: skip

numbers = arrays(np.float64, st.tuples(st.integers(0, 3), st.just(4)), elements=st.floats(-1000, 1000))


@pytest.mark.parametrize("form", FORMS)
@given(values=numbers)
def test_there_and_back_is_the_same(form: BoxForm, values: np.ndarray) -> None:
    given_numbers = torch.from_numpy(values)
    for first, second in ((to_corners, from_corners), (from_corners, to_corners)):
        back = second(first(given_numbers, form), form)
        assert back.dtype == torch.float64
        torch.testing.assert_close(back, given_numbers, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@given(values=numbers)
def test_it_agrees_with_the_conversions_of_arrays(form: BoxForm, values: np.ndarray) -> None:
    found = to_corners(torch.from_numpy(values), form).numpy()
    np.testing.assert_allclose(found, geometry.convert(values, CONVENTION[form], "xyxy"), atol=1e-9)
    found = from_corners(torch.from_numpy(values), form).numpy()
    np.testing.assert_allclose(found, geometry.convert(values, "xyxy", CONVENTION[form]), atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("convert", [to_corners, from_corners])
def test_gradients_are_those_of_finite_differences(
    form: BoxForm, convert: Callable[[Tensor, BoxForm], Tensor]
) -> None:
    values = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda v: convert(v, form), (values.requires_grad_(),))
