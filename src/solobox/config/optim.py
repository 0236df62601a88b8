"""The optimizer and its learning rate schedule, as plain data; imports no torch."""

from typing import Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from solobox.config.options import STRICT, Options

OptimizerName: TypeAlias = Literal["adamw", "adam", "sgd"]
ScheduleName: TypeAlias = Literal["one_cycle", "cosine", "exponential", "constant"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig(Options):
    """How weights are updated; each field's description says what it is. A step is one update.

    Raises ConfigError for an unknown name or a value out of range.
    """

    optimizer: OptimizerName = Field(default="adamw", description="The optimizer.")
    lr: float = Field(
        default=0.004,
        ge=1e-9,
        le=10,
        description="Peak learning rate of the head stage; fine-tuning has finetune_lr.",
    )
    weight_decay: float = Field(
        default=0.02,
        ge=0,
        le=10,
        description="Weight decay: with `adamw` decoupled, and not of biases and norms; with `adam` and `sgd` an L2 "
        "term of all weights.",
    )
    schedule: ScheduleName = Field(
        default="one_cycle",
        description="Learning rate over the steps: `one_cycle` (up, then down, along cosines), `cosine` (down to 0), "
        "`exponential` (times decay_rate every decay_steps) or `constant`.",
    )
    warmup: float = Field(
        default=0.15,
        ge=0,
        le=0.99,
        description="Share of the steps in which the learning rate rises from 1/25 of its peak: along a cosine with "
        "`one_cycle`, else linearly.",
    )
    decay_rate: float = Field(
        default=0.8, ge=1e-6, le=1, description="Factor of `exponential` for every decay_steps steps."
    )
    decay_steps: int = Field(
        default=3600,
        ge=1,
        le=10**9,
        description="Steps after the warm-up in which `exponential` decays by decay_rate.",
    )
    staircase: bool = Field(
        default=False, description="Let `exponential` decay at once every decay_steps, not smoothly."
    )
    clip: float = Field(
        default=1.0,
        ge=0,
        le=1e6,
        description="Largest norm of the gradient; longer ones are clipped. 0: off.",
    )
    accumulate: int = Field(
        default=1, ge=1, le=100_000, description="Batches whose gradients add up to one step."
    )
