"""The recipe of a training run: all its options with type, range, default and help text.

The options of the command line and the keys of a TOML file are made from it; ``config.json`` stores it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from solobox.config.architecture import MAX_REFINE, Architecture
from solobox.config.losses import parse
from solobox.config.optim import OptimizerConfig
from solobox.config.options import STRICT, Options, nearest, options_of, unknown_option
from solobox.errors import ConfigError

RecipeName: TypeAlias = Literal["quick", "finetune", "article"]
Precision: TypeAlias = Literal["auto", "bf16-mixed", "16-mixed", "32-true"]
Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]
Refine: TypeAlias = Literal["auto", "off"] | Annotated[int, Field(ge=1, le=MAX_REFINE)]
PretrainedHeadName: TypeAlias = Literal["synthetic", "random"]

MIN_REPETITIONS = 3
"""Of a learning curve, at least."""

_MIN_CROPS, _MIN_STEPS = 720, 140
"""A smaller training set gets more crops and epochs: measured on 72 and 100 images, see bench/LOG.md."""

_MIN_BF16_CROPS = 2000
"""Fewer crops take seconds in float32 too; rounding in each layer cost a small set 0.005 of IoU, see bench/LOG.md."""

_ARTICLE = {
    "backbone": "resnet50", "strides": (32,), "size": 300, "extra": (1024,), "vectorizer": "gap", "head": "regression",
    "width": 512, "pretrained": "hub", "pretrained_head": "random", "loss": "mse", "crops": 1, "epochs": 0,
    "finetune_epochs": 10, "finetune_lr": 0.0003, "batch": 16, "ema": 0.0, "optimizer": "adam", "weight_decay": 0.0,
    "schedule": "exponential", "warmup": 0.0, "decay_rate": 0.8, "decay_steps": 3600, "staircase": True, "clip": 0.0,
}  # fmt: skip

_PRESETS: dict[str, Mapping[str, object]] = {
    "quick": {},
    "finetune": {"finetune_epochs": 4},
    "article": _ARTICLE,
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe(Options):
    """A training run; each field's description says what it is.

    Raises ConfigError, also for values that do not go together (code ``options-conflict``).
    """

    architecture: Architecture = Architecture()
    optimizer_config: OptimizerConfig = OptimizerConfig()
    pretrained: str = Field(
        default="bundled",
        description="Weights of the backbone: `bundled` (EfficientNet-Lite0, or EfficientNet-Lite2 with the extra "
        "lite2), `hub`, `none`, or a file's path.",
    )
    pretrained_head: PretrainedHeadName = Field(
        default="synthetic",
        description="Initial weights of vectorizer and head: `synthetic`, pretrained on drawn images (for the "
        "default architecture with the bundled backbone; others start at random), or `random`.",
    )
    loss: str = Field(
        default="kl + 10*l1 + giou",
        description="A weighted sum of mse, smooth_l1, l1, iou, giou, diou, ciou and kl (of the distributions).",
    )
    crops: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Crops of each training image, the first of which is the whole image. A small "
        "data set gets more, up to 16. 1: no augmentation.",
    )
    epochs: int = Field(
        default=4,
        ge=0,
        le=100_000,
        description="Epochs of the head stage: the backbone is frozen, and its features are computed once. A small "
        "data set gets more. 0: skip this stage.",
    )
    batch: int = Field(default=32, ge=1, le=100_000, description="Batch size, over all devices together.")
    ema: float = Field(
        default=0.99,
        ge=0,
        le=0.999999,
        description="Decay per step of the weights' exponential moving average, which is what is kept. 0: off.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Stop a stage after so many epochs without improvement. 0: never.",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Cross-validation: also train so many heads, each without one fold of the training images, and "
        "write their IoU on that fold to out_of_fold.csv. 0: off.",
    )
    refine: Refine = Field(
        default="auto",
        description="Look again at a crop around the first box, for objects that are small in large images: `auto` "
        "twice, where objects are small and it is better on the validation images; 1, 2 or 3: so many times, "
        "everywhere; or `off`.",
    )
    finetune_epochs: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Epochs of the fine-tuning stage, which trains the backbone too.",
    )
    finetune_lr: float = Field(
        default=0.0001, ge=1e-9, le=10, description="Peak learning rate of fine-tuning."
    )
    backbone_lr: float = Field(
        default=1.0,
        ge=1e-6,
        le=1000,
        description="Learning rate of the backbone in fine-tuning, as a multiple of finetune_lr.",
    )
    freeze: int = Field(
        default=0,
        ge=-1,
        le=1000,
        description="Stages of the backbone, from the stem on, that fine-tuning leaves frozen; -1 for all.",
    )
    val: float = Field(
        default=0.1,
        ge=0.001,
        le=0.9,
        description="Share of images for validation, where the data names no split.",
    )
    test: float = Field(
        default=0.1,
        ge=0,
        le=0.9,
        description="Share of images left for the final test, where the data names no split.",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of all random numbers.")
    precision: Precision = Field(
        default="auto",
        description="`auto`: bf16-mixed where the hardware supports it, else 32-true, which also computes "
        "cached features in float32, as for small data sets they always are.",
    )
    accelerator: Accelerator = Field(
        default="auto",
        description="`auto`: a GPU if PyTorch has CUDA (or ROCm) and finds one, else the CPU; Apple's are not used.",
    )
    devices: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="GPUs, or processes on a CPU, on each host; each batch is shared among them. 0: as torchrun or "
        "SLURM started, else one.",
    )
    nodes: int = Field(
        default=0, ge=0, le=100_000, description="Hosts. 0: as torchrun or SLURM started, else one."
    )
    loggers: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Also log each epoch to `tensorboard`, `mlflow` or `wandb`; history.csv is always written.",
    )
    ram_gb: float = Field(
        default=4.0,
        ge=0,
        le=1e6,
        description="Memory in GB for cached images and features on each host; the rest goes to disk.",
    )

    def __post_init__(self) -> None:
        uses_kl = any(name == "kl" for _, name in parse(self.loss))
        if self.val + self.test >= 1:
            raise _conflict(f"val ({self.val}) and test ({self.test}) leave no images to train on")
        if self.epochs == 0 and self.finetune_epochs == 0:
            raise _conflict("epochs and finetune_epochs are both 0: nothing would be trained")
        if self.architecture.size == "native" and (self.epochs or self.batch != 1):
            raise _conflict(
                "with size `native` each image has its own size, so features cannot be cached and images cannot be "
                "batched. Use --epochs 0 --finetune-epochs N --batch 1, or give size as a number"
            )
        if isinstance(self.refine, int) and not self.architecture.can_refine:
            raise _conflict(
                "refine needs the vectorizer `edges` and images of one size: leave it at `auto` or `off`"
            )
        if self.folds == 1:
            raise ConfigError("folds must be 0, or 2 and more, not 1", code="out-of-range")
        if self.folds and (self.finetune_epochs or self.devices > 1 or self.nodes > 1):
            raise _conflict(
                "folds train heads on cached features on one device: they do not go with finetune_epochs, nor with "
                "several devices or nodes"
            )
        if uses_kl and self.architecture.head == "regression":
            raise _conflict(
                f"the loss {self.loss!r} has `kl`, which needs the distribution head: for `regression` use mse, "
                "smooth_l1, l1, iou, giou, diou or ciou"
            )
        if self.pretrained == "none" and self.finetune_epochs == 0:
            raise _conflict("a frozen backbone with random weights learns nothing: set finetune_epochs")

    def crops_per_image(self, images: int) -> int:
        """Crops of each of `images` training images: `crops`, or more where that gives few in all."""
        return self.crops if self.crops == 1 else max(self.crops, min(16, -(-_MIN_CROPS // images)))

    def bf16_features(self, crops: int) -> bool:
        """Whether the backbone may compute the features of so many crops in bfloat16, where that is faster."""
        return self.precision != "32-true" and crops >= _MIN_BF16_CROPS

    def passes(self, crops: int) -> int:
        """Epochs of the head stage on so many crops: `epochs`, or more where that gives few steps in all."""
        return max(self.epochs, -(-_MIN_STEPS // -(-crops // self.batch)))

    @classmethod
    def from_preset(
        cls, name: str = "quick", options: Mapping[str, object] | None = None, /, **more: object
    ) -> Self:
        """A preset with some options changed: ``Recipe.from_preset("quick", size=224, lr=0.002)``.

        name: ``quick`` (the backbone stays frozen), ``finetune`` or ``article``.
        options, more: by name, those of the architecture and the optimizer among them; plain values, as TOML has them.

        Raises ConfigError: ``unknown-recipe``, ``unknown-option`` (it names the nearest one), and as `Recipe` does.
        """
        if name not in _PRESETS:
            raise ConfigError(f"unknown recipe {name!r}{nearest(name, _PRESETS)}", code="unknown-recipe")
        values: dict[str, Any] = {**_PRESETS[name], **(options or {}), **more}
        for option in values:
            if option not in OPTIONS:
                raise unknown_option(option, OPTIONS)
        parts: dict[str, Any] = {
            part: kind(**{option: values.pop(option) for option in options_of(kind) if option in values})
            for part, kind in PARTS.items()
        }
        return cls(**parts, **values)

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, as values for JSON: what `from_preset` takes."""
        nested = asdict(self)
        values = {**nested, **{name: value for part in PARTS for name, value in nested[part].items()}}
        return {
            name: list(values[name]) if isinstance(values[name], tuple) else values[name] for name in OPTIONS
        }


PARTS: dict[str, type[Options]] = {"architecture": Architecture, "optimizer_config": OptimizerConfig}
"""The fields of `Recipe` that hold options themselves."""

OPTIONS = options_of(Recipe, *PARTS.values())
"""All options of a recipe by name, with type, default and help text."""


def read_toml(path: Path | None) -> tuple[str, dict[str, Any]]:
    """The preset's name and the options in a TOML file, for `Recipe.from_preset`; ``quick`` and none without a file.

    Raises ConfigError, which names the file: ``config-unreadable`` where it cannot be read or is not TOML, and as
    `Recipe.from_preset` does for a wrong name or value; options that conflict may be changed on the command line.
    """
    if path is None:
        return "quick", {}
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", code="config-unreadable") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}", code="config-unreadable") from error
    preset = str(options.pop("recipe", "quick"))
    try:
        Recipe.from_preset(preset, options)
    except ConfigError as error:
        if error.code != "options-conflict":
            raise ConfigError(f"{path}: {error}", code=error.code) from error
    return preset, options


def check_repetitions(repetitions: int) -> None:
    """Raise ConfigError (``out-of-range``) for too few folds of a learning curve."""
    if repetitions < MIN_REPETITIONS:
        raise ConfigError(
            f"a learning curve takes {MIN_REPETITIONS} repetitions or more, not {repetitions}",
            code="out-of-range",
        )


def _conflict(text: str) -> ConfigError:
    return ConfigError(text, code="options-conflict")
