"""The small language in which a recipe adds losses up; without PyTorch, which takes seconds to load."""

import re

from solobox.errors import ConfigError

NAMES = ("mse", "smooth_l1", "l1", "iou", "giou", "diou", "ciou", "kl")

Terms = tuple[tuple[float, str], ...]

_TERM = re.compile(r"(?:(?P<weight>\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?(?P<name>[a-z0-9_]+)")


def parse(text: str) -> Terms:
    """Weights and names of a sum such as ``kl + 10*l1 + giou``.

    Raises ConfigError for a name or a form that it does not know.
    """
    terms = []
    for part in text.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None or match["name"] not in NAMES:
            raise ConfigError(
                f"{part.strip()!r} is not a loss; a loss is a sum such as `kl + 10*l1 + giou` of {', '.join(NAMES)}"
            )
        terms.append((float(match["weight"] or 1), match["name"]))
    return tuple(terms)
