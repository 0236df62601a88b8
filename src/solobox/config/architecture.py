"""What a localizer is made of, as plain data; imports no torch."""

from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from solobox.config.options import STRICT, Options
from solobox.errors import ConfigError

VectorizerName: TypeAlias = Literal["gap", "flatten", "edges"]
HeadName: TypeAlias = Literal["regression", "distribution"]
BoxForm: TypeAlias = Literal["corners", "center_size", "corner_size"]
Size: TypeAlias = int | Literal["native"]

MAX_SIDE = 1536
"""Of the square in pixels: larger than any backbone of timm was trained for."""

MAX_CHANNELS = 16_384

MAX_REFINE = 3
"""Refinements of a box, at most."""

MAX_DETAIL = 4
"""Side of the model's input in sides of the network's, at most."""

Stride: TypeAlias = Annotated[int, Field(ge=1, le=1024)]
Channels: TypeAlias = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]

_NATIVE_SIDE = 320
"""The side whose grid the distribution head uses where images keep their sizes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Architecture(Options):
    """Everything that decides the shapes of a localizer's tensors; each field's description says what it is.

    presence: whether the model learns it. refinements: how many times the first box is refined (see `model.refiner`).
    detail: the side of the image that refinement crops from, in multiples of `size`.

    Raises ConfigError, also for values that do not go together (code ``options-conflict``).
    """

    backbone: str = Field(
        default="tf_efficientnet_lite0", max_length=200, description="The backbone, a timm model name."
    )
    strides: tuple[Stride, ...] = Field(
        default=(8, 16, 32),
        strict=False,
        max_length=16,
        description="Strides of the feature maps to use, finest first.",
    )
    size: Size = Field(
        default=320,
        description="Side in pixels (at most 1536) of the square that each image is resized to; the `edges` "
        "vectorizer needs a multiple of the coarsest stride. `native` (only with `gap`): each image keeps its size, "
        "with a longer side of at most 1333 pixels.",
    )
    extra: tuple[Channels, ...] = Field(
        default=(),
        strict=False,
        max_length=16,
        description="Channels of extra 3x3 convolutions (stride 2, ReLU) after the coarsest map, such as 1024; for "
        "`gap` and `flatten`.",
    )
    vectorizer: VectorizerName = Field(
        default="edges",
        description="What the head reads: one vector from the coarsest map (`gap`: global average pooling; "
        "`flatten`), or a sequence for each edge of the box from all maps (`edges`).",
    )
    head: HeadName = Field(
        default="distribution",
        description="`regression` predicts four numbers, `distribution` a distribution for each edge.",
    )
    box: BoxForm = Field(
        default="corners",
        description="What the four numbers of the `regression` head are: `corners` (x1, y1, x2, y2), `center_size` "
        "(cx, cy, w, h) or `corner_size` (x1, y1, w, h).",
    )
    width: int = Field(
        default=96,
        ge=1,
        le=MAX_CHANNELS,
        description="Channels of the `edges` vectorizer and of the heads' hidden layer.",
    )
    bins: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Bins of the `distribution` head in each cell of the second finest map.",
    )
    # No options: training sets them from the data.
    presence: bool = False
    refinements: Annotated[int, Field(ge=0, le=MAX_REFINE)] = 0
    detail: Annotated[int, Field(ge=1, le=MAX_DETAIL)] = 1

    def __post_init__(self) -> None:
        if not self.strides or any(a >= b for a, b in pairwise(self.strides)):
            raise ConfigError(
                f"strides must rise, such as 8, 16, 32; not {self.strides}", code="out-of-range"
            )
        if self.box != "corners" and self.head != "regression":
            raise _conflict(
                f"box {self.box!r} is for the regression head, and the head is {self.head!r}: leave box out, or use "
                "head `regression`"
            )
        self._check_size()
        self._check_refine()
        if self.vectorizer == "edges":
            self._check_edges()

    def _check_size(self) -> None:
        if self.size == "native":
            if self.vectorizer != "gap":
                raise _conflict(
                    f"the vectorizer `{self.vectorizer}` needs maps of one size, and size `native` gives each image "
                    "its own: use vectorizer `gap`, or give size as a number of pixels"
                )
            return
        coarsest = self.strides[-1]
        if self.size > MAX_SIDE:
            raise ConfigError(f"size is at most {MAX_SIDE} pixels, not {self.size}", code="out-of-range")
        if self.size < coarsest:
            raise ConfigError(
                f"size {self.size} is less than the coarsest stride, {coarsest}", code="out-of-range"
            )
        if self.vectorizer == "edges" and self.size % coarsest:
            raise _conflict(
                f"size {self.size} must be a multiple of the coarsest stride, {coarsest}, for the vectorizer `edges`, "
                f"whose maps share one grid. Use {round(self.size / coarsest) * coarsest}, or vectorizer `gap` or "
                "`flatten`, which take any size"
            )

    def _check_refine(self) -> None:
        if not self.refinements:
            if self.detail != 1:
                raise _conflict("detail is for refinement: without it, it is 1")
            return
        if not self.can_refine:
            raise _conflict(
                "refinement needs the vectorizer `edges` and images of one size: leave refine at `off`"
            )
        if self.input_side > MAX_SIDE:
            raise ConfigError(
                f"size {self.size} times detail {self.detail} is more than {MAX_SIDE}", code="out-of-range"
            )

    def _check_edges(self) -> None:
        if self.head == "regression":
            raise _conflict(
                "the regression head reads one vector, and the vectorizer `edges` gives a sequence for each edge: use "
                "head `distribution`, or vectorizer `gap` or `flatten`"
            )
        if len(self.strides) < 2 or any(b != 2 * a for a, b in pairwise(self.strides)):
            raise _conflict(
                "the vectorizer `edges` needs two or more strides, each twice the one before, such as 8, 16, 32; not "
                f"{self.strides}"
            )
        if self.extra:
            raise _conflict(
                "extra convolutions shrink the coarsest map, which the vectorizer `edges` combines with the finer "
                "ones: leave extra out, or use vectorizer `gap` or `flatten`"
            )

    @property
    def side(self) -> int:
        """Side of the square in pixels; ConfigError where images keep their sizes (`native`)."""
        if self.size == "native":
            raise _conflict("this needs images of one size: give size as a number of pixels, not `native`")
        return self.size

    @property
    def input_side(self) -> int:
        """Side of the square that an image is resized to before the network crops or reduces it, in pixels."""
        return self.side * self.detail

    @property
    def can_refine(self) -> bool:
        """Whether boxes of such a model can be refined."""
        return self.vectorizer == "edges" and self.size != "native"

    @property
    def cells(self) -> int:
        """Cells along an axis of the grid that holds the distribution head's bins."""
        side = _NATIVE_SIDE if self.size == "native" else self.size
        return side // (self.strides[1] if len(self.strides) > 1 else self.strides[0])


def _conflict(text: str) -> ConfigError:
    return ConfigError(text, code="options-conflict")
