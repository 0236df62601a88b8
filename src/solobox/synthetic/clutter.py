"""Distractors around the object, and occluders in front of it.

None of them has the shape of an object to find, but they may have its colours.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from solobox.synthetic.canvas import (
    WHITE,
    Brush,
    Colour,
    bend,
    dark,
    ellipse,
    hsv,
    light,
    rounded,
    smooth,
    tube,
)

Painter = Callable[[Brush, Generator, Colour], None]


def _ball(brush: Brush, rng: Generator, colour: Colour) -> None:
    base = brush.fill(ellipse(0, 0, 0.9, 0.9), colour, lit=0.3, round_=0.2, gloss=0.3)
    if rng.random() < 0.5:
        path = bend(
            (-1.2, rng.uniform(-0.6, 0.2)), (0, rng.uniform(-0.2, 0.6)), (1.2, rng.uniform(-0.6, 0.2))
        )
        brush.fill(tube(path, 0.3), light(colour, 0.6), clip=base)


def _crate(brush: Brush, rng: Generator, colour: Colour) -> None:
    deep, up = rng.uniform(0.25, 0.45), rng.uniform(0.2, 0.4)
    front = np.array([[-0.8, -0.5], [0.5, -0.5], [0.5, 0.8], [-0.8, 0.8]])
    top = np.array([[-0.8, -0.5], [-0.8 + deep, -0.5 - up], [0.5 + deep, -0.5 - up], [0.5, -0.5]])
    side = np.array([[0.5, -0.5], [0.5 + deep, -0.5 - up], [0.5 + deep, 0.8 - up], [0.5, 0.8]])
    brush.fill(side, dark(colour, 0.4), lit=0.1, round_=0)
    brush.fill(top, light(colour, 0.3), lit=0.1, round_=0)
    brush.fill(front, colour, lit=0.15, round_=0)
    if rng.random() < 0.6:
        brush.fill(
            np.array([[-0.24, -0.5], [-0.04, -0.5], [-0.04, 0.8], [-0.24, 0.8]]), dark(colour, 0.3), lit=0.1
        )


def _can(brush: Brush, rng: Generator, colour: Colour) -> None:
    tall = rng.uniform(0.6, 0.95)
    body = rounded(0, 0, 1.1, 2 * tall, 0.12)
    base = brush.fill(body, colour, lit=0.25, round_=0.28)
    brush.fill(rounded(0, 0.1, 1.4, tall * 0.8, 0.0), light(colour, 0.65), lit=0.25, round_=0.28, clip=base)
    brush.fill(ellipse(0, -tall + 0.06, 0.55, 0.14), (188, 190, 196), lit=-0.2)


def _book(brush: Brush, _rng: Generator, colour: Colour) -> None:
    brush.fill(rounded(0.03, 0.04, 1.5, 1.9, 0.04), dark(colour, 0.5))
    brush.fill(rounded(0.02, 0.0, 1.44, 1.8, 0.02), WHITE, lit=0.05)
    brush.fill(rounded(-0.04, -0.03, 1.46, 1.82, 0.05), colour, lit=0.12)
    brush.fill(rounded(-0.66, -0.03, 0.14, 1.82, 0.02), dark(colour, 0.25), lit=0)
    brush.fill(rounded(0.05, -0.35, 0.8, 0.34, 0.02), light(colour, 0.6), lit=0)


def _stone(brush: Brush, rng: Generator, _colour: Colour) -> None:
    grey = hsv(rng.uniform(0, 1), rng.uniform(0.02, 0.2), rng.uniform(0.35, 0.75))
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    radius = rng.uniform(0.65, 1.0, 8)
    blob = smooth(np.stack([radius * np.cos(angle), 0.75 * radius * np.sin(angle)], axis=1), 5)
    brush.fill(blob, grey, lit=0.35, round_=0.12)


def _bush(brush: Brush, rng: Generator, _colour: Colour) -> None:
    green = hsv(rng.uniform(0.2, 0.42), rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.65))
    for x, y, size in zip(
        rng.uniform(-0.6, 0.6, 6), rng.uniform(-0.4, 0.4, 6), rng.uniform(0.3, 0.5, 6), strict=True
    ):
        brush.fill(ellipse(x, y, size, size, points=20), green, lit=0.4)


def _block(brush: Brush, rng: Generator, colour: Colour) -> None:
    brush.fill(rounded(0, 0, 1.7, rng.uniform(0.7, 1.7), rng.uniform(0.02, 0.3)), colour, lit=0.2)
    for x in rng.uniform(-0.5, 0.5, int(rng.integers(0, 3))):
        brush.fill(ellipse(x, rng.uniform(-0.2, 0.2), 0.14, 0.14, points=18), light(colour, 0.5))


DISTRACTORS: list[Painter] = [_ball, _crate, _can, _book, _stone, _bush, _block]
"""Each paints within about one unit of the origin."""


# --- occluders -----------------------------------------------------------------------------------


def _grass(brush: Brush, rng: Generator, _colour: Colour) -> None:
    green = hsv(rng.uniform(0.18, 0.42), rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.7))
    for x in rng.uniform(-0.8, 0.8, int(rng.integers(4, 9))):
        path = bend((x * 0.5, 1.0), (x * 0.6, 0.0), (x + rng.uniform(-0.3, 0.3), rng.uniform(-1.0, -0.2)))
        blade = np.linspace(rng.uniform(0.1, 0.22), 0.01, len(path))
        brush.fill(tube(path, blade), light(green, rng.uniform(0, 0.3)), lit=0.2)


def _branch(brush: Brush, rng: Generator, _colour: Colour) -> None:
    bark = hsv(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.5))
    green = hsv(rng.uniform(0.1, 0.42), rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.8))
    path = bend((-2.6, rng.uniform(-0.5, 0.5)), (0, rng.uniform(-0.6, 0.6)), (2.6, rng.uniform(-0.5, 0.5)))
    brush.fill(tube(path, 0.1), bark)
    for x, y in path[2:-2]:
        turn = rng.uniform(0.4, 1.2) * (1 if rng.random() < 0.5 else -1)
        leaf = ellipse(x + 0.2 * np.cos(turn), y + 0.2 * np.sin(turn), 0.24, 0.1, turn, 18)
        brush.fill(leaf, light(green, rng.uniform(0, 0.3)), lit=0.3)


OCCLUDERS: list[Painter] = [_grass, _branch, _ball, _crate, _stone, _bush, _block]
"""Each hides some of the object."""
