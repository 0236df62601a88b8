"""The layers of a localizer as a table: output shapes, parameters, multiply-adds."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from solobox.config.architecture import Architecture
from solobox.model.heads import Output
from solobox.model.localizer import Localizer
from solobox.model.vectorizer import ExtraConvs

NATIVE_SIDE = 320
"""Side in pixels of the square for which a localizer that takes images of any size is summarized."""

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, or a module with everything inside it.

    name: as `torch.nn.Module.get_submodule` takes it. label: the name relative to the row that contains this one.
    depth: 1 for the main modules, 2 for their stages, and so on.
    type: name of the class. description: for a single layer, also its settings.
    outputs: different shapes of its outputs for one image, without the batch axis: (channels, height, width) for
        maps. Empty for a layer that is not used.
    parameters: how many there are. trainable: those that are not frozen.
    macs: multiply-adds for one image in convolutions, linear layers and matrix products, as is usual; the few of
        normalization, activation and pooling are not counted. Those of ``refiner`` are of all second looks, with the
        backbone's.
    """

    name: str
    label: str
    depth: int
    type: str
    description: str
    outputs: tuple[Shape, ...]
    parameters: int
    trainable: int
    macs: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The layers of a localizer in the order of execution, each module followed by what it contains.

    input: (3, height, width). weight_bytes: of all values in the ``state_dict``.
    """

    architecture: Architecture
    input: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    macs: int
    weight_bytes: int

    def to_depth(self, depth: int) -> tuple[Row, ...]:
        """The rows down to a depth; 1 is the main modules only."""
        return tuple(row for row in self.rows if row.depth <= depth)

    def to_json(self, depth: int) -> dict[str, object]:
        """Plain data with the rows down to a depth."""
        totals = {key: getattr(self, key) for key in ("parameters", "trainable", "macs", "weight_bytes")}
        rows = [asdict(row) for row in self.to_depth(depth)]
        return {"architecture": asdict(self.architecture), "input": self.input, **totals, "rows": rows}


def meta_localizer(architecture: Architecture) -> Localizer:
    """A localizer on torch's meta device, to be summarized: shapes without memory for weights."""
    with torch.device("meta"):
        return Localizer(architecture).eval()


def summarize(localizer: Localizer) -> Summary:
    """Trace one image through a localizer on the meta device: nothing is computed, and the localizer stays as it is.

    All layers are listed at any depth, except those that pass their input on unchanged.
    """
    size = localizer.architecture.size
    side = NATIVE_SIDE if isinstance(size, str) else size
    trace = _Trace()
    macs = _run(localizer, localizer, "", side, trace, times=1)
    if localizer.refiner is not None:
        times = localizer.architecture.refinements
        look = _SecondLook(localizer)
        again = _run(localizer, look, "refiner", localizer.refiner.side, trace, times=times)
        trace.macs["refiner"] = again
        macs += again
    trace.fill_containers(localizer)
    return Summary(
        architecture=localizer.architecture,
        input=(3, side, side),
        rows=tuple(_rows(localizer, trace)),
        parameters=_count(localizer),
        trainable=_count(localizer, trainable=True),
        macs=macs,
        weight_bytes=sum(t.numel() * t.element_size() for t in localizer.state_dict().values()),
    )


class _SecondLook(nn.Module):
    """What a localizer computes for one crop."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, crops: Tensor) -> Output:
        assert self.localizer.refiner is not None  # noqa: S101  (there is no second look without it)
        output: Output = self.localizer.refiner(self.localizer.features(crops))
        return output


def _run(
    localizer: Localizer, whole: nn.Module, within: str, side: int, trace: "_Trace", *, times: int
) -> int:
    """Run `whole`, the localizer or what holds it, on one square, and record the layers in the module `within`.

    Gives the multiply-adds of `times` runs.
    """
    prefix = "" if whole is localizer else "localizer."
    with ExitStack() as stack:
        for name, module in localizer.named_modules():
            if f"{name}.".startswith(f"{within}.") or not within:
                stack.callback(module.register_forward_hook(partial(trace.record, name)).remove)
        tensors = {
            name: tensor.detach().to("meta")
            for name, tensor in (*whole.named_parameters(), *whole.named_buffers())
        }
        stack.enter_context(_eval_mode(localizer))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.device("meta"))
        counter = stack.enter_context(FlopCounterMode(display=False))
        torch.func.functional_call(whole, tensors, (torch.zeros(1, 3, side, side),))
    for name, flops in counter.get_flop_counts().items():
        path = name.partition(".")[2].removeprefix(prefix)
        if path.startswith(within):
            trace.macs[path] = times * (sum(flops.values()) // 2)
    return times * (int(counter.get_total_flops()) // 2)


@dataclass(slots=True)
class _Trace:
    """By the name of each module: the shapes of its outputs, its multiply-adds, its position in the execution."""

    outputs: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)

    def record(self, name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        """A forward hook; a module may run several times."""
        self.order.setdefault(name, len(self.order))
        self.outputs[name] = tuple(dict.fromkeys((*self.outputs.get(name, ()), *_shapes(output))))

    def fill_containers(self, localizer: nn.Module) -> None:
        """Sum up the children of modules that are never called themselves, such as a ModuleList."""
        for name, module in reversed(list(localizer.named_modules())):
            if name not in self.order:
                children = [f"{name}.{child}" for child, _ in module.named_children()]
                self.order[name] = min((self.order[child] for child in children), default=10**9)
                self.macs[name] = sum(self.macs.get(child, 0) for child in children)
                self.outputs[name] = tuple(
                    dict.fromkeys(s for child in children for s in self.outputs[child])
                )


def _rows(localizer: nn.Module, trace: _Trace) -> Iterator[Row]:
    modules = dict(localizer.named_modules())
    del modules[""]

    def ancestors(name: str) -> list[str]:
        steps = name.split(".")
        return [".".join(steps[: index + 1]) for index in range(len(steps))]

    for name in sorted(modules, key=lambda name: [trace.order[each] for each in ancestors(name)]):
        module = modules[name]
        parents = [each for each in ancestors(name)[:-1] if not _is_wrapper(each, modules[each])]
        if _is_wrapper(name, module) or _is_identity(module):
            continue
        label = name.removeprefix(f"{parents[-1]}.") if parents else name
        steps = [step for step in label.split(".") if step not in _WRAPPERS]
        is_layer = not any(module.children())
        yield Row(
            name=name,
            label=".".join(steps) or label,
            depth=len(parents) + 1,
            type=type(module).__name__.strip("_"),
            description=(
                str(module) if is_layer else str(getattr(module, "name", type(module).__name__))
            ).strip("_"),
            outputs=trace.outputs[name],
            parameters=_count(module),
            trainable=_count(module, trainable=True),
            macs=trace.macs.get(name, 0),
        )


_WRAPPERS = ("body", "layers")
"""Attributes that hold a whole network: its layers are listed as those of the module itself."""


def _is_wrapper(name: str, module: nn.Module) -> bool:
    """Whether a module has no row, but its children have: a `_WRAPPERS`, or a sequence of sequences."""
    children = list(module.children())
    nests = isinstance(module, nn.Sequential) and all(isinstance(child, nn.Sequential) for child in children)
    return bool(children) and (nests or name.rpartition(".")[2] in _WRAPPERS)


def _is_identity(module: nn.Module) -> bool:
    """Whether a module passes its input on unchanged."""
    if isinstance(module, ExtraConvs):
        module = module.layers
    return isinstance(module, nn.Identity) or (
        isinstance(module, nn.ModuleList | nn.Sequential) and not len(module)
    )


def _count(module: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _shapes(output: object) -> Iterator[Shape]:
    """Shapes of all tensors in the output of a module, without the batch axis."""
    if isinstance(output, Output):
        output = output[:2]  # the positions are constants
    if isinstance(output, Tensor):
        shape = tuple(output.shape)
        yield shape[1:] if shape[:1] == (1,) else shape
    elif isinstance(output, dict):
        yield from _shapes(tuple(output.values()))
    elif isinstance(output, list | tuple):
        for item in output:
            yield from _shapes(item)


@contextmanager
def _eval_mode(localizer: Localizer) -> Iterator[None]:
    """Evaluation mode for a while; set by hand, because `eval` would drop the compiled backbone."""
    modes = [(module, module.training) for module in localizer.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode
