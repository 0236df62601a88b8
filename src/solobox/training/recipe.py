"""The recipe of a training run: every knob, its default and what it does, in this one place.

The command line's options, the keys of a TOML file and what ``config.json`` keeps are all made from here.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from types import UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from solobox.errors import ConfigError
from solobox.localizer.architecture import Architecture, knob
from solobox.localizer.loss_terms import parse

RecipeName: TypeAlias = Literal["quick", "full"]
HeadStart: TypeAlias = Literal["scenes", "random"]


_FEW_VIEWS, _FEW_STEPS = 1200, 260
"""Below this many views, or steps, a set gets more of them: measured on 72 and 100 pictures, see bench/LOG.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run. Every field's own text says what it is; `check` has been passed.

    Raises ConfigError for values that are out of range or do not go together.
    """

    architecture: Architecture = Architecture()
    pretrained: str = knob(
        "bundled",
        "The trunk's weights: `bundled` (EfficientNet-Lite0), `hub`, `none`, or the path of a file.",
    )
    head_start: HeadStart = knob(
        "scenes",
        "First weights of vectorizer and head: `scenes`, learnt from pictures that the program draws (for the default "
        "parts on the bundled trunk; others begin at random), or `random`.",
    )
    loss: str = knob(
        "kl + 10*l1 + giou", "A weighted sum of mse, smooth_l1, l1, iou, giou, diou, ciou, kl (distribution)."
    )
    sigma: float = knob(
        0.0115, "Width of the target distribution of `kl`, as a fraction of the input's side."
    )
    windows: int = knob(
        3,
        "Views of each training picture, at least: the whole one, and random windows of it. 1: no augmentation. "
        "A small set gets more, up to 16.",
    )
    epochs: int = knob(
        4,
        "Passes over the kept feature maps, at least, the trunk frozen; a small set gets more. "
        "0: leave this stage out.",
    )
    batch: int = knob(32, "Views in a training step.")
    lr: float = knob(0.002, "Peak learning rate of the head (AdamW, one cycle).")
    weight_decay: float = knob(0.02, "Weight decay.")
    ema: float = knob(0.99, "Decay, per step, of the running average of the weights that is kept.")
    full_epochs: int = knob(0, "Passes over the pictures in which the whole trunk is trained too.")
    full_lr: float = knob(0.0001, "Peak learning rate of that stage.")
    val: float = knob(0.1, "Share held out to pick the best epoch, where the data does not say.")
    test: float = knob(0.1, "Share set aside and never looked at in training, where the data does not say.")
    seed: int = knob(0, "Seed of everything random.")
    ram_gb: float = knob(4.0, "Keep features and pixels in memory up to this size, beyond it on disk.")

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "sigma": (1e-4, 1), "windows": (1, 1000), "epochs": (0, 100_000), "batch": (1, 100_000),
            "lr": (0, 10), "weight_decay": (0, 10), "ema": (0, 0.999999), "full_epochs": (0, 100_000),
            "full_lr": (0, 10), "val": (0.001, 0.9), "test": (0, 0.9), "seed": (0, 2**63 - 1), "ram_gb": (0, 1e6),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be from {low:g} to {high:g}, not {value}")
        if self.val + self.test >= 1:
            raise ConfigError(f"val ({self.val}) and test ({self.test}) leave nothing to train on")
        if self.epochs == 0 and self.full_epochs == 0:
            raise ConfigError("epochs and full_epochs are both 0: nothing would be trained")
        if self.architecture.size == "native" and (self.epochs or self.batch != 1):
            raise ConfigError(
                "size `native` shows each picture by itself at its own size: there are no feature maps of one shape "
                "to keep, and no batches. Use --epochs 0 --full-epochs N --batch 1, or give size as a number"
            )
        needs_distribution = any(name == "kl" for _, name in parse(self.loss))
        if needs_distribution and self.architecture.head == "regression":
            raise ConfigError(
                f"the loss {self.loss!r} has `kl`, which needs the distribution head; with `regression` use "
                "mse, smooth_l1, l1, giou, diou or ciou"
            )
        if self.pretrained == "none" and self.full_epochs == 0:
            raise ConfigError(
                "a trunk with random weights that is never trained learns nothing: set full_epochs"
            )

    def views_each(self, pictures: int) -> int:
        """Views of each of so many training pictures: `windows`, or more where that gives few in all."""
        return self.windows if self.windows == 1 else max(self.windows, min(16, -(-_FEW_VIEWS // pictures)))

    def passes(self, views: int) -> int:
        """Passes over so many views: `epochs`, or more where that gives few steps in all."""
        return max(self.epochs, -(-_FEW_STEPS // -(-views // self.batch)))

    @classmethod
    def named(cls, name: str, changes: Mapping[str, object] | None = None) -> "Recipe":
        """A preset (``quick``, ``full``) with some knobs changed.

        changes: flat, the architecture's own knobs among them (``size``, ``backbone``, ...).

        Raises ConfigError for an unknown recipe, an unknown key (naming the nearest) or a value of a wrong type.
        """
        if name not in _PRESETS:
            raise ConfigError(f"there is no recipe {name!r}: {', '.join(_PRESETS)}")
        given: dict[str, Any] = dict(changes or {})
        own, deep = knobs(cls), knobs(Architecture)
        for key, value in given.items():
            if key not in own and key not in deep:
                near = difflib.get_close_matches(key, [*own, *deep], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f". Known: {', '.join([*own, *deep])}"
                raise ConfigError(f"unknown setting {key!r}{hint}")
            given[key] = _checked(key, value, (own.get(key) or deep[key]).kind)
        preset = _PRESETS[name]()
        architecture = replace(preset.architecture, **{k: v for k, v in given.items() if k in deep})
        return replace(preset, architecture=architecture, **{k: v for k, v in given.items() if k in own})


_PRESETS: dict[str, Callable[[], Recipe]] = {"quick": Recipe, "full": lambda: Recipe(full_epochs=4)}


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting: its type, its default and its help text."""

    kind: Any
    default: Any
    help: str


def knobs(kind: type) -> dict[str, Knob]:
    """The plain settings of `Recipe` or `Architecture` by name; a nested dataclass is not one."""
    hints = get_type_hints(kind)
    found = {}
    for item in fields(kind):
        if item.name != "architecture":
            found[item.name] = Knob(hints[item.name], _default(item), item.metadata.get("help", ""))
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
    if origin is None and isinstance(value, kind) and not isinstance(value, bool):
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
