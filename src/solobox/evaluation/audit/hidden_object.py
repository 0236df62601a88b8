"""A second prediction for an image in which the first predicted box is hidden."""

from collections.abc import Callable

import numpy as np

from solobox.data.dataset import Dataset
from solobox.errors import ImageError
from solobox.images.reading import decode
from solobox.predict.prediction import Prediction
from solobox.predict.predictor import name_of
from solobox.training.augment import GREY
from solobox.training.crossval import OutOfFold


def second_prediction(dataset: Dataset, out_of_fold: OutOfFold) -> Callable[[int], Prediction]:
    """A function that predicts a row again by its out-of-fold model, with the first predicted box painted gray.

    The same gray fills crops beyond the image border in training, so the model does not look for objects in it. An
    unreadable image gives a prediction with an error.
    """

    def predict(row: int) -> Prediction:
        try:
            pixels = decode(dataset.images[row]).pixels.copy()  # an image in memory stays as it is
        except ImageError as error:
            return Prediction(name_of(dataset.images[row]), error=str(error))
        height, width = pixels.shape[:2]
        box = out_of_fold.predictions[row].box
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int).clip(0, (width, height))
        pixels[y1:y2, x1:x2] = GREY
        return out_of_fold.predict_pixels(row, pixels)

    return predict
