"""Batches in parts on threads: the gradient is that of the whole batch, and the bits depend on no number of threads."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import Tensor, nn

from solobox.config.optim import OptimizerConfig
from solobox.model.heads import DistributionHead, Output
from solobox.model.losses import Loss, box_iou
from solobox.model.sync_layers import BatchNorm2d, BatchSlice
from solobox.model.vectorizer import Edges
from solobox.training import micro_batches as micro_batches_module
from solobox.training.loop import fit
from solobox.training.micro_batches import MicroBatches, parts_of
from solobox.training.stages import Batch, Stage
from solobox.utils.progress import NullProgress

FABRIC = Fabric(accelerator="cpu", devices=1, precision="32-true")
CHANNELS, CELLS = (3, 4, 5), 4


class Head(nn.Module):
    """Batch normalization, dropout and a distribution for each edge, as in training."""

    def __init__(self) -> None:
        super().__init__()
        self.vectorizer = Edges(CHANNELS, width=8, dropout=0.3)
        self.head = DistributionHead("sequences", 16, cells=CELLS, bins=4, width=8)

    def forward(self, maps: list[Tensor]) -> Output:
        output: Output = self.head(self.vectorizer(maps))
        return output


def head() -> Head:
    torch.manual_seed(0)
    return Head()


def batch(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(seed)
    sides = [2 * CELLS, CELLS, CELLS // 2]
    maps = [torch.randn(count, c, side, side, generator=rng) for c, side in zip(CHANNELS, sides, strict=True)]
    corner = torch.rand(count, 2, generator=rng) / 2
    return maps, torch.cat([corner, corner + 0.4], dim=1)


def whole_batch(maps: list[Tensor], boxes: Tensor) -> Batch:
    return Batch(maps, boxes, BatchSlice(0, len(boxes), len(boxes)))


def stage_of(module: nn.Module, **changes: Any) -> Stage:
    def batches(epoch: int, first: int) -> Iterator[Batch]:
        for number in range(first, 3):
            count = 19 if number < 2 else 9  # and a last one of fewer parts
            yield whole_batch(*batch(count, 10 * epoch + number))

    options: dict[str, Any] = {
        "name": "head", "module": module, "batches": batches, "batches_per_epoch": 3, "loss": Loss.parse("kl + giou"),
        "validate": None, "train_iou": lambda output, boxes: box_iou(output.boxes.detach(), boxes), "epochs": 2,
        "optimizer": OptimizerConfig(lr=0.01), "ema": 0.9, "seed": 3,
    }  # fmt: skip
    return Stage(**options | changes)


@pytest.fixture(autouse=True, scope="module")
def _parts_of_small_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(micro_batches_module, "_MIN_VALUES", 1)
        yield


def test_small_inputs_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_batches_module, "_MIN_VALUES", 500_000)
    parts = {
        side: parts_of(Batch(torch.empty(32, 3, side, side), torch.empty(32, 4), BatchSlice(0, 32, 32)))
        for side in (64, 128, 320)
    }
    assert parts == {64: 1, 128: 3, 320: 4}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 21), seed=st.integers(0, 100), scale=st.sampled_from([1.0, 0.25]))
def test_the_gradient_is_that_of_the_whole_batch(count: int, seed: int, scale: float) -> None:
    whole, divided = head(), head()
    stage = stage_of(divided)
    maps, boxes = batch(count, seed)
    torch.manual_seed(seed)
    output = whole.train()(maps)
    expected = stage.loss(output, boxes)
    (expected * scale).backward()  # type: ignore[no-untyped-call]
    with MicroBatches(stage, FABRIC) as micro_batches:
        loss, ious = micro_batches.backward(whole_batch(maps, boxes), seed=seed, scale=scale)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(ious, box_iou(output.boxes.detach(), boxes), atol=1e-5, rtol=1e-4)
    for weight, same in zip(whole.parameters(), divided.parameters(), strict=True):
        torch.testing.assert_close(same.grad, weight.grad, atol=2e-5, rtol=2e-4)
    for buffer, copied in zip(whole.buffers(), divided.buffers(), strict=True):
        torch.testing.assert_close(copied, buffer)


def test_gradients_of_several_batches_are_added() -> None:
    once, twice = head(), head()
    maps, boxes = batch(16, 0)
    for module, times in ((once, 1), (twice, 2)):
        with MicroBatches(stage_of(module), FABRIC) as micro_batches:
            for _ in range(times):
                micro_batches.backward(whole_batch(maps, boxes), seed=0, scale=1 / times)
    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad)


@pytest.mark.usefixtures("threads")
def test_the_bits_depend_on_no_number_of_threads() -> None:
    states = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        module = head()
        losses = [
            epoch.train_loss
            for epoch in fit(stage_of(module), fabric=FABRIC, progress=NullProgress()).history
        ]
        assert torch.get_num_threads() == count
        states.append((losses, copy.deepcopy(module.state_dict())))
    for losses, state in states[1:]:
        assert losses == states[0][0]
        assert all(torch.equal(value, states[0][1][name]) for name, value in state.items())


@pytest.mark.usefixtures("threads")
def test_an_error_in_one_part_ends_all() -> None:
    torch.set_num_threads(2)

    def loss(_: Output, boxes: Tensor) -> Tensor:
        raise ArithmeticError(f"{len(boxes)} rows")

    class Fails(BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            if self.batch_slice is not None and self.batch_slice.start == 4:
                raise ArithmeticError("this part alone")
            return super().forward(input)

    waiting = head()
    waiting.vectorizer.norm = Fails(8)
    for module, changes in ((head(), {"loss": loss}), (waiting, {})):
        with pytest.raises(ArithmeticError, match=r"rows|this part alone"):
            fit(stage_of(module, **changes), fabric=FABRIC, progress=NullProgress())
        assert torch.get_num_threads() == 2


def test_statistics_of_bfloat16_are_in_float32() -> None:
    norm = BatchNorm2d(4)
    pixels = (torch.randn(16, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 5).bfloat16()
    stage = stage_of(norm, loss=lambda output, _: output.float().square().mean(), train_iou=None)
    with MicroBatches(stage, FABRIC) as micro_batches:
        micro_batches.backward(Batch(pixels, torch.zeros(16), BatchSlice(0, 16, 16)), seed=0, scale=1.0)
    expected = pixels.float().transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, 0.1 * expected.mean(dim=1))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * expected.var(dim=1))
