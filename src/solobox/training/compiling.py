"""Compiling a network for training, where that saves more time than it takes. Not run on a GPU yet."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

ENOUGH_STEPS = 5000
"""Steps from which on it is worth the minute or so that it takes: a hundredth of a second saved in each pays it off."""


def pays(device: torch.device, steps: int) -> bool:
    """Whether to compile a network that is trained for so many steps: on a GPU, for long runs."""
    return device.type == "cuda" and steps >= ENOUGH_STEPS


def compiled(module: nn.Module, trial: Callable[[], Tensor], say: Callable[[str], None]) -> bool:
    """Compile `module` in place, and tell whether that went well; if not it is as it was, and `say` is told why.

    trial: shows `module` a batch like those to come, in the mode in which it will be trained, and gives a loss. What
        this does to its statistics, its gradients and the global random state is undone.

    Module and parameters stay the same objects, keys of the state among them, and a copy is not compiled. The forward
    pass is compiled for each size of a batch anew, at most twice in training, where the last batch is smaller.
    """
    before = [buffer.clone() for buffer in module.buffers()]
    devices = sorted({tensor.device.index for tensor in module.parameters() if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        module.compile(dynamic=False)
        try:
            trial().backward()  # type: ignore[no-untyped-call]
        # A missing compiler, a kernel that it cannot make and a lack of memory are all RuntimeErrors.
        except RuntimeError as error:
            eager(module)
            first = str(error).strip().split("\n", maxsplit=1)[0]
            say(f"the network could not be compiled, and is trained as it is: {first}")
    module.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return is_compiled(module)


def is_compiled(module: nn.Module) -> bool:
    """Whether calls of `module` go to what `nn.Module.compile` made."""
    return vars(module).get(_CALL) is not None


def eager(module: nn.Module) -> None:
    """Undo `nn.Module.compile`, which has no way back of its own."""
    vars(module).pop(_CALL, None)


_CALL = "_compiled_call_impl"
"""Where `nn.Module.compile` leaves what it made; copies and pickles of a module do without it."""
