"""The layers of a localizer in numbers: what each one gives, how much it has to learn, how much work it is."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from solobox.config.architecture import Architecture
from solobox.model.backbone import Backbone
from solobox.model.extra_convs import Extra
from solobox.model.heads import DistributionHead, Output, RegressionHead, _EdgeConv
from solobox.model.localizer import Localizer
from solobox.model.vectorizer import Edges, Flatten, Gap, _Residual

EXAMPLE_SIDE = 320
"""Side of the square that a localizer of any size is summarized for."""

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer, or one part with all that is in it.

    name: where it is in the localizer, as `torch.nn.Module.get_submodule` takes it.
    label: the name below the row that holds this one.
    depth: 1 for the parts, 2 for their stages, and so on.
    type: the class's name. kind: what it is, in words.
    outputs: shapes of what it gives for one image, without the batch, each once: (channels, height, width) of maps.
        Empty for a layer that is not used.
    parameters: numbers that can be learnt. trainable: those of them that are not frozen.
    macs: multiply-adds for one image, in convolutions, linear layers and matrix products, as is the custom;
        what normalisation, activations and pooling add is small and not counted.
    """

    name: str
    label: str
    depth: int
    type: str
    kind: str
    outputs: tuple[Shape, ...]
    parameters: int
    trainable: int
    macs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A localizer's layers, each part followed by what is in it, in the order in which they are used.

    input: (3, height, width) of the image. weight_bytes: of all numbers that a saved localizer keeps.
    """

    architecture: Architecture
    input: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    macs: int
    weight_bytes: int

    def to_depth(self, depth: int) -> tuple[Row, ...]:
        """The rows down to a depth, 1 being the parts alone."""
        return tuple(row for row in self.rows if row.depth <= depth)

    def to_json(self, depth: int) -> dict[str, object]:
        """Plain data, the rows down to a depth."""
        totals = {key: getattr(self, key) for key in ("parameters", "trainable", "macs", "weight_bytes")}
        rows = [asdict(row) for row in self.to_depth(depth)]
        return {"architecture": asdict(self.architecture), "input": self.input, **totals, "rows": rows}


def outline(architecture: Architecture) -> Localizer:
    """A localizer of shapes alone, to be summarized: it takes no memory for weights and cannot compute."""
    with torch.device("meta"):
        return Localizer(architecture).eval()


def summarize(localizer: Localizer) -> Summary:
    """Follow one image through a localizer, shapes only: nothing is computed, and the localizer stays as it is.

    All layers are listed, whatever the depth, but those that do nothing.
    """
    size = localizer.architecture.size
    side = EXAMPLE_SIDE if isinstance(size, str) else size
    run = _Run()
    with ExitStack() as stack:
        for name, module in localizer.named_modules():
            stack.callback(module.register_forward_hook(partial(run.saw, name)).remove)
        shapes = {
            name: tensor.detach().to("meta")
            for name, tensor in (*localizer.named_parameters(), *localizer.named_buffers())
        }
        stack.enter_context(_evaluating(localizer))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("meta"))
        counter = stack.enter_context(FlopCounterMode(display=False))
        torch.func.functional_call(localizer, shapes, (torch.zeros(1, 3, side, side),))
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(localizer).__name__
    run.macs = {name.removeprefix(f"{root}."): count // 2 for name, count in flops.items()}
    return Summary(
        architecture=localizer.architecture,
        input=(3, side, side),
        rows=tuple(run.rows(localizer)),
        parameters=_count(localizer),
        trainable=_count(localizer, trainable=True),
        macs=counter.get_total_flops() // 2,
        weight_bytes=sum(t.numel() * t.element_size() for t in localizer.state_dict().values()),
    )


class _Run:
    """What was seen of each layer while an image went through."""

    def __init__(self) -> None:
        self.outputs: dict[str, list[Shape]] = {}
        self.turn: dict[str, int] = {}
        self.macs: dict[str, int] = {}

    def saw(self, name: str, _module: nn.Module, _inputs: object, result: object) -> None:
        """A forward hook. Each shape is noted once, however often a layer is called."""
        self.turn.setdefault(name, len(self.turn))
        known = self.outputs.get(name, [])
        self.outputs[name] = known + [shape for shape in _shapes(result) if shape not in known]

    def rows(self, module: nn.Module, path: str = "", depth: int = 1) -> Iterator[Row]:
        """What is in a module, in the order of use."""
        inside = [(name, child) for name, child in _inside(module) if not _passes(child)]
        for label, child in sorted(inside, key=lambda item: self._first(_join(path, item[0]), item[1])):
            name = _join(path, label)
            yield Row(
                name=name,
                label=".".join(step for step in label.split(".") if step not in _WRAPPERS) or label,
                depth=depth,
                type=type(child).__name__,
                kind=_in_words(child),
                outputs=self._outputs(name, child),
                parameters=_count(child),
                trainable=_count(child, trainable=True),
                macs=self._macs(name, child),
            )
            yield from self.rows(child, name, depth + 1)

    def _outputs(self, path: str, module: nn.Module) -> tuple[Shape, ...]:
        """What a module gave; of a list, which is never called itself, what those in it gave."""
        if path in self.outputs:
            return tuple(self.outputs[path])
        within = (self._outputs(_join(path, name), child) for name, child in module.named_children())
        return tuple(dict.fromkeys(shape for shapes in within for shape in shapes))

    def _first(self, path: str, module: nn.Module) -> int:
        """When a module was done first, or the first within it."""
        if path in self.turn:
            return self.turn[path]
        within = [self._first(_join(path, name), child) for name, child in module.named_children()]
        return min(within, default=len(self.turn))

    def _macs(self, path: str, module: nn.Module) -> int:
        if path in self.outputs:
            return self.macs.get(path, 0)
        return sum(self._macs(_join(path, name), child) for name, child in module.named_children())


_WRAPPERS = ("body", "layers")
"""Names under which a part keeps a network whole: its layers are shown as the part's own."""


def _inside(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children that are worth a row, with wrappers and lists of lists opened."""
    for name, child in module.named_children():
        grandchildren = list(child.named_children())
        wraps = name in _WRAPPERS and grandchildren
        lists = isinstance(child, nn.Sequential) and all(
            isinstance(x, nn.Sequential) for _, x in grandchildren
        )
        if wraps or lists:
            yield from ((f"{name}.{below}", x) for below, x in _inside(child))
        else:
            yield name, child


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _count(module: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _shapes(result: object) -> Iterator[Shape]:
    """Shapes of all tensors in what a layer gives, without the batch of one."""
    if isinstance(result, Output):
        result = result[:2]  # the positions are constants
    if isinstance(result, Tensor):
        shape = tuple(result.shape)
        yield shape[1:] if shape[:1] == (1,) else shape
    elif isinstance(result, dict):
        yield from _shapes(tuple(result.values()))
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _shapes(item)


@contextmanager
def _evaluating(localizer: Localizer) -> Iterator[None]:
    """Evaluation mode for a while, set by hand: `eval` would drop the compiled backbone."""
    modes = [(module, module.training) for module in localizer.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# Layers in words ---------------------------------------------------------------------------------------


def _passes(module: nn.Module) -> bool:
    """Whether a module gives what it is given."""
    return isinstance(module, nn.Identity) or (isinstance(module, Extra) and not len(module.layers))


def _in_words(module: nn.Module) -> str:
    for kind, words in _WORDS:
        if isinstance(module, kind):
            return words if isinstance(words, str) else words(module)
    name = type(module).__name__.strip("_")
    if type(module).__module__.startswith("torch.nn.modules.activation"):
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _convolution(layer: Any) -> str:
    words = f"convolution {_across(layer.kernel_size)}{_stepping(layer.stride)}"
    if layer.groups == layer.in_channels > 1:
        return f"{words}, each channel alone"
    return f"{words}, {layer.groups} groups" if layer.groups > 1 else words


def _pooling(name: str, layer: Any) -> str:
    return f"{name} pooling {_across(layer.kernel_size)}{_stepping(layer.stride)}"


def _several(layer: Any) -> str:
    kinds = [_in_words(child) for child in layer.children()]
    if not kinds:
        return "nothing"
    if len(kinds) == 1:
        return kinds[0]
    if len(set(kinds)) == 1:
        return f"{len(kinds)} × {kinds[0]}"
    types = {type(child) for child in layer.children()}
    return f"{len(kinds)} × {kinds[0].split(',')[0]}" if len(types) == 1 else f"{len(kinds)} layers"


def _across(size: Any) -> str:
    height, width = size if isinstance(size, tuple) else (size, size)
    return f"{height}×{width}"


def _stepping(stride: Any) -> str:
    steps = set(stride) if isinstance(stride, tuple) else {stride}
    return "" if steps == {1} else f", stride {'×'.join(map(str, sorted(steps)))}"


_Words: TypeAlias = str | Callable[[nn.Module], str]

_WORDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], _Words], ...] = (
    (Backbone, lambda part: str(part.name)),
    (Extra, "additional convolutions"),
    (Gap, "global average pooling"),
    (Flatten, "all cells in one row"),
    (Edges, "pooling along one axis"),
    (RegressionHead, "regression: four numbers"),
    (DistributionHead, "distribution for each edge"),
    (_EdgeConv, "convolution 3 along each edge"),
    (_Residual, "residual block"),
    (nn.Conv2d, _convolution),
    (nn.Linear, "fully connected"),
    ((nn.BatchNorm1d, nn.BatchNorm2d), "batch normalisation"),
    (nn.LayerNorm, "layer normalisation"),
    (nn.MaxPool2d, partial(_pooling, "max")),
    (nn.AvgPool2d, partial(_pooling, "average")),
    ((nn.Dropout, nn.Dropout2d), "dropout, in training only"),
    ((nn.Sequential, nn.ModuleList), _several),
)
