"""From images to predictions: ``preprocess -> infer -> postprocess``, one contract for every runtime. No torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from solobox import boxes as geometry
from solobox.boxes import Floats
from solobox.errors import ConfigError, ImageError
from solobox.images.reading import MAX_BYTES, ImageInput, decode, to_square
from solobox.predict.prediction import Prediction
from solobox.uncertainty.conformal import DEFAULT_LEVEL, Calibration, scales

Pixels: TypeAlias = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """What to predict in addition to the box.

    margins: probability from 0.5 to 0.999 with which all four edges of the true box lie between `Prediction.lower` and
        `upper`. By default 0.9, or no margins where the model was not calibrated for that.
    outer: instead, one-sided margins: the probability with which `Prediction.outer` holds the whole object.
    max_cut: instead, one-sided margins: the share of the object's area, from 0.001 to 0.2, that `Prediction.outer` cuts
        off at most, on average over images; rounded down to 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1 or 0.2.
    min_presence: below this presence, in [0, 1], there is no box.

    Raises ConfigError: ``options-conflict`` for several of margins, outer and max_cut, ``out-of-range``.
    """

    margins: float | None = None
    outer: float | None = None
    max_cut: float | None = None
    min_presence: float | None = None

    def __post_init__(self) -> None:
        kinds = {"margins": "a probability", "outer": "a probability", "max_cut": "a share of the object"}
        chosen = {name: getattr(self, name) for name in kinds if getattr(self, name) is not None}
        if len(chosen) > 1:
            raise ConfigError(
                f"{' and '.join(chosen)} exclude each other: give one of them", code="options-conflict"
            )
        for name, value in chosen.items():
            if not 0 < value < 1:
                hint = f": {value:g}% is {value / 100:g}" if 1 <= value < 100 else ""
                raise ConfigError(
                    f"{name} is {kinds[name]} between 0 and 1, not {value:g}{hint}", code="out-of-range"
                )
        if self.min_presence is not None and not 0 <= self.min_presence <= 1:
            raise ConfigError(
                f"min_presence is a probability from 0 to 1, not {self.min_presence}", code="out-of-range"
            )

    @property
    def level(self) -> float | None:
        """The level of `margins` or `outer`, None for the default, and for `max_cut`."""
        return self.margins if self.outer is None else self.outer

    @property
    def is_one_sided(self) -> bool:
        """Whether margins reach outwards alone."""
        return self.outer is not None or self.max_cut is not None


@dataclass(frozen=True, slots=True, eq=False)
class NetworkInput:
    """One image as the network sees it.

    pixels: (S, S, 3) uint8 RGB (with size ``native`` (h, w, 3)). size: width and height of the upright image in pixels.
    """

    pixels: Pixels
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class RawOutput:
    """What a network gives for B images.

    boxes: (B, 4) float64, ``x1, y1, x2, y2`` as fractions of the image's sides, x1 <= x2 and y1 <= y2; may lie a little
        outside [0, 1].
    std: (B, 4) float64, standard deviations as fractions, NaN for a head that gives none.
    presence, familiarity: (B,) float64 as in `Prediction`, NaN for a network that gives none.
    """

    boxes: Floats
    std: Floats
    presence: Floats
    familiarity: Floats

    def __len__(self) -> int:
        return len(self.boxes)


class Predictor(ABC):
    """Exactly one box for each image: what a trained `Localizer` and an exported model have in common.

    A runtime gives `preprocess` and `infer`; everything else is here.

    calibration: what its margins are made from, or None. batch_size: images that go through the network together.
    """

    calibration: Calibration | None
    batch_size: int

    @property
    @abstractmethod
    def has_presence(self) -> bool:
        """Whether predictions have a presence probability."""

    @property
    @abstractmethod
    def has_familiarity(self) -> bool:
        """Whether predictions have a familiarity."""

    @property
    def n_reference(self) -> int | None:
        """The images that familiarity was calibrated on, or groups of them: see `solobox.uncertainty.drift`.

        None where there is no familiarity, and in files of earlier versions.
        """
        return None

    @abstractmethod
    def preprocess(self, image: ImageInput) -> NetworkInput:
        """Decode one image and resize it for the network. Raises ImageError; TypeError as `decode`."""

    @abstractmethod
    def infer(self, pixels: Pixels) -> RawOutput:
        """Run the network on (B, S, S, 3) uint8 RGB."""

    def postprocess(
        self,
        output: RawOutput,
        sizes: Sequence[tuple[int, int]],
        names: Sequence[str],
        options: PredictOptions | None = None,
    ) -> list[Prediction]:
        """Boxes in pixels with their margins, for B images.

        sizes: width and height of each upright image in pixels. names: for `Prediction.image`.
        options: as `check` accepts them.
        """
        options = options or PredictOptions()
        predictions = postprocess(output, sizes, names)
        return [finish(each, self.calibration, self.level(options), options) for each in predictions]

    def predict_batch(
        self,
        images: Sequence[ImageInput],
        options: PredictOptions | None = None,
        *,
        infer: Callable[[Pixels], RawOutput] | None = None,
    ) -> list[Prediction]:
        """The three steps for a few images; one that cannot be read has its `error` set.

        infer: another copy of the network, for a separate thread.
        """
        inputs: list[NetworkInput] = []
        rows: list[int] = []
        predictions = [Prediction(name_of(image)) for image in images]
        for row, image in enumerate(images):
            try:
                inputs.append(self.preprocess(image))
                rows.append(row)
            except ImageError as error:
                predictions[row] = replace(predictions[row], error=str(error))
        if inputs:
            output = (infer or self.infer)(np.stack([each.pixels for each in inputs]))
            names = [predictions[row].image for row in rows]
            finished = self.postprocess(output, [each.size for each in inputs], names, options)
            for row, prediction in zip(rows, finished, strict=True):
                predictions[row] = prediction
        return predictions

    def stream(
        self, images: Iterable[ImageInput], options: PredictOptions | None = None
    ) -> Iterator[Prediction]:
        """As `predict` for any number of images, one by one and in constant memory.

        Raises ConfigError at once for options that this model cannot meet; see `check`.
        """
        options = self.check(options or PredictOptions())
        return (each for batch in self._batches(iter(images), options) for each in batch)

    def _batches(
        self, images: Iterator[ImageInput], options: PredictOptions
    ) -> Iterator[Sequence[Prediction]]:
        for batch in batched(images, self.batch_size):
            yield self.predict_batch(batch, options)

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        images: ImageInput,
        *,
        margins: float | None = None,
        outer: float | None = None,
        max_cut: float | None = None,
        min_presence: float | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: Sequence[ImageInput],
        *,
        margins: float | None = None,
        outer: float | None = None,
        max_cut: float | None = None,
        min_presence: float | None = None,
    ) -> list[Prediction]: ...

    def predict(
        self,
        images: ImageInput | Sequence[ImageInput],
        *,
        margins: float | None = None,
        outer: float | None = None,
        max_cut: float | None = None,
        min_presence: float | None = None,
    ) -> Prediction | list[Prediction]:
        """One box for each image: one image gives one `Prediction`, a list of them a list in the same order.

        images: see `ImageInput`; several in a list or a tuple. An image that cannot be read has its `error` set.
            An image in memory is kept in `Prediction.source`.
        margins, outer, max_cut, min_presence: see `PredictOptions`.

        Raises ConfigError for options that this model cannot meet, TypeError for anything that is not an image.
        """
        options = PredictOptions(margins=margins, outer=outer, max_cut=max_cut, min_presence=min_presence)
        several = isinstance(images, list | tuple)
        inputs: Sequence[ImageInput] = images if several else [images]  # type: ignore[assignment,list-item]
        predictions = [
            prediction if isinstance(image, str | Path) else replace(prediction, source=image)
            for image, prediction in zip(inputs, self.stream(inputs, options), strict=True)
        ]
        return predictions if several else predictions[0]

    def check(self, options: PredictOptions) -> PredictOptions:
        """The same options. Raises ConfigError for what this model cannot give.

        Codes: ``no-margins`` (not calibrated), ``margins-need-more-images``, ``no-presence`` (never learned).
        """
        if options.level is not None or options.max_cut is not None:
            if self.calibration is None:
                raise ConfigError(
                    "this model was not calibrated and has no margins: train it again", code="no-margins"
                )
            if options.max_cut is not None:
                self.calibration.factor_for_cut(options.max_cut)  # or it says why not
            if options.level is not None:
                self.calibration.factor(options.level, outer=options.outer is not None)
        if options.min_presence is not None and not self.has_presence:
            raise ConfigError(
                "this model never learned presence: it was trained on no images without the object. List some, with "
                "empty coordinates, and train again",
                code="no-presence",
            )
        return options

    def level(self, options: PredictOptions) -> float | None:
        """The level of margins that these options mean for this model, None for no margins and for `max_cut`."""
        if self.calibration is None or options.level is not None or options.max_cut is not None:
            return options.level
        return DEFAULT_LEVEL if DEFAULT_LEVEL in self.calibration.two_sided else None


def resize_to_square(
    image: ImageInput, side: int, *, max_pixels: int | None = None, max_bytes: int = MAX_BYTES
) -> NetworkInput:
    """Decode an image and resize it to `side` x `side` pixels, as every model of a fixed size sees it.

    max_pixels, max_bytes: as `solobox.images.reading.read` takes them. Raises ImageError, TypeError.
    """
    decoded = decode(image, at_least=side, max_pixels=max_pixels, max_bytes=max_bytes)
    return NetworkInput(to_square(decoded.pixels, side), decoded.size)


def postprocess(
    output: RawOutput, sizes: Sequence[tuple[int, int]], names: Sequence[str]
) -> list[Prediction]:
    """Boxes of B images in pixels, clipped to the image; without margins. See `Predictor.postprocess`.

    A box that is not finite is an error: it must not pass for an image without the object.
    """
    predictions = []
    for row, (name, (width, height)) in enumerate(zip(names, sizes, strict=True)):
        if not np.isfinite(output.boxes[row]).all():
            error = f"{name}: the network's box is not finite ({output.boxes[row]}). Is the model damaged?"
            predictions.append(Prediction(name, error=error))
            continue
        prediction = Prediction(
            name,
            box=geometry.clip(geometry.scale(output.boxes[row], width, height), width, height),
            size=(width, height),
            std=geometry.scale(output.std[row], width, height),
            presence=float(output.presence[row]),
            familiarity=float(output.familiarity[row]),
        )
        predictions.append(prediction)
    return predictions


def finish(
    prediction: Prediction, calibration: Calibration | None, level: float | None, options: PredictOptions
) -> Prediction:
    """The prediction with its margins at `level`, and without its box where its presence is too low."""
    if prediction.error:
        return prediction
    if calibration is not None and (level is not None or options.max_cut is not None):
        unit, box, size = scales(prediction.box, prediction.std), prediction.box, prediction.size
        if options.max_cut is not None:
            lower, upper = calibration.margins_for_cut(box, unit, size, options.max_cut)
        elif level is not None:
            lower, upper = calibration.margins(box, unit, size, level, outer=options.outer is not None)
        prediction = replace(prediction, lower=lower, upper=upper)
    return prediction if options.min_presence is None else prediction.if_present(options.min_presence)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    walk = iter(items)
    while group := list(islice(walk, size)):
        yield group


def name_of(image: ImageInput) -> str:
    """What a row calls an image."""
    if isinstance(image, str | Path):
        return str(image)
    return "<bytes>" if isinstance(image, bytes) else "<pixels>"


def in_order(boxes: npt.ArrayLike) -> Floats:
    """Boxes (..., 4): numbers of a regression head may cross; the box that they span is meant."""
    corners = np.asarray(boxes, dtype=np.float64)
    first, last = corners[..., :2], corners[..., 2:]
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], axis=-1)
