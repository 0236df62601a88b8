"""A predictor for tests without a network. Importable in any process whose path has this folder."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from solobox.images.reading import ImageInput
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import NetworkInput, Pixels, PredictOptions, Predictor, RawOutput


class StandIn(Predictor):
    """Gives what `rows` yields, without a box where presence is too low. Accepts all options."""

    calibration = None
    batch_size = 1
    has_presence = True
    has_familiarity = True

    def check(self, options: PredictOptions) -> PredictOptions:
        return options

    def preprocess(self, image: ImageInput) -> NetworkInput:
        raise AssertionError("a stand-in has no network")

    def infer(self, pixels: Pixels) -> RawOutput:
        raise AssertionError("a stand-in has no network")

    def rows(self, images: Iterable[Any], options: PredictOptions) -> Iterator[Prediction]:
        """One prediction for each image, in order."""
        raise NotImplementedError

    def stream(
        self, images: Iterable[ImageInput], options: PredictOptions | None = None
    ) -> Iterator[Prediction]:
        options = options or PredictOptions()
        self.check(options)
        least = options.min_presence
        rows = self.rows(images, options)
        return rows if least is None else (prediction.if_present(least) for prediction in rows)


class WholeImage(StandIn):
    """The box is the whole of an image of 30x20 pixels."""

    def rows(self, images: Iterable[str], options: PredictOptions) -> Iterator[Prediction]:
        for name in images:
            yield Prediction(name, np.array([0, 0, 30, 20.0]), (30, 20))
