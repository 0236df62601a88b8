"""OpenCV's own Haar cascades: faces, eyes, bodies, cats' faces, number plates.

They are part of the package ``opencv-python-headless`` before version 5. Their boxes are tighter than a box around
the head: for faces a square from the eyebrows to the chin.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from solobox.autolabel.candidates import Candidate
from solobox.boxes import convert, flip
from solobox.errors import ConfigError

if TYPE_CHECKING:
    import cv2

CASCADES = (
    "eye", "eye_tree_eyeglasses", "frontalcatface", "frontalcatface_extended", "frontalface_alt", "frontalface_alt2",
    "frontalface_alt_tree", "frontalface_default", "fullbody", "lefteye_2splits", "license_plate_rus_16stages",
    "lowerbody", "profileface", "righteye_2splits", "russian_plate_number", "smile", "upperbody",
)  # fmt: skip
"""The cascades that OpenCV ships, without ``haarcascade_`` and ``.xml``."""

SHORT = MappingProxyType({"frontalface": "frontalface_default", "catface": "frontalcatface_extended"})
"""Short names. No cascade for faces was better than the default, and equally good ones are slower (bench/LOG.md)."""

_ONE_SIDED = frozenset({"profileface"})  # trained on faces that look in one direction


@dataclass(frozen=True, slots=True)
class Haar:
    """A cascade as a labeler.

    cascade: one of `CASCADES`.

    The score is how far the sum of the last stage is above its threshold: the sums alone cannot be compared, because
    thresholds range from -31 to 106. ``ConfigError`` (``cascade-missing``) when called where OpenCV lacks the file.
    """

    cascade: str

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> list[Candidate]:
        """Find candidates in RGB pixels, shape (h, w, 3), uint8."""
        import cv2

        classifier, threshold = _load(self.cascade)
        grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        detections = _detect(classifier, threshold, grey)
        if self.cascade in _ONE_SIDED:
            mirrored = _detect(classifier, threshold, np.ascontiguousarray(grey[:, ::-1]))
            detections += [(flip(box, grey.shape[1]), score) for box, score in mirrored]
        return [Candidate(tuple(box.tolist()), score) for box, score in detections]


def _detect(
    classifier: "cv2.CascadeClassifier", threshold: float, grey: npt.NDArray[np.uint8]
) -> list[tuple[npt.NDArray[np.float64], float]]:
    corners, _, sums = classifier.detectMultiScale3(grey, outputRejectLevels=True)
    boxes = convert(np.asarray(corners, dtype=np.float64).reshape(-1, 4), "xywh", "xyxy")
    scores = np.maximum(np.asarray(sums, dtype=np.float64).reshape(-1) - threshold, 0)
    return list(zip(boxes, scores.tolist(), strict=True))


_loaded = threading.local()  # two threads must not use one classifier at a time


def _load(cascade: str) -> tuple["cv2.CascadeClassifier", float]:
    """Load a cascade and the threshold of its last stage, once in each thread."""
    if getattr(_loaded, "cascade", "") != cascade:
        _loaded.value, _loaded.cascade = _read(cascade), cascade
    value: tuple[cv2.CascadeClassifier, float] = _loaded.value
    return value


def _read(cascade: str) -> tuple["cv2.CascadeClassifier", float]:
    import cv2
    from defusedxml.ElementTree import parse

    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / f"haarcascade_{cascade}.xml"
    if not path.is_file():
        raise ConfigError(
            f"OpenCV {cv2.__version__}, as installed, has no {path.name}: pip install 'opencv-python-headless<5'",
            code="cascade-missing",
        )
    # Old files spell it with an underscore.
    stages = [
        element.text or ""
        for element in parse(path).iter()
        if element.tag.replace("_", "").lower() == "stagethreshold"
    ]
    return cv2.CascadeClassifier(str(path)), float(stages[-1])
