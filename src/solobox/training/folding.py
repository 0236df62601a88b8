"""Training a backbone on a CPU whose normalisation layers keep their statistics, with less work for the same gradients.

Batch normalisation by fixed statistics is a scale and a shift of each channel, which can be applied to the weights of
the convolution before it: the same function of the same parameters, without reading and writing every map once more
forwards and twice more backwards. Convolutions of 1x1 are computed as the matrix products that they are, and those
whose gradients PyTorch has no fast code for in bf16 in float32. What that saves is in bench/LOG.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

_TOLERANCE = 1e-3
"""Relative L2 error of a map, in float32, that rounding alone does not reach."""


@contextmanager
def folded(backbone: nn.Module, side: int = 64) -> Iterator[int]:
    """While the block runs, `backbone` computes normalisation in its convolutions; gives in how many of them.

    backbone: (B, 3, H, W) to maps; its normalisation layers must be in evaluation mode throughout. Keys of the state,
        parameters and their gradients are what they were, and copies made meanwhile are folded too. One on a GPU is
        left as it is.
    side: of the image by which it is seen which layer follows which, and that the maps stay the same. Where they do
        not, nothing is folded.
    """
    if next(backbone.parameters()).device.type != "cpu":
        yield 0
        return
    probe = torch.linspace(0, 255, 3 * side * side).reshape(1, 3, side, side)
    pairs = _pairs(backbone, probe)
    before = _maps(backbone, probe)
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    try:
        for conv, norm in pairs:
            changed += [(conv, type(conv)), (norm, type(norm))]
            conv.__dict__["_norm"] = [norm]  # in a list, or it would be a child, with keys of its own
            _become(conv, _CONVS[type(conv)])
            _become(norm, _NORMS[type(norm)])
        after = _maps(backbone, probe)
        same = all(
            float((a - b).norm()) <= _TOLERANCE * float(b.norm()) for a, b in zip(after, before, strict=True)
        )
        if not same:
            _undo(changed)
            changed = []
        yield len(changed) // 2
    finally:
        _undo(changed)


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Another way to compute, with the same parameters, children and hooks."""
    module.__class__ = kind


def _undo(changed: list[tuple[nn.Module, type[nn.Module]]]) -> None:
    for module, kind in changed:
        _become(module, kind)
        module.__dict__.pop("_norm", None)


def _pairs(backbone: nn.Module, probe: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each normalisation layer that is shown just what a convolution gave, once, and that convolution."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    shown: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, given, out: (
                made.update({id(out): (module, out)})
                if type(module) in _CONVS
                else shown.append((module, given[0]))
            )
        )
        for module in backbone.modules()
        if type(module) in _CONVS or type(module) in _NORMS
    ]
    try:
        _maps(backbone, probe)
    finally:
        for hook in hooks:
            hook.remove()
    pairs: list[tuple[Any, Any]] = [(made[id(x)][0], norm) for norm, x in shown if id(x) in made]
    used = [id(part) for pair in pairs for part in pair]
    return [pair for pair in pairs if all(used.count(id(part)) == 1 for part in pair)]


@torch.no_grad()
def _maps(backbone: nn.Module, probe: Tensor) -> list[Tensor]:
    return [feature.float() for feature in backbone(probe)]


def _scaled(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the normalisation after it."""
    norm: nn.BatchNorm2d = conv.__dict__["_norm"][0]
    assert norm.running_mean is not None  # noqa: S101
    assert norm.running_var is not None  # noqa: S101
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift: Tensor = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    weight: Tensor = conv.weight * scale.view(-1, 1, 1, 1)
    return weight, shift


def _is_slow(conv: nn.Conv2d, given: Tensor) -> bool:
    """Whether backward of this convolution, of (B, C, h, w), is much slower in bf16 than in float32."""
    return (
        given.dtype.itemsize == 2
        and conv.groups > 1
        and (conv.stride != (1, 1) or conv.kernel_size != (3, 3))
    )


class _FoldedConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        weight, bias = _scaled(self)
        if self.kernel_size == (1, 1) and self.groups == 1 and self.padding == (0, 0):
            kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
            made: Tensor = _Pointwise.apply(
                input.to(kind), weight.flatten(1).to(kind), bias.to(kind), _pair(self.stride)
            )
            return made
        slow = _is_slow(self, input)
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and not slow):
            made = self._conv_forward(input.float() if slow else input, weight, bias)
        return made.to(input.dtype) if slow else made


class _Pointwise(torch.autograd.Function):
    """A convolution of 1x1 as matrix products of (cells, channels).

    A function of its own because `linear` would give a view, and the activation in place after it would make backward
    copy every map.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> Tensor:
        used = maps[:, :, :: stride[0], :: stride[1]].contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(used, weight)
        ctx.stride, ctx.whole = stride, maps.shape
        batch, _, height, width = used.shape
        out = used.new_empty(batch, len(weight), height, width).contiguous(memory_format=torch.channels_last)
        torch.addmm(bias, _cells(used), weight.t(), out=_cells(out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        used, weight = ctx.saved_tensors
        given = gradients[0].contiguous(memory_format=torch.channels_last)
        below = None
        if ctx.needs_input_grad[0]:
            below = torch.empty_like(used)
            torch.mm(_cells(given), weight, out=_cells(below))
            if ctx.stride != (1, 1):  # the cells between have no part in it
                part, below = below, used.new_zeros(ctx.whole).contiguous(memory_format=torch.channels_last)
                below[:, :, :: ctx.stride[0], :: ctx.stride[1]] = part
        return below, _cells(given).t() @ _cells(used), _cells(given).sum(dim=0), None


def _cells(maps: Tensor) -> Tensor:
    """(B, C, h, w), in memory channels last, as (B * h * w, C) of the same memory."""
    return maps.permute(0, 2, 3, 1).view(-1, maps.shape[1])


class _FoldedConv2dSame(Conv2dSame):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        weight, bias = _scaled(self)
        slow = _is_slow(self, input)
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and not slow):
            made: Tensor = conv2d_same(
                input.float() if slow else input, weight, bias,
                _pair(self.stride), (0, 0), _pair(self.dilation), self.groups,
            )  # fmt: skip
        return made.to(input.dtype) if slow else made


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    return numbers[0], numbers[1]


class _FoldedNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        return input


class _FoldedNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.act(self.drop(x))
        return made


_CONVS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _FoldedConv2d, Conv2dSame: _FoldedConv2dSame}
_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: _FoldedNorm,
    BatchNormAct2d: _FoldedNormAct,
}
