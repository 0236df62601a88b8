"""What a model finds in an image once the box that it found first is hidden."""

from collections.abc import Callable

import numpy as np

from solobox.data.dataset import Dataset
from solobox.errors import ImageError
from solobox.images.decode import decode
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import name_of
from solobox.training.augment import GREY
from solobox.training.crossval import OutOfFold


def second_look(dataset: Dataset, held_out: OutOfFold) -> Callable[[int], Prediction]:
    """A function of a row: the prediction of that row's own held-out model, its first box painted grey.

    Grey is what training shows it outside of images, so it does not look for anything there. An image that cannot
    be read gives a prediction with its error.
    """

    def look(row: int) -> Prediction:
        try:
            pixels = decode(dataset.images[row]).pixels.copy()  # an image in memory stays as it is
        except ImageError as error:
            return Prediction(name_of(dataset.images[row]), error=str(error))
        height, width = pixels.shape[:2]
        box = held_out.predictions[row].box
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int).clip(0, (width, height))
        pixels[y1:y2, x1:x2] = GREY
        return held_out.predict_pixels(row, pixels)

    return look
