"""What comes out for one image."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from solobox.boxes import Floats
from solobox.errors import ConfigError, SoloboxError
from solobox.images.drawing import draw_on, predicted
from solobox.images.reading import ImageInput

if TYPE_CHECKING:
    from supervision import Detections

_NOTEBOOK_SIDE = 640


def _nan_box() -> Floats:
    return np.full(4, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The box in one image and how far it can be trusted, or the reason why there is none.

    In a notebook it shows itself: the box drawn on the image.

    image: the image's path, or a name for an image that was not a file.
    box: shape (4,), float64, ``x1, y1, x2, y2`` in pixels of the upright image; NaN where `error` is set, and where
        the object is taken for absent (`without_object`).
    size: width and height of the upright image in pixels; ``(0, 0)`` where `error` is set.
    std: shape (4,), float64, the standard deviation in pixels of each edge's predicted distribution; NaN for a head
        without one. It is not calibrated: see `lower` and `upper`.
    lower, upper: shape (4,), float64, pixels: each edge of the true box lies between these, all four at once with the
        requested probability (see `solobox.uncertainty.conformal`); with one-sided margins, none lies beyond the outer
        ones. Never outside the image. NaN where the model was not calibrated for that.
    presence: calibrated probability in [0, 1] that the object is in the image; NaN where the model was trained without
        images without the object.
    familiarity: how similar the image is to the training images, in (0, 1]: the share of held-out images of the
        training data that are no more similar. Close to 0 it is like none of them. NaN where the model cannot tell.
    error: what is wrong with the image, or ``""``.
    source: the image itself where it was predicted in memory; None for files, and in a stream, which keeps no images.
    """

    image: str
    box: Floats = field(default_factory=_nan_box)
    size: tuple[int, int] = (0, 0)
    std: Floats = field(default_factory=_nan_box)
    lower: Floats = field(default_factory=_nan_box)
    upper: Floats = field(default_factory=_nan_box)
    presence: float = np.nan
    familiarity: float = np.nan
    error: str = ""
    source: ImageInput | None = field(default=None, repr=False)

    def without_object(self) -> "Prediction":
        """The same without the object: no box and no margins."""
        return replace(self, box=_nan_box(), std=_nan_box(), lower=_nan_box(), upper=_nan_box())

    def if_present(self, min_presence: float) -> "Prediction":
        """`without_object` where the presence is below `min_presence`, else the same; NaN is not below anything."""
        return self.without_object() if self.presence < min_presence else self

    @property
    def has_box(self) -> bool:
        """Whether there is a box."""
        return bool(np.isfinite(self.box).all())

    @property
    def outer(self) -> Floats:
        """The largest box that the margins allow, shape (4,): the object lies inside it."""
        return np.array([self.lower[0], self.lower[1], self.upper[2], self.upper[3]])

    @property
    def inner(self) -> Floats:
        """The smallest box that the margins allow, shape (4,): it lies inside the object.

        Its corners may cross where the margins are wide: then there is none.
        """
        return np.array([self.upper[0], self.upper[1], self.lower[2], self.lower[3]])

    @property
    def relative_std(self) -> float:
        """Mean standard deviation of the four edges, in sides of the box (the root of its area): how unsure it is.

        NaN without a box, and for a head that gives no standard deviations; infinite for a box without an area.
        """
        area = float(np.prod(self.box[2:] - self.box[:2]))
        return float(np.mean(self.std)) / area**0.5 if area else np.inf

    def plot(self, image: ImageInput | None = None, *, max_side: int | None = None) -> Image.Image:
        """Draw the box, and the band of its margins, on the image.

        image: by default the predicted one: the file, or the image in memory that `predict` was called with.
        max_side: reduce the image until its longer side has at most so many pixels.

        Raises ConfigError: ``no-image`` where there is no file and no image is passed; ImageError, ``image-changed``
        where the image has another size than the predicted one; TypeError.
        """
        if image is None:
            image = self.source
        if image is None:
            if not Path(self.image).is_file():
                raise ConfigError(
                    f"{self.image!r} is not a file: pass the image, as in prediction.plot(image)",
                    code="no-image",
                )
            image = Path(self.image)
        note = "" if self.has_box else "no object"
        outline = predicted(self.box, lower=self.lower, upper=self.upper)
        return draw_on(image, [outline], note, max_side=max_side, size=self.size if self.has_box else None)

    def _repr_png_(self) -> bytes | None:
        """A PNG for notebooks; None, which means the plain text, where there is nothing to draw on."""
        if self.error:
            return None
        try:
            drawn = self.plot(max_side=_NOTEBOOK_SIDE)
        except (SoloboxError, OSError):
            return None
        with io.BytesIO() as stream:
            drawn.save(stream, "PNG")
            return stream.getvalue()

    def to_supervision(self) -> "Detections":
        """As `supervision.Detections`: one detection of class 0, or none where there is no box.

        Its confidence is `presence`, if the model gives that; ``data`` holds ``image``, ``lower`` and ``upper``.

        Raises ConfigError: ``missing-package`` where supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ConfigError(
                "to_supervision needs the package supervision: pip install supervision",
                code="missing-package",
            ) from error
        if not self.has_box:
            return Detections.empty()
        return Detections(
            xyxy=self.box[np.newaxis].astype(np.float32),
            confidence=None if np.isnan(self.presence) else np.array([self.presence], dtype=np.float32),
            class_id=np.zeros(1, dtype=int),
            data={
                "image": np.array([self.image]),
                "lower": self.lower[np.newaxis],
                "upper": self.upper[np.newaxis],
            },
        )
