"""What a localizer is made of, as plain data; without PyTorch, which takes seconds to load."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from solobox.errors import ConfigError

VectorizerName: TypeAlias = Literal["gap", "flatten", "edges"]
HeadName: TypeAlias = Literal["regression", "distribution"]
BoxForm: TypeAlias = Literal["corners", "center_size", "corner_size"]
Size: TypeAlias = int | Literal["native"]

_NATIVE_SIDE = 320
"""The side whose grid the distribution head has where images keep their own sizes."""


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and the text that the command line shows for it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that decides the shapes of a localizer's tensors; each field's own text says what it is.

    Raises ConfigError where the parts do not fit together.
    """

    backbone: str = option("tf_efficientnet_lite0", "The backbone: a timm model name.")
    strides: tuple[int, ...] = option((8, 16, 32), "Strides of the feature maps that are used, finest first.")
    size: Size = option(
        320,
        "Side in pixels of the square that an image is squashed to; for `edges` a multiple of the coarsest stride. "
        "`native`, with `gap` alone: each image by itself at its own size, the longer side reduced to at most 1333.",
    )
    extra: tuple[int, ...] = option(
        (),
        "Channels of additional convolutions (3x3, stride 2, ReLU) after the coarsest map, such as 1024; with `gap` "
        "or `flatten`.",
    )
    vectorizer: VectorizerName = option(
        "edges",
        "`gap` (pooling) or `flatten` give one vector of the coarsest map, `edges` a sequence for each edge of all "
        "maps. `flatten` fixes the input size.",
    )
    head: HeadName = option(
        "distribution", "`regression` gives four numbers, `distribution` four distributions."
    )
    box: BoxForm = option(
        "corners",
        "What the `regression` head's numbers are: `corners` (x1, y1, x2, y2), `center_size` (cx, cy, w, h) or "
        "`corner_size` (x1, y1, w, h).",
    )
    width: int = option(
        96, "Channels inside the `edges` vectorizer and the heads: the `regression` head's hidden layer."
    )
    blocks: int = option(1, "Residual blocks of the `edges` vectorizer.")
    dropout: float = option(0.1, "Share of channels dropped in training by the `edges` vectorizer.")
    bins: int = option(32, "Bins of the `distribution` head in each cell of the second finest map.")
    # No option: training sets it where there are images without the object to learn from.
    presence: bool = False

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.strides))
        if not self.strides or self.strides[0] < 1 or not rising:
            raise ConfigError(f"strides are positive and rise, such as 8, 16, 32; not {self.strides}")
        if self.vectorizer not in ("gap", "flatten", "edges"):
            raise ConfigError(f"vectorizer is gap, flatten or edges, not {self.vectorizer!r}")
        if self.head not in ("regression", "distribution"):
            raise ConfigError(f"head is regression or distribution, not {self.head!r}")
        if self.box not in ("corners", "center_size", "corner_size"):
            raise ConfigError(f"box is corners, center_size or corner_size, not {self.box!r}")
        if self.box != "corners" and self.head != "regression":
            raise ConfigError(
                f"box {self.box!r} is a form of the regression head's four numbers; the head {self.head!r} gives a "
                "distribution for each edge: leave box out, or use head `regression`"
            )
        self._check_size()
        self._check_vectorizer()
        for name, least in (("width", 1), ("blocks", 0), ("bins", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is a share in [0, 1), not {self.dropout}")

    def _check_size(self) -> None:
        coarsest = self.strides[-1]
        if isinstance(self.size, str):
            if self.size != "native":
                raise ConfigError(f"size is a number of pixels or `native`, not {self.size!r}")
            if self.vectorizer != "gap":
                raise ConfigError(
                    f"the vectorizer `{self.vectorizer}` reads maps of one size, and with size `native` each image "
                    "has its own: use vectorizer `gap`, or give a number of pixels"
                )
            return
        if self.size < coarsest:
            raise ConfigError(f"size {self.size} is less than the coarsest stride, {coarsest}")
        if self.vectorizer == "edges" and self.size % coarsest:
            raise ConfigError(
                f"size {self.size} must be a multiple of the coarsest stride, {coarsest}, for the vectorizer `edges`: "
                f"its maps lie on one grid. Use {round(self.size / coarsest) * coarsest}, or vectorizer `gap` or "
                "`flatten`, which take any size"
            )

    def _check_vectorizer(self) -> None:
        if self.vectorizer == "edges" and self.head == "regression":
            raise ConfigError(
                "the regression head reads one vector, and the vectorizer `edges` gives a sequence for each "
                "edge: use head `distribution`, or vectorizer `gap` or `flatten`"
            )
        doubling = all(b == 2 * a for a, b in pairwise(self.strides))
        if self.vectorizer == "edges" and (len(self.strides) < 2 or not doubling):
            raise ConfigError(
                f"the vectorizer `edges` mixes two or more maps, each of twice the stride of the one before it, "
                f"such as 8, 16, 32; not {self.strides}"
            )
        if any(channels < 1 for channels in self.extra):
            raise ConfigError(
                f"extra gives the channels of each additional convolution, such as 1024; not {self.extra}"
            )
        if self.extra and self.vectorizer == "edges":
            raise ConfigError(
                "additional convolutions (extra) reduce the coarsest map, and the vectorizer `edges` needs it at its "
                "own stride, beside the finer ones: leave extra out, or use vectorizer `gap` or `flatten`"
            )

    @property
    def side(self) -> int:
        """Pixels along a side of the square; ConfigError where each image keeps its own size (`native`)."""
        if isinstance(self.size, str):
            raise ConfigError("this needs images of one size: give size as a number of pixels, not `native`")
        return self.size

    @property
    def cells(self) -> int:
        """Cells along an axis of the grid on which the distribution head's bins lie."""
        side = _NATIVE_SIDE if isinstance(self.size, str) else self.size
        return side // (self.strides[1] if len(self.strides) > 1 else self.strides[0])
