"""What a localizer is made of, as plain data; without PyTorch, which takes seconds to load."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from solobox.errors import ConfigError

VectorizerName: TypeAlias = Literal["gap", "flatten", "edges"]
HeadName: TypeAlias = Literal["regression", "distribution"]


def knob(default: Any, text: str) -> Any:
    """A dataclass field with a default and the text that the command line shows for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that decides the shapes of a localizer's tensors; each field's own text says what it is.

    Raises ConfigError where the parts do not fit together.
    """

    backbone: str = knob("tf_efficientnet_lite0", "The trunk: a timm model name.")
    strides: tuple[int, ...] = knob((8, 16, 32), "Strides of the feature maps that are used, finest first.")
    size: int = knob(320, "Side in pixels of the square that a picture is squashed to.")
    vectorizer: VectorizerName = knob(
        "edges", "`gap` or `flatten` give one vector, `edges` a sequence for each edge."
    )
    head: HeadName = knob(
        "distribution", "`regression` gives four numbers, `distribution` four distributions."
    )
    width: int = knob(96, "Channels inside the `edges` vectorizer and the heads.")
    blocks: int = knob(1, "Residual blocks of the `edges` vectorizer.")
    dropout: float = knob(0.1, "Share of channels dropped in training by the `edges` vectorizer.")
    bins: int = knob(32, "Bins of the `distribution` head in each cell of the second finest map.")

    def __post_init__(self) -> None:
        coarsest = self.strides[-1] if self.strides else 1
        if any(stride < 1 for stride in self.strides) or list(self.strides) != sorted(set(self.strides)):
            raise ConfigError(f"strides are positive and rise, such as 8, 16, 32; not {self.strides}")
        if not self.strides or self.size % coarsest or self.size < coarsest:
            raise ConfigError(f"size {self.size} must be a multiple of the coarsest stride, {coarsest}")
        if self.vectorizer not in ("gap", "flatten", "edges"):
            raise ConfigError(f"vectorizer is gap, flatten or edges, not {self.vectorizer!r}")
        if self.head not in ("regression", "distribution"):
            raise ConfigError(f"head is regression or distribution, not {self.head!r}")
        if self.vectorizer == "edges" and self.head == "regression":
            raise ConfigError(
                "the regression head reads one vector, and the vectorizer `edges` gives a sequence for each "
                "edge: use head `distribution`, or vectorizer `gap` or `flatten`"
            )
        doubling = all(b == 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False))
        if self.vectorizer == "edges" and (len(self.strides) < 2 or not doubling):
            raise ConfigError(
                f"the vectorizer `edges` mixes two or more maps, each of twice the stride of the one before it, "
                f"such as 8, 16, 32; not {self.strides}"
            )
        for name, least in (("width", 1), ("blocks", 0), ("bins", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is a share in [0, 1), not {self.dropout}")

    @property
    def cells(self) -> int:
        """Cells along an axis of the grid on which the distribution head's bins lie."""
        return self.size // (self.strides[1] if len(self.strides) > 1 else self.strides[0])
