"""The JSON of requests and responses of ``/v1``."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from solobox.boxes import Floats
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import PredictOptions

_DECIMALS = 3
"""Decimals of pixels: a thousandth is far below the error of any model."""

Edges = Annotated[
    Sequence[float],
    Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright image"),
]
Probability = Annotated[float, Field(ge=0, le=1)]


class PredictQuery(BaseModel):
    """Parameters of a request, see `PredictOptions`. Any other parameter is an error."""

    model_config = ConfigDict(extra="forbid")

    margins: float | None = Field(
        None,
        description="Probability with which all four edges of the true box lie within the margins: 0.5 to 0.999. "
        "Without this and outer: 0.9, where the model was calibrated for that",
    )
    outer: float | None = Field(
        None, description="Probability with which the outer box holds the whole object"
    )
    max_cut: float | None = Field(
        None, description="Share of the object that the outer box cuts off at most, on average: 0.001 to 0.2"
    )
    min_presence: float | None = Field(
        None, ge=0, le=1, description="No box for an image with a lower presence than this"
    )


class ErrorBody(BaseModel):
    """Why a request failed. Every error has this shape."""

    code: str = Field(description="The error in a few words joined by hyphens, for programs")
    message: str = Field(description="What is wrong")
    hint: str = Field(description="What the client can do about it")


class InferenceErrorBody(ErrorBody):
    """An error of the Open Inference Protocol."""

    error: str = Field(description="The message again, where that protocol has it")


class MarginsBody(BaseModel):
    """All four edges of the true box lie between `lower` and `upper` with probability `level`."""

    level: Probability
    lower: Edges
    upper: Edges


class OuterBody(BaseModel):
    """The box that holds the whole object with probability `level`, or cuts off `max_cut` of it at most on average."""

    level: Probability | None
    max_cut: Probability | None
    box: Edges


class PredictionBody(BaseModel):
    """The prediction for one image."""

    name: str = Field(description="Name of the image's file in a form; empty for a bare body")
    size: Annotated[Sequence[int], Field(min_length=2, max_length=2)] | None = Field(
        description="Width and height of the upright image; null where it could not be read"
    )
    box: Edges | None = Field(
        description="null where the image could not be read, or presence is below min_presence"
    )
    margins: MarginsBody | None
    outer: OuterBody | None
    presence: Probability | None = Field(
        description="Probability that the object is in the image; null where the model never learned it"
    )
    familiarity: Probability | None = Field(
        description="How similar it is to the training images; close to 0 it is out of distribution"
    )
    error: ErrorBody | None


class PredictionListBody(BaseModel):
    """The predictions for the images of a form, in their order."""

    images: Sequence[PredictionBody]


def prediction_body(
    prediction: Prediction, options: PredictOptions, *, level: float | None
) -> dict[str, Any]:
    """A prediction as plain JSON values, see `PredictionBody`. level: of its margins, see `Predictor.level`."""
    margins = outer_box = None
    if not math.isnan(prediction.lower[0]):
        if options.is_one_sided:
            outer_box = {"level": level, "max_cut": options.max_cut, "box": _pixels(prediction.outer)}
        else:
            margins = {"level": level, "lower": _pixels(prediction.lower), "upper": _pixels(prediction.upper)}
    return {
        "name": prediction.image,
        "size": list(prediction.size),
        "box": None if np.isnan(prediction.box[0]) else _pixels(prediction.box),
        "margins": margins,
        "outer": outer_box,
        "presence": _probability(prediction.presence),
        "familiarity": _probability(prediction.familiarity),
        "error": None,
    }


def failed_body(name: str, error: dict[str, str]) -> dict[str, Any]:
    """The same for an image that could not be read. error: see `ErrorBody`."""
    empty = dict.fromkeys(("size", "box", "margins", "outer", "presence", "familiarity"))
    return {"name": name} | empty | {"error": error}


def _pixels(values: Floats) -> list[float]:
    return [round(float(value), _DECIMALS) for value in values]


def _probability(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
