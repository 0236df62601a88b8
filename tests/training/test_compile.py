import copy
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from solobox.training import compiling
from solobox.training.compiling import ENOUGH_STEPS, compiled, eager, is_compiled, pays


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.norm(self.linear(x))
        return made


def no_remark(text: str) -> None:
    pytest.fail(text)


def test_it_pays_in_long_runs_on_a_gpu_alone() -> None:
    assert pays(torch.device("cuda", 0), ENOUGH_STEPS)
    assert not pays(torch.device("cuda", 0), ENOUGH_STEPS - 1)
    assert not pays(torch.device("cpu"), 10 * ENOUGH_STEPS)


def test_a_compiled_module_computes_the_same_and_its_state_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All but the last step, the making of kernels: that takes seconds and a C++ compiler."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    torch.manual_seed(0)
    module, x = Tiny().train(), torch.randn(6, 3)
    before, weight = copy.deepcopy(module), module.linear.weight
    state = torch.get_rng_state()
    shown: list[bool] = []

    def trial() -> Tensor:
        shown.append(is_compiled(module))
        loss: Tensor = module(x).square().sum() + torch.rand(())
        return loss

    assert compiled(module, trial, no_remark)
    assert shown == [True]
    assert torch.equal(torch.get_rng_state(), state)
    assert module.linear.weight is weight
    assert weight.grad is None
    assert list(module.state_dict()) == list(before.state_dict())
    for key, value in before.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key
    torch.testing.assert_close(module(x), before(x))

    average = copy.deepcopy(module)  # as `loop.fit` makes it
    assert not is_compiled(average)
    assert is_compiled(module)
    eager(module)
    assert not is_compiled(module)
    assert torch.equal(module(x), average(x))


def test_what_cannot_be_compiled_is_trained_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real failure of the real compiler: there is none where it is looked for."""
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch.manual_seed(1)
    module, x, said = Tiny().train(), torch.randn(5, 3), list[str]()
    before = copy.deepcopy(module)
    assert not compiled(module, lambda: module(x).sum(), said.append)
    assert len(said) == 1
    assert "could not be compiled" in said[0]
    assert "No working C++ compiler" in said[0]
    assert not is_compiled(module)
    for key, value in before.state_dict().items():
        assert torch.equal(module.state_dict()[key], value), key
    module(x).sum().backward()
    assert compiling.is_compiled(module) is False
