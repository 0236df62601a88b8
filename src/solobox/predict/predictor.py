"""What every runtime does around its network: image in, `Prediction` out. No torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.errors import ConfigError, ImageError
from solobox.images.reading import DecodedImage, read
from solobox.predict.prediction import Prediction
from solobox.uncertainty.conformal import DEFAULT_LEVEL, Calibration, scales

Input: TypeAlias = str | Path | bytes | npt.NDArray[Any]
"""A path, an image file's bytes, or upright RGB pixels (h, w, 3) uint8."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a network says of B images.

    boxes: (B, 4) float64, ``x1, y1, x2, y2`` as fractions of the image's sides, in order; may lie a little outside
    [0, 1]. std: (B, 4) float64, standard deviations as fractions, NaN for a head that gives none.
    presence, familiarity: (B,) float64 as in `Prediction`, NaN where they are not known.
    """

    boxes: Floats
    std: Floats
    presence: Floats
    familiarity: Floats

    def of(self, row: int, name: str, size: tuple[int, int]) -> Prediction:
        """The prediction of one of them. size: width and height of the upright image in pixels."""
        width, height = size
        return Prediction(
            name,
            box=geometry.clip(geometry.scale(self.boxes[row], width, height), width, height),
            size=size,
            std=geometry.scale(self.std[row], width, height),
            presence=float(self.presence[row]),
            familiarity=float(self.familiarity[row]),
        )


class Predicts:
    """What a `Localizer` and an exported model have in common: one by one or as a list, with margins.

    calibration: what its margins are made of, or None.
    """

    calibration: Calibration | None

    def stream(
        self, inputs: Iterable[Input], *, level: float | None = None, outer: bool = False
    ) -> Iterator[Prediction]:
        """As `predict`, one by one and in constant memory."""
        level = level_of(self.calibration, level, outer=outer)
        found = self._found(iter(inputs))
        return (with_margins(each, self.calibration, level, outer=outer) for each in found)

    def _found(self, inputs: Iterator[Input]) -> Iterator[Prediction]:
        """One `Prediction` for each input, in order, without margins."""
        raise NotImplementedError

    def predict(
        self, inputs: Sequence[Input] | Input, *, level: float | None = None, outer: bool = False
    ) -> list[Prediction]:
        """One `Prediction` for each input, in order; an image that cannot be read has its `error` set.

        inputs: one or several of: a path, an image file's bytes, or upright RGB pixels (h, w, 3) uint8.
        level: probability with which the true box lies between the margins, `Prediction.low` and `upper`. By default
            0.9, or no margins where this model was not calibrated for that.
        outer: margins outwards alone, narrower: with that probability nothing of the object lies beyond them.

        Raises ConfigError for a level that this model has no margins for.
        """
        several = [inputs] if isinstance(inputs, str | Path | bytes | np.ndarray) else inputs
        return list(self.stream(several, level=level, outer=outer))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    walk = iter(items)
    while group := list(islice(walk, size)):
        yield group


def name_of(item: Input) -> str:
    """What a row calls an input."""
    if isinstance(item, str | Path):
        return str(item)
    return "<bytes>" if isinstance(item, bytes) else "<pixels>"


def decode_input(item: Input, at_least: int) -> DecodedImage:
    """Decode an input, perhaps at reduced size, see `images.read`. Raises ImageError."""
    if isinstance(item, np.ndarray):
        if item.ndim != 3 or item.shape[2] != 3 or item.dtype != np.uint8 or 0 in item.shape:
            raise ImageError(f"pixels are (h, w, 3) uint8 RGB, not {item.shape} {item.dtype}")
        return DecodedImage(np.ascontiguousarray(item), (item.shape[1], item.shape[0]))
    return read(item, at_least=at_least)


def answered(
    inputs: Sequence[Input],
    show: Callable[[Input], tuple[tuple[int, int], npt.NDArray[np.uint8]]],
    ask: Callable[[Sequence[npt.NDArray[np.uint8]]], Answer],
) -> list[Prediction]:
    """A prediction for each input, in order; one that cannot be read has its `error`.

    show: gives an input's size and the pixels that the network is shown, or raises ImageError. ask: the network.
    """
    found = [Prediction(name_of(item)) for item in inputs]
    shown: list[npt.NDArray[np.uint8]] = []
    places: list[tuple[int, tuple[int, int]]] = []
    for place, item in enumerate(inputs):
        try:
            size, pixels = show(item)
        except ImageError as error:
            found[place] = replace(found[place], error=str(error))
            continue
        shown.append(pixels)
        places.append((place, size))
    if shown:
        answer = ask(shown)
        for row, (place, size) in enumerate(places):
            found[place] = answer.of(row, found[place].image, size)
    return found


def level_of(calibration: Calibration | None, wanted: float | None, *, outer: bool) -> float | None:
    """The level of margins to give, None for none. Raises ConfigError for a level that there are no margins for."""
    if calibration is None:
        if wanted is not None:
            raise ConfigError("this model was not calibrated and has no margins: train it again")
        return None
    if wanted is not None:
        calibration.factor(wanted, outer=outer)  # or it says why there is none
        return wanted
    return DEFAULT_LEVEL if DEFAULT_LEVEL in calibration.two_sided else None


def check_presence(least: float | None, *, learned: bool, model: str = "this model") -> None:
    """Raise ConfigError where a least presence is asked for of a model that never learned it."""
    if least is not None and not learned:
        raise ConfigError(
            f"{model} never learned presence: it was trained on no images without the object. List some, with empty "
            "coordinates, and train again"
        )


def with_margins(
    prediction: Prediction, calibration: Calibration | None, level: float | None, *, outer: bool
) -> Prediction:
    """The prediction with its `lower` and `upper` at a level that `level_of` gave."""
    if calibration is None or level is None or prediction.error:
        return prediction
    unit = scales(prediction.box, prediction.std)
    lower, upper = calibration.band(prediction.box, unit, prediction.size, level, outer=outer)
    return replace(prediction, lower=lower, upper=upper)


def ordered(boxes: npt.ArrayLike) -> Floats:
    """Boxes (..., 4): numbers of a regression head may cross; the box that they span is meant."""
    corners = np.asarray(boxes, dtype=np.float64)
    first, last = corners[..., :2], corners[..., 2:]
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], axis=-1)
