from collections.abc import Callable

import pytest
import torch
import torchvision.ops as oracle
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from solobox.config.losses import NAMES
from solobox.errors import ConfigError
from solobox.model import losses
from solobox.model.heads import DistributionHead, Output
from solobox.model.losses import Loss


def boxes(seed: int, count: int = 64) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(count, 2, generator=rng) * 0.6, 0.02 + torch.rand(count, 2, generator=rng) * 0.4
    return torch.cat([corner, corner + size], dim=1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (losses.giou_loss, oracle.generalized_box_iou_loss),
        (losses.diou_loss, oracle.distance_box_iou_loss),
        (losses.ciou_loss, oracle.complete_box_iou_loss),
    ],
)
@given(seed=st.integers(0, 10_000))
def test_losses_agree_with_torchvision(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[..., Tensor], seed: int
) -> None:
    a, b = boxes(seed), boxes(seed + 1)
    torch.testing.assert_close(ours(a, b), theirs(a, b, reduction="mean"), atol=1e-4, rtol=1e-4)


@given(seed=st.integers(0, 10_000))
def test_iou_agrees_with_torchvision(seed: int) -> None:
    a, b = boxes(seed), boxes(seed + 1)
    torch.testing.assert_close(losses.box_iou(a, b), oracle.box_iou(a, b).diagonal(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "kl"])
def test_every_box_loss_is_least_at_the_truth_and_leads_there(name: str) -> None:
    truth = boxes(3, 8)
    loss = Loss.parse(name, sigma=0.01)
    assert float(loss(Output(truth.clone()), truth)) == pytest.approx(0, abs=1e-5)
    guess = (
        truth + 0.03 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    before = loss(Output(guess), truth)
    (slope,) = torch.autograd.grad(before, guess)
    after = loss(Output(guess.detach() - 1e-3 * slope / slope.norm()), truth)
    assert float(after) < float(before.detach())


def test_kl_is_least_when_the_distribution_is_the_wanted_one() -> None:
    head = DistributionHead("vector", 4, cells=7, bins=16)
    truth = boxes(5, 6)
    ideal = -0.5 * ((head.positions - truth.unsqueeze(-1)) / 0.02).square()
    output = Output(truth, ideal, head.positions)
    assert float(losses.kl_loss(output, truth, sigma=0.02)) == pytest.approx(0, abs=1e-5)
    flat = Output(truth, torch.zeros_like(ideal), head.positions)
    assert float(losses.kl_loss(flat, truth, sigma=0.02)) > 1


def test_kl_takes_an_edge_out_of_reach_at_the_end_of_the_bins() -> None:
    head = DistributionHead("vector", 4, cells=7, bins=16)
    far = torch.tensor([[-3.0, 0.2, 0.8, 9.0]])
    logits = torch.zeros(1, 4, len(head.positions))
    assert torch.isfinite(losses.kl_loss(Output(far, logits, head.positions), far, sigma=0.01))


def test_kl_without_a_distribution_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        Loss.parse("kl", sigma=0.01)(Output(boxes(0)), boxes(1))
    assert error.value.code == "options-conflict"


def test_a_sum_is_the_sum() -> None:
    a, b = boxes(7), boxes(8)
    parts = [float(Loss.parse(name, sigma=0.01)(Output(a), b)) for name in ("l1", "giou")]
    total = float(Loss.parse("10*l1 + 0.5 * giou", sigma=0.01)(Output(a), b))
    assert total == pytest.approx(10 * parts[0] + 0.5 * parts[1], rel=1e-5)


@pytest.mark.parametrize("text", ["", "l3", "l1 - giou", "10 l1", "l1 + ", "*l1"])
def test_what_is_no_loss_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(ConfigError, match="smooth_l1"):
        Loss.parse(text, sigma=0.01)
