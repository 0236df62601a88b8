"""What a row says of an image: the same in every kind of file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from solobox.predict.prediction import Prediction

Margins: TypeAlias = Literal["none", "both", "outer"]

_EDGES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row says of an image beside its name, its box and what was wrong with it.

    margins: ``both``: between what each edge lies (``x1_lower,x1_upper,y1_lower,...``); ``outer``: the box that holds
        the whole object (``x1_outer,...``).
    presence, familiarity: as in `Prediction`.
    """

    margins: Margins = "none"
    presence: bool = False
    familiarity: bool = False

    @property
    def numbers(self) -> list[str]:
        """The names of the columns that hold numbers: the box, and what is between it and the error."""
        between: list[str] = []
        if self.margins == "both":
            between = [f"{edge}_{end}" for edge in _EDGES for end in ("lo", "hi")]
        elif self.margins == "outer":
            between = [f"{edge}_outer" for edge in _EDGES]
        return [*_EDGES, *between, *self._shares]

    @property
    def names(self) -> list[str]:
        """The header. The first and the last are the same whatever is between."""
        return ["image", *self.numbers, "error"]

    @property
    def _shares(self) -> list[str]:
        return [name for name in ("presence", "familiarity") if getattr(self, name)]

    def texts(self, prediction: Prediction) -> list[str]:
        """The numbers as text, in the order of `numbers`: pixels to a hundredth, shares to four digits, "" for none."""
        pixels = prediction.box.tolist()
        if self.margins == "both":
            ends = zip(prediction.lower.tolist(), prediction.upper.tolist(), strict=True)
            pixels += [pixel for pair in ends for pixel in pair]
        elif self.margins == "outer":
            pixels += prediction.outer.tolist()
        shares = [float(getattr(prediction, name)) for name in self._shares]
        return [*_texts(pixels, 2), *_texts(shares, 4)]

    def cells(self, prediction: Prediction) -> list[str]:
        """One row, as text; an image without a box has empty coordinates."""
        return [prediction.image, *self.texts(prediction), prediction.error]

    def values(self, prediction: Prediction) -> list[float | None]:
        """The numbers of the same row as numbers, None for none: what `cells` reads as, to the last bit."""
        return [float(text) if text else None for text in self.texts(prediction)]


def _texts(values: Sequence[float], digits: int) -> list[str]:
    # Adding nothing to a negative nothing makes it a plain one.
    return ["" if value != value else f"{value + 0.0:.{digits}f}" for value in values]
