import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from solobox.training.loop import _Follower, not_worse


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_best_epoch_is_not_worse_than_itself(values: list[float]) -> None:
    scores = torch.tensor(values)
    assert not_worse(scores, scores)


def test_an_epoch_that_is_worse_on_every_image_is_worse() -> None:
    best = torch.linspace(0.5, 0.9, 50)
    assert not not_worse(
        best - 0.05 - 0.001 * torch.rand(50, generator=torch.Generator().manual_seed(0)), best
    )


def test_a_difference_that_chance_explains_is_none() -> None:
    best = torch.tensor([0.9, 0.8, 0.7, 0.9])
    other = torch.tensor([0.8, 0.9, 0.8, 0.75])  # a little lower in the mean, but now better, now worse
    assert float(other.mean()) < float(best.mean())
    assert not_worse(other, best)


def test_a_single_image_takes_the_higher_score() -> None:
    assert not not_worse(torch.tensor([0.5]), torch.tensor([0.6]))


@pytest.mark.parametrize("decay", [0.0, 2 / 11, 0.99])
def test_the_average_follows_bit_for_bit_as_tensor_by_tensor(decay: float) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.Linear(5, 2))
    average, oracle = copy.deepcopy(module), copy.deepcopy(module)
    follow = _Follower(average, module)
    for _ in range(3):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module[1](torch.randn(2, 7, 4, 4))  # moves the statistics, and the count, which is no float
        follow(decay)
        for own, new in zip(oracle.state_dict().values(), module.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(new, 1 - decay)
            else:
                own.copy_(new)
    for key, value in oracle.state_dict().items():
        assert torch.equal(average.state_dict()[key], value), key
    assert int(average.state_dict()["1.num_batches_tracked"]) == 3


def test_the_average_follows_a_module_whose_state_is_loaded_anew() -> None:
    module = nn.Linear(4, 4)
    average = copy.deepcopy(module)
    follow = _Follower(average, module)
    module.load_state_dict({"weight": torch.ones(4, 4), "bias": torch.zeros(4)})
    follow(0.0)
    assert torch.equal(average.weight, torch.ones(4, 4))
