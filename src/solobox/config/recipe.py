"""The recipe of a training run: every option, its default and what it does, in this one place.

The command line's options, the keys of a TOML file and what ``config.json`` keeps are all made from here.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from solobox.config.architecture import Architecture, option
from solobox.config.losses import parse
from solobox.config.optim import OptimizerConfig
from solobox.errors import ConfigError

RecipeName: TypeAlias = Literal["quick", "finetune", "article"]
Precision: TypeAlias = Literal["auto", "bf16-mixed", "16-mixed", "32-true"]
Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]
PretrainedHeadName: TypeAlias = Literal["synthetic", "random"]


_FEW_VIEWS, _FEW_STEPS = 720, 140
"""Below this many views, or steps, a set gets more of them: measured on 72 and 100 images, see bench/LOG.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run. Every field's own text says what it is; `check` has been passed.

    Raises ConfigError for values that are out of range or do not go together.
    """

    architecture: Architecture = Architecture()
    optimizer_config: OptimizerConfig = OptimizerConfig()
    pretrained: str = option(
        "bundled",
        "The backbone's weights: `bundled` (EfficientNet-Lite0), `hub`, `none`, or the path of a file.",
    )
    pretrained_head: PretrainedHeadName = option(
        "synthetic",
        "First weights of vectorizer and head: `synthetic`, learnt from images that the program draws (for the default "
        "parts on the bundled backbone; others begin at random), or `random`.",
    )
    loss: str = option(
        "kl + 10*l1 + giou", "A weighted sum of mse, smooth_l1, l1, iou, giou, diou, ciou, kl (distribution)."
    )
    beta: float = option(
        0.1, "Where `smooth_l1` turns from a square to a line, as a fraction of the input's side."
    )
    sigma: float = option(
        0.0115, "Width of the target distribution of `kl`, as a fraction of the input's side."
    )
    crops: int = option(
        3,
        "Views of each training image, at least: the whole one, and random windows of it. 1: no augmentation. "
        "A small set gets more, up to 16.",
    )
    epochs: int = option(
        4,
        "Passes over the kept feature maps, at least, the backbone frozen; a small set gets more. "
        "0: leave this stage out.",
    )
    batch: int = option(32, "Views in a training step, of all devices together.")
    ema: float = option(
        0.99, "Decay, per step, of the running average of the weights that is kept. 0: no average."
    )
    patience: int = option(0, "Stop a stage after so many epochs without a new best one. 0: never.")
    folds: int = option(
        0,
        "Also train so many heads, each without a part of the training images, and measure each on that part: "
        "out_of_fold.csv in the run's folder. 0: do not.",
    )
    finetune_epochs: int = option(0, "Passes over the images in which the whole backbone is trained too.")
    finetune_lr: float = option(0.0001, "Peak learning rate of that stage.")
    backbone_lr: float = option(
        1.0, "The backbone's learning rate in that stage, as a multiple of the head's."
    )
    freeze: int = option(0, "Stages of the backbone, the stem first, that stay as they are in that stage.")
    val: float = option(0.1, "Share held out to pick the best epoch, where the data does not say.")
    test: float = option(0.1, "Share set aside and never looked at in training, where the data does not say.")
    seed: int = option(0, "Seed of everything random.")
    precision: Precision = option(
        "auto",
        "`auto` is bf16-mixed where the hardware has it, else 32-true. 32-true computes kept features in float32 too.",
    )
    accelerator: Accelerator = option("auto", "`auto` is a GPU where there is one, else the CPU.")
    devices: int = option(
        0,
        "Devices (GPUs, or processes on a CPU) to train on, on each host; they share each batch. "
        "0: what torchrun or SLURM started, else one.",
    )
    nodes: int = option(0, "Hosts to train on. 0: what torchrun or SLURM started, else one.")
    loggers: tuple[str, ...] = option((), "Also tell `tensorboard`, `mlflow` or `wandb` of each epoch.")
    ram_gb: float = option(
        4.0, "Keep features and pixels of a host in memory up to this size, beyond it on disk."
    )

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "sigma": (1e-4, 1), "beta": (1e-6, 1), "crops": (1, 1000), "epochs": (0, 100_000),
            "batch": (1, 100_000), "ema": (0, 0.999999), "patience": (0, 100_000), "finetune_epochs": (0, 100_000),
            "finetune_lr": (1e-9, 10), "backbone_lr": (1e-6, 1000), "freeze": (-1, 1000), "val": (0.001, 0.9),
            "test": (0, 0.9), "seed": (0, 2**63 - 1), "ram_gb": (0, 1e6),
            "folds": (0, 1000), "devices": (0, 1000), "nodes": (0, 100_000),
        }  # fmt: skip
        for name, (lower, upper) in ranges.items():
            value = getattr(self, name)
            if not lower <= value <= upper:
                raise ConfigError(f"{name} must be from {lower:g} to {upper:g}, not {value}")
        if self.val + self.test >= 1:
            raise ConfigError(f"val ({self.val}) and test ({self.test}) leave nothing to train on")
        if self.epochs == 0 and self.finetune_epochs == 0:
            raise ConfigError("epochs and finetune_epochs are both 0: nothing would be trained")
        if self.architecture.size == "native" and (self.epochs or self.batch != 1):
            raise ConfigError(
                "size `native` shows each image by itself at its own size: there are no feature maps of one shape "
                "to keep, and no batches. Use --epochs 0 --finetune-epochs N --batch 1, or give size as a number"
            )
        if self.folds == 1 or (self.folds and (self.finetune_epochs or self.devices > 1 or self.nodes > 1)):
            raise ConfigError(
                "folds are two or more, of heads on kept features, on one device: they do not go with a backbone that "
                "is trained too (finetune_epochs) or with several devices"
            )
        needs_distribution = any(name == "kl" for _, name in parse(self.loss))
        if needs_distribution and self.architecture.head == "regression":
            raise ConfigError(
                f"the loss {self.loss!r} has `kl`, which needs the distribution head; with `regression` use "
                "mse, smooth_l1, l1, giou, diou or ciou"
            )
        if self.pretrained == "none" and self.finetune_epochs == 0:
            raise ConfigError(
                "a backbone with random weights that is never trained learns nothing: set finetune_epochs"
            )

    def crops_per_image(self, images: int) -> int:
        """Views of each of so many training images: `crops`, or more where that gives few in all."""
        return self.crops if self.crops == 1 else max(self.crops, min(16, -(-_FEW_VIEWS // images)))

    def passes(self, views: int) -> int:
        """Passes over so many views: `epochs`, or more where that gives few steps in all."""
        return max(self.epochs, -(-_FEW_STEPS // -(-views // self.batch)))

    @classmethod
    def named(cls, name: str, changes: Mapping[str, object] | None = None) -> "Recipe":
        """A preset (``quick``, ``full``) with some options changed.

        changes: flat, the architecture's own options among them (``size``, ``backbone``, ...).

        Raises ConfigError for an unknown recipe, an unknown key (naming the nearest) or a value of a wrong type.
        """
        if name not in _PRESETS:
            raise ConfigError(f"there is no recipe {name!r}: {', '.join(_PRESETS)}")
        given: dict[str, Any] = dict(changes or {})
        homes = [options_of(kind) for kind in (cls, *PARTS.values())]
        known = {key: option for home in homes for key, option in home.items()}
        for key, value in given.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f". Known: {', '.join(known)}"
                raise ConfigError(f"unknown setting {key!r}{hint}")
            given[key] = _checked(key, value, known[key].kind)
        preset = _PRESETS[name]()
        own, *deep = ({k: v for k, v in given.items() if k in home} for home in homes)
        parts = {
            part: replace(getattr(preset, part), **changed) for part, changed in zip(PARTS, deep, strict=True)
        }
        return replace(preset, **parts, **own)

    def flat(self) -> dict[str, Any]:
        """Every option by name, as plain values: what `named` takes."""
        homes: list[Any] = [self, *(getattr(self, part) for part in PARTS)]
        values = {name: getattr(home, name) for home in homes for name in options_of(type(home))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


PARTS: dict[str, type] = {"architecture": Architecture, "optimizer_config": OptimizerConfig}
"""The fields of `Recipe` that hold options of their own."""

_ARTICLE = {
    "backbone": "resnet50", "strides": (32,), "size": 300, "extra": (1024,), "vectorizer": "gap", "head": "regression",
    "width": 512, "pretrained": "hub", "pretrained_head": "random", "loss": "mse", "crops": 1, "epochs": 0,
    "finetune_epochs": 10, "finetune_lr": 0.0003, "batch": 16, "ema": 0.0, "optimizer": "adam", "weight_decay": 0.0,
    "schedule": "exponential", "warmup": 0.0, "decay_rate": 0.8, "decay_steps": 3600, "staircase": True, "clip": 0.0,
}  # fmt: skip

_PRESETS: dict[str, Callable[[], Recipe]] = {
    "quick": Recipe,
    "finetune": lambda: Recipe(finetune_epochs=4),
    "article": lambda: Recipe.named("quick", _ARTICLE),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its type, its default and its help text."""

    kind: Any
    default: Any
    help: str


def options_of(kind: type) -> dict[str, Option]:
    """The plain settings of `Recipe` or `Architecture` by name: the fields that have a text for people."""
    hints = get_type_hints(kind)
    found = {}
    for item in fields(kind):
        if "help" in item.metadata:
            found[item.name] = Option(hints[item.name], _default(item), item.metadata.get("help", ""))
    return found


def _default(item: Field[Any]) -> Any:
    return None if item.default is MISSING else item.default


def _checked(key: str, value: Any, kind: Any) -> Any:
    """`value` as the type `kind`, where that loses nothing."""
    origin, options = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in options:
            return value
        raise ConfigError(f"{key} is one of {', '.join(map(str, options))}, not {value!r}")
    if origin in (Union, UnionType):
        return _one_of(key, value, options)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(key, item, options[0]) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise ConfigError(f"{key} is a {getattr(kind, '__name__', kind)}, not {value!r}")


def _one_of(key: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _checked(key, value, kind)
        except ConfigError:
            continue
    names = [" or ".join(map(repr, get_args(kind))) or kind.__name__ for kind in kinds]
    raise ConfigError(f"{key} is {' or '.join(names)}, not {value!r}")
