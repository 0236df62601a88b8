import torch
from hypothesis import given
from hypothesis import strategies as st

from solobox.training.loop import not_worse


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_best_epoch_is_not_worse_than_itself(values: list[float]) -> None:
    scores = torch.tensor(values)
    assert not_worse(scores, scores)


def test_an_epoch_that_is_worse_on_every_picture_is_worse() -> None:
    best = torch.linspace(0.5, 0.9, 50)
    assert not not_worse(
        best - 0.05 - 0.001 * torch.rand(50, generator=torch.Generator().manual_seed(0)), best
    )


def test_a_difference_that_chance_explains_is_none() -> None:
    best = torch.tensor([0.9, 0.8, 0.7, 0.9])
    other = torch.tensor([0.8, 0.9, 0.8, 0.75])  # a little lower in the mean, but now better, now worse
    assert float(other.mean()) < float(best.mean())
    assert not_worse(other, best)


def test_a_single_picture_takes_the_higher_score() -> None:
    assert not not_worse(torch.tensor([0.5]), torch.tensor([0.6]))
