"""Labelers as a user writes them."""

import time
from typing import Any

from solobox.autolabel import Candidate, register
from solobox.errors import ConfigError


@register("test:whole")
def whole(pixels: Any) -> list[Candidate]:
    """The whole image; its grey level is the score."""
    height, width = pixels.shape[:2]
    return [Candidate((0, 0, width, height), float(pixels[0, 0, 0]))]


def by_level(pixels: Any) -> list[Candidate]:
    """Nothing at level 1, two rivals at 2, a failure at 3, one clear box otherwise."""
    level = int(pixels[0, 0, 0])
    if level == 3:
        raise RuntimeError("three is too much")
    boxes = [(1, 2, 11, 12), (20, 3, 39, 29)]
    scores = {1: [], 2: [5, 4.9]}.get(level, [5, 1])
    return [Candidate(box, score) for box, score in zip(boxes, scores, strict=False)]


def slow_at_first(pixels: Any) -> list[Candidate]:
    """The first images take longest, so that the later ones are ready before them."""
    time.sleep(0.2 if pixels[0, 0, 0] < 2 else 0)
    return whole(pixels)


def misconfigured(pixels: Any) -> list[Candidate]:
    """What no image can change."""
    raise ConfigError("the model file is not there")


def needs_a_package(pixels: Any) -> list[Candidate]:
    """Import what is not installed."""
    import no_such_package  # type: ignore[import-not-found]

    return list(no_such_package.find(pixels))


def wrong_type(pixels: Any) -> Any:
    """Give boxes without saying how sure."""
    return [(0, 0, 1, 1)]


def beyond_the_edges(pixels: Any) -> list[Candidate]:
    """One box over the edges, one outside altogether."""
    height, width = pixels.shape[:2]
    return [Candidate((-5, -5, width / 2, height + 5), 1), Candidate((width + 1, 0, width + 9, 9), 1)]


NOT_CALLABLE = 3
