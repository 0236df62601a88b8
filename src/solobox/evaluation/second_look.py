"""What a model finds in a picture once the box that it found first is hidden."""

from collections.abc import Callable

import numpy as np

from solobox.errors import PictureError
from solobox.pictures import read
from solobox.prediction import Prediction
from solobox.samples import Samples
from solobox.training.folds import OutOfFold
from solobox.training.windows import GREY


def second_look(samples: Samples, held_out: OutOfFold) -> Callable[[int], Prediction]:
    """A function of a row: the prediction of that row's own held-out model, its first box painted grey.

    Grey is what training shows it outside of pictures, so it does not look for anything there. A picture that cannot
    be read gives a prediction with its error.
    """

    def look(row: int) -> Prediction:
        try:
            pixels = read(samples.images[row]).pixels
        except PictureError as error:
            return Prediction(str(samples.images[row]), error=str(error))
        height, width = pixels.shape[:2]
        box = held_out.predictions[row].box
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int).clip(0, (width, height))
        pixels[y1:y2, x1:x2] = GREY
        return held_out.look(row, pixels)

    return look
