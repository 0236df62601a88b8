"""The optimizer, its learning rate at each step, what it may change, and when to stop early.

Nothing here remembers where training is: the learning rate is a function of the step, so that a resumed run needs to
know no more than its step. PyTorch is imported where it is used, so that a recipe can be read without it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from solobox.config.optim import OptimizerConfig
from solobox.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

Group: TypeAlias = dict[str, Any]
"""Parameters that are treated alike: `name`, `params`, `factor` of the learning rate, and `decays`, see `groups`."""

_FROM = 25.0
"""The first learning rate of a warm-up is the peak divided by this, which is also where PyTorch's one cycle begins."""

_FIRST_TO_LAST = 1e4
"""One cycle ends at its first learning rate divided by this."""


def rate(optimizer_config: OptimizerConfig, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0, of `total` steps; a group's own is this times its factor.

    `one_cycle` is PyTorch's OneCycleLR (Smith and Topin, 2018) with its defaults, from ``lr / 25`` up to ``lr`` at
    about step ``warmup * total - 1``, and down to ``lr / 250000`` at the last one; of a `total` of 1 the only step
    is that last one. The others rise in a straight line from ``lr / 25``, are at ``lr`` in step
    ``round(warmup * total)``, and go on from there: `cosine` as CosineAnnealingLR, which would be at 0 in the step
    after the last; `exponential` as Keras' ExponentialDecay, ``lr * decay_rate ** (steps since / decay_steps)``, the
    exponent rounded down where `staircase`.

    Raises ValueError for a step that is not one of 0 .. total - 1.
    """
    if not 0 <= step < total:
        raise ValueError(f"there is no step {step} among {total}")
    peak, first = optimizer_config.lr, optimizer_config.lr / _FROM
    if optimizer_config.schedule == "one_cycle":
        top = optimizer_config.warmup * total - 1  # below 0 where the warm-up is shorter than a step
        if step <= top:
            return _along_cosine(first, peak, step / top if top else 1.0)
        return _along_cosine(peak, first / _FIRST_TO_LAST, (step - top) / (total - 1 - top))
    rise = min(round(optimizer_config.warmup * total), total - 1)
    if step < rise:
        return first + (peak - first) * step / rise
    since = step - rise
    if optimizer_config.schedule == "cosine":
        return _along_cosine(peak, 0.0, since / (total - rise))
    if optimizer_config.schedule == "exponential":
        periods = (
            since // optimizer_config.decay_steps
            if optimizer_config.staircase
            else since / optimizer_config.decay_steps
        )
        return peak * optimizer_config.decay_rate**periods
    return peak


def _along_cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a period of a cosine."""
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)


# What may be changed, and how fast --------------------------------------------------------------------------


def groups(
    module: "nn.Module", *, backbone: str = "backbone", backbone_lr: float = 1.0, freeze: int = 0
) -> list[Group]:
    """The parameters of `module` that are to be trained, in up to four groups: backbone or head, decaying or not.

    backbone: the name of the child that is the backbone; a module without it is all head, and `freeze` is of no
        consequence there.
    backbone_lr: the backbone's learning rate as a multiple of the head's: the `factor` of its groups, 1 for the others.
    freeze: how many of the backbone's stages not to train, see `freeze_depth`, which is applied to `module`.

    `decays` is False for biases, of any shape, and for weights of one dimension, such as those of norms and of layer
    scales: to shrink them takes away what they are for, and does not make a function simpler. `make` heeds it for
    `adamw`.

    Raises ConfigError for a `backbone_lr` that is out of range, and where nothing is left to train.
    """
    if not 1e-6 <= backbone_lr <= 1000:
        raise ConfigError(
            f"backbone_lr must be from 1e-06 to 1000, not {backbone_lr}; `freeze` -1 keeps the backbone as it is"
        )
    children = dict(module.named_children())
    if backbone in children:
        freeze_depth(children[backbone], freeze)
    found: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (is_backbone, decays): [] for is_backbone in (True, False) for decays in (True, False)
    }
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name.rpartition(".")[2] != "bias"
            found[name.startswith(f"{backbone}."), decays].append(parameter)
    made = [
        {
            "name": ("backbone" if is_backbone else "head") + ("" if decays else ", no decay"),
            "params": parameters,
            "factor": backbone_lr if is_backbone else 1.0,
            "decays": decays,
        }
        for (is_backbone, decays), parameters in found.items()
        if parameters
    ]
    if not made:
        raise ConfigError("nothing is left to train: every weight is frozen; lower `freeze`")
    return made


def freeze_depth(backbone: "nn.Module", count: int) -> int:
    """Freeze the first `count` of a backbone's `stages`, and tell how many numbers of it are still trained.

    backbone: a `Backbone`, or a timm network made with `features_only`.
    count: 0 freezes nothing, 1 the stem, 2 the stem and the stage after it, and so on; -1, or as many as there are,
        the whole backbone.

    Parameters of later stages are left as they are. Running statistics of batch normalisation are no parameters: to
    keep those too, a backbone must be in evaluation mode.

    Raises ConfigError for a `count` below -1.
    """
    if count < -1:
        raise ConfigError(f"freeze is a number of stages, or -1 for the whole backbone, not {count}")
    found = stages(backbone)
    for stage in found if count == -1 else found[:count]:
        for module in stage:
            module.requires_grad_(requires_grad=False)
    return sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)


def stages(backbone: "nn.Module") -> list[list["nn.Module"]]:
    """The stages of a backbone in the order of its children, the stem first; together they hold all its parameters.

    A stage begins with a child that has layers of its own, and in networks that are one chain of layers (VGG) with
    the first layer after a pooling. The layers before the first stage are the stem. So ResNet and ConvNeXt have a
    stem and 4 stages, EfficientNet-Lite0 a stem and 7, VGG 5 in all, less those beyond the coarsest map in use.
    """
    from torch.nn import AvgPool2d, MaxPool2d

    found: list[list[nn.Module]] = [[]]
    learns = pooled = False
    for module in _children(getattr(backbone, "body", backbone)):
        if learns and _has_parameters(module) and (pooled or _has_layers(module)):
            found.append([])
            pooled = False
        found[-1].append(module)
        learns = learns or _has_parameters(module)
        pooled = pooled or isinstance(module, AvgPool2d | MaxPool2d)
    return found


def _children(module: "nn.Module") -> "Iterator[nn.Module]":
    """The children of a backbone; those of a child that only holds stages (`blocks` of EfficientNets) in its place."""
    from torch.nn import Sequential

    for child in module.children():
        inner = [module for module in child.children() if _has_parameters(module)]
        holds_stages = isinstance(child, Sequential) and all(
            isinstance(module, Sequential) for module in inner
        )
        if holds_stages and inner:
            yield from _children(child)
        else:
            yield child


def _has_parameters(module: "nn.Module") -> bool:
    return next(module.parameters(), None) is not None


def _has_layers(module: "nn.Module") -> bool:
    return any(_has_parameters(child) for child in module.children())


# The optimizer ----------------------------------------------------------------------------------------------


def make(optimizer_config: OptimizerConfig, groups: list[Group]) -> "torch.optim.Optimizer":
    """An optimizer of `groups` at the peak learning rate; `set_rate` before each step gives it the step's own.

    PyTorch's defaults otherwise, which repeat bit for bit on one machine. Groups whose `decays` is False are left out
    of the weight decay of `adamw`; that of `adam` and `sgd` is a penalty in the gradient, and takes in all groups.
    """
    from torch.optim import SGD, Adam, AdamW

    spares = optimizer_config.optimizer == "adamw"
    given: list[Group] = [
        {
            "name": group["name"],
            "params": group["params"],
            "factor": group["factor"],
            "lr": optimizer_config.lr * group["factor"],
            "weight_decay": optimizer_config.weight_decay if group["decays"] or not spares else 0.0,
        }
        for group in groups
    ]
    if optimizer_config.optimizer == "adamw":
        return AdamW(given, lr=optimizer_config.lr)
    if optimizer_config.optimizer == "adam":
        return Adam(given, lr=optimizer_config.lr)
    return SGD(given, lr=optimizer_config.lr, momentum=0.9)


def set_rate(optimizer: "torch.optim.Optimizer", base: float) -> None:
    """Let each group of an optimizer that `make` made learn at `base` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = base * group["factor"]


# When to stop -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class EarlyStopping:
    """Ends training after `patience` epochs in a row without a new best one; a `patience` of 0 never does.

    bad: how many epochs in a row, so far, were no new best.

    Raises ConfigError for a negative `patience`.
    """

    patience: int
    bad: int = 0

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ConfigError(
                f"patience is a number of epochs, or 0 for no early stopping, not {self.patience}"
            )

    @property
    def done(self) -> bool:
        """Whether to stop; also so of a run that is resumed after it stopped."""
        return 0 < self.patience <= self.bad

    def update(self, best_is_new: bool) -> bool:  # noqa: FBT001  (its only argument, and the name says it)
        """After an epoch: whether to stop."""
        self.bad = 0 if best_is_new else self.bad + 1
        return self.done

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint has to keep, as plain JSON; `patience` is a setting, and not in it."""
        return {"bad": self.bad}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from what `state_dict` gave."""
        self.bad = state["bad"]
