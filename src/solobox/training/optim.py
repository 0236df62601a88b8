"""The optimizer, its parameter groups and learning rate, and frozen stages.

The learning rate is a function of the step, so a resumed run needs only its step.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import nn

from solobox.config.optim import OptimizerConfig
from solobox.errors import ConfigError

Group: TypeAlias = dict[str, Any]
"""What PyTorch's optimizers take, and the `factor` of the learning rate; see `param_groups`."""

_WARMUP_DIVISOR = 25.0
"""The first learning rate of a warm-up is the peak divided by this, which is also where PyTorch's one cycle begins."""

_FINAL_DIVISOR = 1e4
"""One cycle ends at its first learning rate divided by this."""


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0, of `total` steps; that of a group is this times its factor.

    `one_cycle` is PyTorch's OneCycleLR (Smith and Topin, 2018) with its defaults, from ``lr / 25`` up to ``lr`` at
    about step ``warmup * total - 1``, and down to ``lr / 250000`` at the last one; with a `total` of 1 the only step
    is that last one. The others rise in a straight line from ``lr / 25``, are at ``lr`` in step
    ``round(warmup * total)``, and go on from there: `cosine` as CosineAnnealingLR, which would be at 0 in the step
    after the last; `exponential` as Keras' ExponentialDecay, ``lr * decay_rate ** (steps since / decay_steps)``, the
    exponent rounded down where `staircase`.

    Raises ValueError for a step that is not one of 0 .. total - 1.
    """
    if not 0 <= step < total:
        raise ValueError(f"there is no step {step} among {total}")
    peak, first = config.lr, config.lr / _WARMUP_DIVISOR
    if config.schedule == "one_cycle":
        top = config.warmup * total - 1  # below 0 where the warm-up is shorter than a step
        if step <= top:
            return _cosine(first, peak, step / top if top else 1.0)
        return _cosine(peak, first / _FINAL_DIVISOR, (step - top) / (total - 1 - top))
    rise = min(round(config.warmup * total), total - 1)
    if step < rise:
        return first + (peak - first) * step / rise
    since = step - rise
    if config.schedule == "cosine":
        return _cosine(peak, 0.0, since / (total - rise))
    if config.schedule == "exponential":
        periods = since // config.decay_steps if config.staircase else since / config.decay_steps
        return peak * config.decay_rate**periods
    return peak


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a period of a cosine."""
    return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)


# Parameter groups --------------------------------------------------------------------------------------------


def param_groups(
    module: nn.Module, config: OptimizerConfig, *, backbone_lr: float = 1.0, freeze: int = 0
) -> list[Group]:
    """The parameters of `module` that are trained, in up to four groups: backbone or head, with weight decay or not.

    backbone_lr: the `factor` of the learning rate for parameters of the child `backbone`; it is 1 for the others.
    freeze: stages of the backbone that are not trained, see `freeze_stages`, which is applied to `module`.

    `adamw` does not decay biases and weights of one dimension, such as those of norms. The weight decay of `adam` and
    `sgd` is an L2 penalty on all parameters.

    Raises ConfigError ``out-of-range``, and ``nothing-to-train`` where every weight is frozen.
    """
    if not 1e-6 <= backbone_lr <= 1000:
        raise ConfigError(
            f"backbone_lr must be from 1e-06 to 1000, not {backbone_lr}; `freeze` -1 freezes the backbone",
            code="out-of-range",
        )
    backbone = dict(module.named_children()).get("backbone")
    members = {id(parameter) for parameter in backbone.parameters()} if backbone is not None else set()
    if backbone is not None:
        freeze_stages(backbone, freeze)
    groups: list[Group] = []
    decayed = param_groups_weight_decay(
        module, config.weight_decay, weight_decay_exclude_1d=config.optimizer == "adamw"
    )
    for is_backbone in (True, False):
        for group in decayed:
            parameters = [p for p in group["params"] if (id(p) in members) == is_backbone]
            if parameters:
                factor = backbone_lr if is_backbone else 1.0
                groups.append(group | {"params": parameters, "factor": factor, "lr": config.lr * factor})
    if not groups:
        raise ConfigError(
            "nothing is left to train: every weight is frozen; lower `freeze`", code="nothing-to-train"
        )
    return groups


def freeze_stages(backbone: nn.Module, count: int) -> int:
    """Freeze the first `count` of a backbone's `stages`. Returns how many numbers of the backbone are still trained.

    backbone: a `Backbone`, or a timm network made with `features_only`.
    count: 0 freezes nothing, 1 the stem, 2 the stem and the stage after it, and so on; -1, or as many as there are,
        the whole backbone.

    Parameters of later stages are left as they are. Running statistics of batch normalization are not
    parameters: to freeze them too, keep the backbone in evaluation mode.

    Raises ConfigError for a `count` below -1.
    """
    if count < -1:
        raise ConfigError(f"freeze is a number of stages, or -1 for the whole backbone, not {count}")
    groups = stages(backbone)
    for stage in groups if count == -1 else groups[:count]:
        for module in stage:
            module.requires_grad_(requires_grad=False)
    return sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """The stages of a backbone in the order of its children, the stem first; together they hold all its parameters.

    A stage begins with a child that has layers, and in networks that are one chain of layers (VGG) with
    the first layer after a pooling. The layers before the first stage are the stem. So ResNet and ConvNeXt have a
    stem and 4 stages, EfficientNet-Lite0 a stem and 7, VGG 5 in all, less those beyond the coarsest map in use.
    """
    groups: list[list[nn.Module]] = [[]]
    learns = pooled = False
    for module in _children(getattr(backbone, "body", backbone)):
        if learns and _has_parameters(module) and (pooled or _has_layers(module)):
            groups.append([])
            pooled = False
        groups[-1].append(module)
        learns = learns or _has_parameters(module)
        pooled = pooled or isinstance(module, nn.AvgPool2d | nn.MaxPool2d)
    return groups


def _children(module: nn.Module) -> Iterator[nn.Module]:
    """The children of a backbone; those of a child that only holds stages (`blocks` of EfficientNets) in its place."""
    for child in module.children():
        inner = [module for module in child.children() if _has_parameters(module)]
        holds_stages = isinstance(child, nn.Sequential) and all(
            isinstance(module, nn.Sequential) for module in inner
        )
        if holds_stages and inner:
            yield from _children(child)
        else:
            yield child


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _has_layers(module: nn.Module) -> bool:
    return any(_has_parameters(child) for child in module.children())


# The optimizer ----------------------------------------------------------------------------------------------


def make_optimizer(config: OptimizerConfig, groups: list[Group]) -> torch.optim.Optimizer:
    """An optimizer of what `param_groups` returned, at the peak learning rate; otherwise with PyTorch's defaults."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)


def set_learning_rate(optimizer: torch.optim.Optimizer, base: float) -> None:
    """Set the learning rate of each group to `base` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = base * group["factor"]
