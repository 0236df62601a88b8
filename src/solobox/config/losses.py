"""A recipe's loss as text: a weighted sum of terms; imports no torch."""

import re

from solobox.errors import ConfigError

NAMES = ("mse", "smooth_l1", "l1", "iou", "giou", "diou", "ciou", "kl")

Terms = tuple[tuple[float, str], ...]

_TERM = re.compile(r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?(?P<name>[a-z0-9_]+)")


def parse(text: str) -> Terms:
    """Weights and names of the terms of a sum such as ``kl + 10*l1 + giou``.

    Raises ConfigError (``unknown-loss``) for an unknown name and for text that is no such sum.
    """
    terms = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None or match["name"] not in NAMES:
            raise ConfigError(
                f"{part.strip()!r} is not a loss: write a sum such as `kl + 10*l1 + giou` of {', '.join(NAMES)}",
                code="unknown-loss",
            )
        terms.append((float(match["weight"] or 1), match["name"]))
    return tuple(terms)
