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
from solobox.model.heads import Output, from_corners, to_corners

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


def distributions(*gaussians: tuple[float, float, float], bins: int = 704) -> Output:
    """Of one image, each edge with the same sum of Gaussians (weight, mean, standard deviation)."""
    positions = torch.linspace(-0.05, 1.05, bins)
    density = sum(
        weight / deviation * (-0.5 * ((positions - mean) / deviation).square()).exp()
        for weight, mean, deviation in gaussians
    )
    logits = torch.as_tensor(density).clamp(min=1e-12).log().expand(1, 4, bins)
    boxes = (logits.softmax(dim=-1) * positions).sum(dim=-1)
    return Output(boxes, logits, positions)


def test_the_likeliest_edge_is_the_expectation_of_one_mode_and_the_greater_of_two() -> None:
    alone = distributions((1.0, 0.4, 0.02))
    torch.testing.assert_close(alone.likeliest(), alone.boxes, atol=1e-3, rtol=0)
    output = distributions((0.6, 0.3, 0.02), (0.4, 0.8, 0.02))
    torch.testing.assert_close(output.boxes, torch.full((1, 4), 0.5), atol=1e-2, rtol=0)
    expected = (0.6**4 * 0.3 + 0.4**4 * 0.8) / (0.6**4 + 0.4**4)  # with modes that do not overlap
    torch.testing.assert_close(output.likeliest(), torch.full((1, 4), expected), atol=1e-2, rtol=0)
    assert abs(expected - 0.3) < 0.1
    # A narrow mode that holds little is no place.
    spike = distributions((0.9, 0.3, 0.03), (0.1, 0.8, 0.002))
    torch.testing.assert_close(spike.likeliest(), torch.full((1, 4), 0.3), atol=0.02, rtol=0)


def test_without_distributions_the_likeliest_box_is_the_box() -> None:
    boxes = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert torch.equal(Output(boxes).likeliest(), boxes)
