"""What the server says of an image, as JSON, and what a client may ask for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from solobox.boxes import Floats
from solobox.errors import ConfigError
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import level_of, with_margins
from solobox.serve.errors import Problem
from solobox.uncertainty.conformal import Calibration

_DIGITS = 3
"""Digits behind the point of pixels: a thousandth is far below what any model can tell."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants to know beside the box. See `wish`.

    level: of the margins, None for none. outer: outwards alone. min_presence: gives no box below it.
    """

    level: float | None = None
    outer: bool = False
    min_presence: float | None = None


def wish(
    calibration: Calibration | None,
    *,
    has_presence: bool,
    margins: float | None = None,
    outer: float | None = None,
    min_presence: float | None = None,
) -> Wish:
    """What the query of a request asks for, checked against what the model can give.

    Without `margins` and `outer` there are margins at 0.9, where the model was calibrated for that.
    Raises Problem (422).
    """
    if margins is not None and outer is not None:
        raise _wrong("margins and outer are two kinds of one thing", "Give one of them.")
    if min_presence is not None and not has_presence:
        raise _wrong(
            "this model never learned presence: it was trained on no images without the object",
            "Leave min_presence out.",
        )
    level = outer if margins is None else margins
    if level is None:
        return Wish(level_of(calibration, None, outer=False), min_presence=min_presence)
    if calibration is None:
        raise _wrong("this model was not calibrated and has no margins", "Leave margins and outer out.")
    try:
        calibration.factor(level, outer=outer is not None)
    except ConfigError as error:
        # What follows the first sentence is advice for who trains.
        raise _wrong(str(error).partition(". Hold more")[0], "Ask for a lower level.") from None
    return Wish(level, outer is not None, min_presence)


def _wrong(message: str, what_to_do: str) -> Problem:
    return Problem(422, "wrong_parameter", message, what_to_do)


def finished(found: Prediction, calibration: Calibration | None, wanted: Wish) -> Prediction:
    """A prediction with the margins that are wanted, or without its box where presence is too low."""
    banded = with_margins(found, calibration, wanted.level, outer=wanted.outer)
    return banded if wanted.min_presence is None else banded.if_present(wanted.min_presence)


Edges = Annotated[
    Sequence[float],
    Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright image"),
]
Share = Annotated[float, Field(ge=0, le=1)]


class Fault(BaseModel):
    """Why there is no answer. Every error has this shape."""

    code: str = Field(description="A word for programs")
    message: str = Field(description="What is wrong")
    what_to_do: str = Field(description="What the client can do about it")


class V2Fault(Fault):
    """Of the Open Inference Protocol's routes."""

    error: str = Field(description="The message again, where that protocol has it")


class Margins(BaseModel):
    """Between what each edge of the true box lies, all four at once with this probability."""

    level: Share
    lower: Edges
    upper: Edges


class Outer(BaseModel):
    """The box that holds the whole object with this probability."""

    level: Share
    box: Edges


class Found(BaseModel):
    """The answer for one image."""

    name: str = Field(description="Of its file, as the client gave it; empty for a bare body")
    size: Annotated[Sequence[int], Field(min_length=2, max_length=2)] | None = Field(
        description="Width and height of the upright image; null where it could not be read"
    )
    box: Edges | None = Field(
        description="null where it could not be read, or presence is below min_presence"
    )
    margins: Margins | None
    outer: Outer | None
    presence: Share | None = Field(
        description="That the object is in the image; null where the model never learned it"
    )
    familiarity: Share | None = Field(
        description="How like the training images; near 0 it is like none of them"
    )
    error: Fault | None


class Several(BaseModel):
    """The answers for the images of a multipart body, in their order."""

    images: Sequence[Found]


def as_json(found: Prediction, wanted: Wish) -> dict[str, Any]:
    """One image's answer as plain JSON values; see `Found`."""
    margins = outer = None
    if wanted.level is not None and not math.isnan(found.lower[0]):
        if wanted.outer:
            outer = {"level": wanted.level, "box": _pixels(found.outer)}
        else:
            margins = {"level": wanted.level, "lower": _pixels(found.lower), "upper": _pixels(found.upper)}
    return {
        "name": found.image,
        "size": list(found.size),
        "box": None if np.isnan(found.box[0]) else _pixels(found.box),
        "margins": margins,
        "outer": outer,
        "presence": _figure(found.presence),
        "familiarity": _figure(found.familiarity),
        "error": None,
    }


def unread(name: str, problem: Problem) -> dict[str, Any]:
    """The same for an image that could not be read."""
    nothing = dict.fromkeys(("size", "box", "margins", "outer", "presence", "familiarity"))
    return {"name": name} | nothing | {"error": problem.to_dict()}


def _pixels(values: Floats) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
