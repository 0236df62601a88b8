"""People who stand or walk, by OpenCV's built-in HOG detector with a linear SVM."""

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate

if TYPE_CHECKING:
    import cv2

_WINDOW = (64, 128)  # width and height in pixels


def people(pixels: npt.NDArray[np.uint8]) -> list[Candidate]:
    """Find whole upright people of 128 pixels or more in height.

    pixels: shape (h, w, 3), uint8, RGB. The box is the detector's window, which is wider than a person. The
    score is the distance to the SVM's hyperplane. Its accuracy was not measured, for lack of labelled people.
    """
    import cv2

    if pixels.shape[1] < _WINDOW[0] or pixels.shape[0] < _WINDOW[1]:
        return []
    corners, weights = _detector().detectMultiScale(
        cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), winStride=(8, 8), padding=(8, 8), scale=1.05
    )
    return [
        Candidate((x, y, x + width, y + height), max(0.0, weight))
        for (x, y, width, height), weight in zip(
            np.reshape(corners, (-1, 4)).tolist(), np.ravel(weights).tolist(), strict=True
        )
    ]


@functools.lru_cache(maxsize=1)
def _detector() -> "cv2.HOGDescriptor":
    import cv2

    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.asarray(cv2.HOGDescriptor.getDefaultPeopleDetector(), dtype=np.float32))
    return detector
