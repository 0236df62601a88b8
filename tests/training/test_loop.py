"""The training loop, on a small problem that is quick to compute."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from solobox.config.optim import OptimizerConfig
from solobox.errors import ConfigError, Paused
from solobox.model.sync_layers import BatchSlice
from solobox.training.loop import Epoch, NullCheckpointer, ema_update, fit, within_one_standard_error
from solobox.training.stages import Batch, Stage
from solobox.utils.progress import NullProgress

FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")


def stage_of(module: nn.Module, **changes: Any) -> Stage:
    """A line to be fitted."""

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        for number in range(first, 5):
            inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + number))
            yield Batch(inputs, inputs.sum(dim=1, keepdim=True), BatchSlice(0, 8, 8))

    stage = Stage(
        name="line", module=module, batches=batches, batches_per_epoch=5, loss=F.mse_loss, validate=None,
        train_iou=None, epochs=4, optimizer=OptimizerConfig(lr=0.05, schedule="constant", warmup=0.0), ema=0.0, seed=0,
    )  # fmt: skip
    return replace(stage, **changes)


def line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


class Memory(NullCheckpointer):
    """Stores states in memory, and pauses after so many questions."""

    def __init__(self, pause_after: int = 0, state: dict[str, Any] | None = None) -> None:
        self.states: list[dict[str, Any]] = [] if state is None else [state]
        self.left = pause_after

    def resume(self) -> Any:
        return self.states[-1] if self.states else None

    def save(self, state: dict[str, Any], history: Any) -> None:
        self.states.append(copy.deepcopy(state))

    def should_pause(self, *, epoch_ended: bool) -> bool:
        self.left -= 1
        return self.left == 0


def test_a_stage_learns_and_ends_in_evaluation_mode() -> None:
    module = line()
    result = fit(stage_of(module), fabric=FABRIC, progress=NullProgress())
    losses = [epoch.train_loss for epoch in result.history]
    assert losses[-1] < losses[0]
    assert not module.training
    assert result.best == 3  # nothing is held out: the last epoch
    assert {(epoch.train_iou, epoch.val_iou) for epoch in result.history} == {(None, None)}


def test_the_best_epoch_is_kept_and_patience_counts_from_it() -> None:
    scores = iter([0.5, 0.9, 0.4, 0.3, 0.2])
    weights = []

    def validate(module: nn.Module) -> Tensor:
        weights.append(copy.deepcopy(module.state_dict()))
        return torch.full((5,), next(scores)) + 0.001 * torch.arange(5)

    module = line()
    result = fit(
        stage_of(module, validate=validate, epochs=5, patience=2), fabric=FABRIC, progress=NullProgress()
    )
    assert (result.best, len(result.history)) == (1, 4)
    assert torch.equal(module.weight, weights[1]["weight"])  # type: ignore[arg-type]


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("pause_after", [2, 5, 7])
def test_a_paused_stage_continues_bit_for_bit(pause_after: int, ema: float) -> None:
    whole, parts = line(), line()
    expected = fit(stage_of(whole, ema=ema), fabric=FABRIC, progress=NullProgress())
    memory = Memory(pause_after)
    with pytest.raises(Paused):
        fit(stage_of(parts, ema=ema), fabric=FABRIC, progress=NullProgress(), checkpointer=memory)
    fresh = line()
    result = fit(
        stage_of(fresh, ema=ema),
        fabric=FABRIC,
        progress=NullProgress(),
        checkpointer=Memory(state=memory.states[-1]),
    )
    assert [epoch.train_loss for epoch in result.history] == [epoch.train_loss for epoch in expected.history]
    for one, other in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


def test_callbacks_get_each_epoch_and_the_averaged_weights() -> None:
    calls: list[tuple[Epoch, Tensor]] = []
    module = line()
    result = fit(
        stage_of(module, ema=0.9), fabric=FABRIC, progress=NullProgress(),
        callbacks=[lambda epoch, module: calls.append((epoch, module.weight.clone()))],  # type: ignore[operator]
    )  # fmt: skip
    assert [epoch for epoch, _ in calls] == result.history
    assert torch.equal(calls[result.best][1], module.weight)  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_stops_before_the_weights_follow_it() -> None:
    module = line()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ConfigError) as error:
        fit(
            stage_of(module, loss=lambda output, _: (output * torch.inf).sum()),
            fabric=FABRIC,
            progress=NullProgress(),
        )
    assert error.value.code == "loss-not-finite"
    assert torch.equal(module.weight, before["weight"])  # type: ignore[arg-type]


def test_the_moving_average_is_that_of_its_definition() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = AveragedModel(module, multi_avg_fn=ema_update(0.5), use_buffers=True)
    expected: dict[str, Tensor] = {}
    for update in range(6):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(4, 3))  # moves the statistics, and their count, which is an integer
        average.update_parameters(module)
        decay = min(0.5, (1 + update) / (10 + update)) if update else 0.0
        for key, value in module.state_dict().items():
            mixed = value.is_floating_point() and key in expected
            expected[key] = decay * expected[key] + (1 - decay) * value if mixed else value.clone()
    for key, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[key])


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_the_best_epoch_is_not_worse_than_itself(values: list[float]) -> None:
    scores = torch.tensor(values)
    assert within_one_standard_error(scores, scores)


def test_an_epoch_that_is_worse_on_every_image_is_worse() -> None:
    best = torch.linspace(0.5, 0.9, 50)
    noise = 0.001 * torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert not within_one_standard_error(best - 0.05 - noise, best)


def test_a_difference_that_chance_explains_is_none() -> None:
    best = torch.tensor([0.9, 0.8, 0.7, 0.9])
    other = torch.tensor([0.8, 0.9, 0.8, 0.75])  # a little lower in the mean, but better on some images
    assert float(other.mean()) < float(best.mean())
    assert within_one_standard_error(other, best)


def test_a_single_image_takes_the_higher_score() -> None:
    assert not within_one_standard_error(torch.tensor([0.5]), torch.tensor([0.6]))
