"""The objects to find: one painter per kind.

A painter draws its object around the origin, in units in which it is about two wide or high, y down, and takes every
choice (proportions, colours, pose) from the generator it gets.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from solobox.synthetic.canvas import (
    INK,
    WHITE,
    Brush,
    Colour,
    Outline,
    Stamp,
    bend,
    dark,
    ellipse,
    hsv,
    light,
    mix,
    rounded,
    smooth,
    tube,
)  # fmt: skip


def _between(rng: Generator, lower: float, upper: float) -> float:
    """A uniform number of a range."""
    return float(rng.uniform(lower, upper))


def _chance(rng: Generator, share: float) -> bool:
    """True in a share of the cases."""
    return float(rng.random()) < share


def _lively(rng: Generator) -> Colour:
    """A strong colour of any hue."""
    return hsv(_between(rng, 0, 1), _between(rng, 0.45, 0.9), _between(rng, 0.6, 0.98))


def _partner(rng: Generator, colour: Colour) -> Colour:
    """A pale or dark shade of a colour, or another colour."""
    choice = int(rng.integers(3))
    if choice == 0:
        return light(colour, _between(rng, 0.55, 0.85))
    if choice == 1:
        return dark(colour, _between(rng, 0.4, 0.65))
    return _lively(rng)


def _eye(brush: Brush, x: float, y: float, size: float, look: float = 0.0) -> None:
    """Paint a round eye that looks to the right by `look`, -0.4 to 0.4."""
    brush.fill(ellipse(x, y, size, size * 1.12, points=24), WHITE, lit=0.08)
    brush.fill(ellipse(x + look * size, y + 0.08 * size, size * 0.6, size * 0.7, points=20), INK, lit=0)
    brush.fill(
        ellipse(x + (look - 0.2) * size, y - 0.22 * size, size * 0.2, size * 0.2, points=12), WHITE, lit=0
    )


def _smile(brush: Brush, x: float, y: float, width: float, thick: float, colour: Colour = INK) -> None:
    """Paint a smile."""
    path = bend((x - width, y - 0.3 * width), (x, y + 0.9 * width), (x + width, y - 0.3 * width))
    brush.fill(tube(path, thick), colour, lit=0)


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> Outline:
    """An arc of an ellipse, 16 points, between two angles in radians."""
    angle = np.linspace(start, stop, 16)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


# --- duck -----------------------------------------------------------------------------------------


def duck(brush: Brush, rng: Generator) -> None:
    """Paint a rubber duck from the side."""
    usual = _chance(rng, 0.45)
    colour = hsv(_between(rng, 0.11, 0.15), _between(rng, 0.7, 0.95), 0.98) if usual else _lively(rng)
    bill = hsv(_between(rng, 0.02, 0.09), 0.9, 0.95) if usual else _lively(rng)
    tail, plump, neck = _between(rng, -0.35, -0.05), _between(rng, 0.9, 1.1), _between(rng, -0.05, 0.12)
    body = smooth([
        (-1.0, tail), (-0.72, 0.06), (-0.3, -0.02), (0.15, -0.14), (0.62, 0.0), (0.8, 0.36), (0.58, 0.72 *
        plump), (0.0, 0.82 * plump), (-0.55, 0.7 * plump), (-0.88, 0.36),
    ])  # fmt: skip
    head, size = (0.42 + neck, -0.52), _between(rng, 0.44, 0.54)
    beak = _between(rng, 0.28, 0.44)
    brush.fill(body, colour, lit=0.22, round_=0.14)
    if _chance(rng, 0.5):
        brush.fill(_beak(head, size, beak, 0.1), dark(bill, 0.25))
    brush.fill(ellipse(*head, size, size * 0.96), colour, lit=0.22, round_=0.14, gloss=0.35)
    brush.fill(_beak(head, size, beak, 0.0), bill, lit=0.3)
    wing = smooth([(-0.62, 0.16), (-0.15, 0.1), (0.3, 0.24), (0.22, 0.5), (-0.2, 0.58), (-0.5, 0.42)])
    wing = wing * _between(rng, 0.85, 1.08)
    brush.fill(wing + np.array([0.02, 0.05]), dark(colour, 0.28), lit=0.1)
    brush.fill(wing, light(colour, 0.14), lit=0.25)
    _eye(brush, head[0] + size * 0.28, head[1] - size * 0.22, size * _between(rng, 0.2, 0.27), look=0.25)
    if _chance(rng, 0.3):  # a hat
        hat = _lively(rng)
        top = head[1] - size * 0.82
        brush.fill(rounded(head[0] - 0.04, top - 0.14, 0.42, 0.34, 0.05), hat, lit=0.2)
        brush.fill(rounded(head[0] - 0.04, top + 0.02, 0.72, 0.1, 0.05), dark(hat, 0.2))


def _beak(head: tuple[float, float], size: float, length: float, drop: float) -> Outline:
    x, y = head[0] + size * 0.78, head[1] + size * 0.14 + drop
    return smooth([
        (x - 0.08, y - 0.1), (x + length * 0.5, y - 0.07), (x + length, y - 0.03 + drop), (x + length * 0.9,
        y + 0.08 + drop), (x + length * 0.4, y + 0.13), (x - 0.06, y + 0.12),
    ])  # fmt: skip


# --- fish -----------------------------------------------------------------------------------------


def fish(brush: Brush, rng: Generator) -> None:
    """Paint a fish from the side."""
    colour = _lively(rng)
    fin, mark = _partner(rng, colour), _partner(rng, colour)
    tall, std = _between(rng, 0.42, 0.72), _between(rng, 0.4, 0.7)
    tail = smooth([
        (-0.55, -0.09), (-0.86, -std * 0.7), (-1.08, -std), (-0.94, -_between(rng, 0.0, 0.2)), (-1.08, std),
        (-0.86, std * 0.7), (-0.55, 0.09),
    ],        4)  # fmt: skip
    brush.fill(tail, fin, lit=0.25)
    back = _between(rng, 0.2, 0.45)
    dorsal = smooth(
        [(0.4, -tall * 0.75), (0.1, -tall - back), (-0.3, -tall - back * 0.6), (-0.45, -tall * 0.5)], 5
    )
    brush.fill(dorsal, fin, lit=0.2)
    belly = smooth([(0.15, tall * 0.8), (-0.12, tall + back * 0.7), (-0.35, tall * 0.65)], 5)
    brush.fill(belly, fin, lit=0.2)
    body = smooth([
        (0.98, 0.02), (0.78, -tall * 0.55), (0.3, -tall), (-0.25, -tall * 0.75), (-0.62, -tall * 0.22),
        (-0.62, tall * 0.22), (-0.25, tall * 0.75), (0.3, tall), (0.78, tall * 0.6),
    ])  # fmt: skip
    base = brush.fill(body, colour, lit=0.24, round_=0.12, gloss=0.25)
    _fish_pattern(brush, rng, base, tall, mark)
    if _chance(rng, 0.6):  # a pale belly
        brush.fill(ellipse(0.15, tall * 1.05, 0.95, tall * 0.55), light(colour, 0.7), opacity=0.55, clip=base)
    gill = bend((0.42, -tall * 0.55), (0.22, 0.05), (0.42, tall * 0.6))
    brush.fill(tube(gill, 0.05), dark(colour, 0.45), lit=0, opacity=0.8, clip=base)
    flap = smooth([(0.25, 0.1), (-0.02, 0.04), (-0.2, 0.22), (-0.02, 0.36), (0.2, 0.26)])
    brush.fill(flap, light(fin, 0.15), lit=0.25)
    _eye(brush, 0.62, -tall * 0.22, _between(rng, 0.12, 0.17), look=0.2)
    mouth = bend((0.97, 0.12), (0.86, 0.2), (0.74, _between(rng, 0.14, 0.22)))
    brush.fill(tube(mouth, 0.045), dark(colour, 0.7), lit=0, clip=base)


def _fish_pattern(brush: Brush, rng: Generator, base: Stamp | None, tall: float, mark: Colour) -> None:
    choice = int(rng.integers(4))
    if choice == 0:  # bands
        for x in np.linspace(-0.42, 0.3, int(rng.integers(2, 5))):
            band = bend((float(x), -1), (float(x) + 0.2, 0), (float(x), 1))
            brush.fill(tube(band, _between(rng, 0.08, 0.16)), mark, clip=base)
    elif choice == 1:  # spots
        spots = []
        for _ in range(int(rng.integers(5, 12))):
            x, y, size = _between(rng, -0.5, 0.35), _between(rng, -tall, tall) * 0.8, _between(rng, 0.04, 0.1)
            spots.append(ellipse(x, y, size, size, points=14))
        brush.fill(spots, mark, clip=base)
    elif choice == 2:  # scales
        places = [
            (0.24 - column * 0.2 - 0.1 * (row % 2), row * tall * 0.34)
            for row in range(-2, 3)
            for column in range(5)
        ]
        scales = [tube(_arc(x, y, 0.1, 0.13, 2.0, 4.3), 0.03) for x, y in places]
        brush.fill(scales, mark, opacity=0.75, lit=0, clip=base)


# --- mug ------------------------------------------------------------------------------------------


def mug(brush: Brush, rng: Generator) -> None:
    """Paint a mug with a handle, a drink, and a pattern or a face."""
    colour, inside = _lively(rng), _lively(rng)
    pattern = _partner(rng, colour)
    width, height = _between(rng, 1.15, 1.45), _between(rng, 1.25, 1.75)
    taper, lip = _between(rng, -0.06, 0.22), _between(rng, 0.16, 0.24)
    left, top, bottom = -0.25, -height / 2, height / 2

    reach, thick = _between(rng, 0.42, 0.62), _between(rng, 0.15, 0.24)
    side = left + width / 2
    angle = np.linspace(-1.75, 1.75, 16)
    square = _between(rng, 0.55, 1.0)
    bow = np.stack(
        [
            side - 0.12 + (reach + 0.12) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** square,
            0.02 + height * 0.3 * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** square,
        ],
        axis=1,
    )
    brush.fill(tube(bow, thick), dark(colour, 0.1), lit=0.25)

    body = np.concatenate(
        [
            _arc(left, bottom - lip * 0.5, width / 2 * (1 - taper / 2), lip * 0.9, 0, np.pi),
            _arc(left, top, width / 2 * (1 + taper / 2), lip, np.pi, 2 * np.pi),
        ]
    )
    base = brush.fill(body, colour, lit=0.26, round_=0.24)
    _mug_pattern(brush, rng, base, (left, width, height), colour, pattern)
    rim = width / 2 * (1 + taper / 2)
    brush.fill(ellipse(left, top, rim, lip), light(colour, 0.35), lit=0.1)
    brush.fill(ellipse(left, top + 0.015, rim * 0.87, lip * 0.8), dark(inside, 0.35), lit=-0.3)
    drink = hsv(_between(rng, 0.02, 0.12), _between(rng, 0.4, 0.9), _between(rng, 0.2, 0.75))
    brush.fill(ellipse(left, top + lip * 0.3, rim * 0.74, lip * 0.5), drink, lit=0.15)


def _mug_pattern(
    brush: Brush,
    rng: Generator,
    base: Stamp | None,
    shape: tuple[float, float, float],
    colour: Colour,
    pattern: Colour,
) -> None:
    left, width, height = shape
    choice = int(rng.integers(4))
    if choice == 0:  # a face
        gap, y = width * _between(rng, 0.17, 0.24), _between(rng, -0.1, 0.1)
        for side in (-1, 1):
            _eye(brush, left + side * gap, y, 0.12)
            cheek = ellipse(left + side * gap * 1.7, y + 0.24, 0.1, 0.06)
            brush.fill(cheek, mix(colour, (255, 120, 130), 0.6), lit=0, clip=base)
        _smile(brush, left, y + 0.24, 0.16, 0.05)
    elif choice == 1:  # hoops
        count = int(rng.integers(1, 4))
        for hoop in range(count):
            y = (hoop + 0.75) / (count + 0.4) * height - height / 2
            thick = height * _between(rng, 0.05, 0.1)
            path = bend((left - width, y - 0.1), (left, y + 0.22), (left + width, y - 0.1))
            brush.fill(tube(path, thick), pattern, lit=0.26, round_=0.2, clip=base)
    elif choice == 2:  # dots
        size = _between(rng, 0.08, 0.14)
        places = [
            (left + (column + 0.5 * (row % 2)) * width * 0.3, (row - 1.2) * height * 0.24 + 0.06)
            for row in range(4)
            for column in range(-2, 3)
        ]
        brush.fill([ellipse(x, y, size, size, points=16) for x, y in places], pattern, clip=base)


# --- plant ----------------------------------------------------------------------------------------


def plant(brush: Brush, rng: Generator) -> None:
    """Paint a plant with leaves in a pot."""
    clay = hsv(_between(rng, 0.02, 0.06), 0.65, 0.75) if _chance(rng, 0.4) else _lively(rng)
    green = hsv(_between(rng, 0.22, 0.45), _between(rng, 0.4, 0.85), _between(rng, 0.4, 0.75))
    rim, upper = _between(rng, 0.82, 1.05), _between(rng, 0.6, 0.8)
    top = 0.98 - upper
    _leaves(brush, rng, top, green)
    pot = rounded(0, top + upper / 2, rim * 0.84, upper, 0.08, taper=_between(rng, 0.2, 0.4))
    base = brush.fill(pot, clay, lit=0.26, round_=0.22)
    band = _partner(rng, clay)
    if _chance(rng, 0.4):
        zigzag = np.array([[x * 0.12, top + upper * 0.58 + 0.08 * (-1) ** x] for x in range(-6, 7)])
        brush.fill(tube(zigzag, 0.07), band, clip=base)
    elif _chance(rng, 0.4):
        for side in (-1, 1):
            _eye(brush, side * 0.14, top + upper * 0.5, 0.075)
        _smile(brush, 0, top + upper * 0.72, 0.1, 0.04)
    brush.fill(rounded(0, top + 0.06, rim * 1.06, 0.2, 0.05), light(clay, 0.1), lit=0.26, round_=0.22)


def _leaves(brush: Brush, rng: Generator, top: float, green: Colour) -> None:
    count, broad = int(rng.integers(5, 11)), _between(rng, 0.12, 0.3)
    reach, droop = _between(rng, 0.75, 1.2), _between(rng, 0.0, 0.5)
    order = rng.permutation(count)
    for leaf in order:
        lean = (float(leaf) + 0.5) / count * 2 - 1 + _between(rng, -0.12, 0.12)
        length = reach * _between(rng, 0.8, 1.1)
        end = (0.95 * lean * length, top - length * (1.05 - droop * lean * lean - 0.25 * abs(lean)))
        path = bend((lean * 0.18, top + 0.05), (lean * 0.35, top - length * 0.75), end)
        t = np.linspace(0, 1, len(path))
        width = broad * (0.2 * (1 - t) + np.sin(np.pi * t**0.8))
        shade = mix(green, hsv(_between(rng, 0.18, 0.4), 0.6, _between(rng, 0.3, 0.9)), 0.3)
        blade = brush.fill(tube(path, width), shade, lit=0.3)
        brush.fill(tube(path[:-1], 0.025), light(shade, 0.35), lit=0, opacity=0.8, clip=blade)
    if _chance(rng, 0.3):  # flowers
        for _ in range(int(rng.integers(1, 4))):
            _flower(
                brush, rng, _between(rng, -0.5, 0.5), top - _between(rng, 0.55, 1.0), _between(rng, 0.14, 0.2)
            )


def _flower(brush: Brush, rng: Generator, x: float, y: float, size: float) -> None:
    petal, count = _lively(rng), int(rng.integers(5, 8))
    reach, turns = size * 0.62, np.linspace(0, 2 * np.pi, count, endpoint=False).tolist()
    brush.fill(
        [
            ellipse(
                x + reach * math.cos(turn),
                y + reach * math.sin(turn),
                size * 0.5,
                size * 0.34,
                turn,
                points=18,
            )
            for turn in turns
        ],
        petal,
    )
    brush.fill(ellipse(x, y, size * 0.34, size * 0.34, points=18), hsv(0.13, 0.8, 0.95))


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object.

    paint: draws one. stands: whether it stands on the ground (else it floats). turn: how far it may lean to either
    side, in radians. unit: scale that makes it about as large as the others. home: its preferred background, and
    how often it is chosen.
    """

    paint: Callable[[Brush, Generator], None]
    stands: bool
    turn: float
    unit: float = 1.0
    home: tuple[str, float] = ("", 0.0)


KINDS: dict[str, Kind] = {
    "duck": Kind(duck, stands=True, turn=0.12),
    "fish": Kind(fish, stands=False, turn=0.6, home=("sea", 0.45)),
    "mug": Kind(mug, stands=True, turn=0.1, unit=1.2, home=("room", 0.2)),
    "plant": Kind(plant, stands=True, turn=0.06, unit=0.95),
}
"""All kinds, by label."""
