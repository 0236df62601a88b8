"""How the weights are changed in training, as plain data. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from solobox.config.architecture import option
from solobox.errors import ConfigError

OptimizerName: TypeAlias = Literal["adamw", "adam", "sgd"]
ScheduleName: TypeAlias = Literal["one_cycle", "cosine", "exponential", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How the weights are changed; each field's own text says what it is. A step is one change of the weights.

    Raises ConfigError for a name that is unknown or a value that is out of range.
    """

    optimizer: OptimizerName = option("adamw", "What changes the weights: `adamw`, `adam` or `sgd`.")
    lr: float = option(
        0.004, "Peak learning rate of the head on kept features; see finetune_lr for the other stage."
    )
    weight_decay: float = option(
        0.02,
        "Weight decay. `adamw` shrinks the weights themselves, but no biases or norms; `adam` and `sgd` add it to "
        "the gradient of everything.",
    )
    momentum: float = option(0.9, "Momentum of `sgd`.")
    schedule: ScheduleName = option(
        "one_cycle",
        "The learning rate over the steps: `one_cycle` (up and down along cosines), `cosine` (down to 0), "
        "`exponential` (down by decay_rate every decay_steps), `constant`.",
    )
    warmup: float = option(
        0.15,
        "Share of all steps in which the learning rate rises from 1/25 of its peak: along a cosine in `one_cycle`, "
        "else in a straight line.",
    )
    decay_rate: float = option(0.8, "What `exponential` multiplies the learning rate by every decay_steps.")
    decay_steps: int = option(
        3600, "Steps, after the warm-up, in which `exponential` applies decay_rate once."
    )
    staircase: bool = option(False, "Let `exponential` go down in stairs rather than smoothly.")
    clip: float = option(
        1.0, "Largest norm of the gradient of all weights together; longer ones are cut. 0: off."
    )
    accumulate: int = option(1, "Batches whose gradients make up one step.")

    def __post_init__(self) -> None:
        for name, options in (("optimizer", get_args(OptimizerName)), ("schedule", get_args(ScheduleName))):
            if getattr(self, name) not in options:
                raise ConfigError(f"{name} is one of {', '.join(options)}, not {getattr(self, name)!r}")
        ranges: dict[str, tuple[float, float]] = {
            "lr": (1e-9, 10), "weight_decay": (0, 10), "momentum": (0, 0.9999), "warmup": (0, 0.99),
            "decay_rate": (1e-6, 1), "decay_steps": (1, 10**9), "clip": (0, 1e6), "accumulate": (1, 100_000),
        }  # fmt: skip
        for name, (lower, upper) in ranges.items():
            value = getattr(self, name)
            if not lower <= value <= upper:  # said this way round, it refuses nan too
                raise ConfigError(f"{name} must be from {lower:g} to {upper:g}, not {value}")
