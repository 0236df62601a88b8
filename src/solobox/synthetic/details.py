"""What the painters of things share: chance, colours, eyes and smiles."""

import numpy as np
from numpy.random import Generator

from solobox.synthetic.canvas import INK, WHITE, Brush, Colour, Outline, bend, dark, ellipse, hsv, light, tube


def between(rng: Generator, lower: float, upper: float) -> float:
    """Give a number of a range, all alike."""
    return float(rng.uniform(lower, upper))


def chance(rng: Generator, share: float) -> bool:
    """Say yes in a share of the cases."""
    return float(rng.random()) < share


def lively(rng: Generator) -> Colour:
    """Give a strong colour of any hue."""
    return hsv(between(rng, 0, 1), between(rng, 0.45, 0.9), between(rng, 0.6, 0.98))


def partner(rng: Generator, colour: Colour) -> Colour:
    """Give a colour that goes with another: pale, dark, or any other."""
    choice = int(rng.integers(3))
    if choice == 0:
        return light(colour, between(rng, 0.55, 0.85))
    if choice == 1:
        return dark(colour, between(rng, 0.4, 0.65))
    return lively(rng)


def eye(brush: Brush, x: float, y: float, size: float, look: float = 0.0) -> None:
    """Paint a round eye that looks to the right by `look`, -0.4 to 0.4."""
    brush.fill(ellipse(x, y, size, size * 1.12, points=24), WHITE, lit=0.08)
    brush.fill(ellipse(x + look * size, y + 0.08 * size, size * 0.6, size * 0.7, points=20), INK, lit=0)
    brush.fill(
        ellipse(x + (look - 0.2) * size, y - 0.22 * size, size * 0.2, size * 0.2, points=12), WHITE, lit=0
    )


def smile(brush: Brush, x: float, y: float, width: float, thick: float, colour: Colour = INK) -> None:
    """Paint a smile."""
    path = bend((x - width, y - 0.3 * width), (x, y + 0.9 * width), (x + width, y - 0.3 * width))
    brush.fill(tube(path, thick), colour, lit=0)


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> Outline:
    """Give a part of an ellipse, 16 points, between two angles in radians."""
    angle = np.linspace(start, stop, 16)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)
