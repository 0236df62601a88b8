"""Painters of a mug, a plant in its pot and a toy rocket; see `solobox.synthetic.objects`."""

import math

import numpy as np
from numpy.random import Generator

from solobox.synthetic.canvas import (
    WHITE,
    Brush,
    Colour,
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
)
from solobox.synthetic.details import arc, between, chance, eye, lively, partner, smile

# --- mug ------------------------------------------------------------------------------------------


def mug(brush: Brush, rng: Generator) -> None:
    """Paint a mug with a handle, a drink, and a pattern or a face."""
    colour, inside = lively(rng), lively(rng)
    pattern = partner(rng, colour)
    width, height = between(rng, 1.15, 1.45), between(rng, 1.25, 1.75)
    taper, lip = between(rng, -0.06, 0.22), between(rng, 0.16, 0.24)
    left, top, bottom = -0.25, -height / 2, height / 2

    reach, thick = between(rng, 0.42, 0.62), between(rng, 0.15, 0.24)
    side = left + width / 2
    angle = np.linspace(-1.75, 1.75, 16)
    square = between(rng, 0.55, 1.0)
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
            arc(left, bottom - lip * 0.5, width / 2 * (1 - taper / 2), lip * 0.9, 0, np.pi),
            arc(left, top, width / 2 * (1 + taper / 2), lip, np.pi, 2 * np.pi),
        ]
    )
    base = brush.fill(body, colour, lit=0.26, round_=0.24)
    _mug_pattern(brush, rng, base, (left, width, height), colour, pattern)
    rim = width / 2 * (1 + taper / 2)
    brush.fill(ellipse(left, top, rim, lip), light(colour, 0.35), lit=0.1)
    brush.fill(ellipse(left, top + 0.015, rim * 0.87, lip * 0.8), dark(inside, 0.35), lit=-0.3)
    drink = hsv(between(rng, 0.02, 0.12), between(rng, 0.4, 0.9), between(rng, 0.2, 0.75))
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
    choice = int(rng.integers(5))
    if choice == 0:  # a face
        gap, y = width * between(rng, 0.17, 0.24), between(rng, -0.1, 0.1)
        for side in (-1, 1):
            eye(brush, left + side * gap, y, 0.12)
            cheek = ellipse(left + side * gap * 1.7, y + 0.24, 0.1, 0.06)
            brush.fill(cheek, mix(colour, (255, 120, 130), 0.6), lit=0, clip=base)
        smile(brush, left, y + 0.24, 0.16, 0.05)
    elif choice == 1:  # hoops
        count = int(rng.integers(1, 4))
        for hoop in range(count):
            y = (hoop + 0.75) / (count + 0.4) * height - height / 2
            thick = height * between(rng, 0.05, 0.1)
            path = bend((left - width, y - 0.1), (left, y + 0.22), (left + width, y - 0.1))
            brush.fill(tube(path, thick), pattern, lit=0.26, round_=0.2, clip=base)
    elif choice == 2:  # dots
        size = between(rng, 0.08, 0.14)
        places = [
            (left + (column + 0.5 * (row % 2)) * width * 0.3, (row - 1.2) * height * 0.24 + 0.06)
            for row in range(4)
            for column in range(-2, 3)
        ]
        brush.fill([ellipse(x, y, size, size, points=16) for x, y in places], pattern, clip=base)
    elif choice == 3:  # a heart
        size = width * between(rng, 0.2, 0.28)
        t = np.linspace(0, 2 * np.pi, 30, endpoint=False)
        heart = np.stack(
            [16 * np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))],
            axis=1,
        )
        brush.fill(heart * size / 16 + np.array([left, 0.12]), pattern, lit=0.2, clip=base)


# --- plant ----------------------------------------------------------------------------------------


def plant(brush: Brush, rng: Generator) -> None:
    """Paint a plant in a pot: a cactus, or leaves."""
    clay = hsv(between(rng, 0.02, 0.06), 0.65, 0.75) if chance(rng, 0.4) else lively(rng)
    green = hsv(between(rng, 0.22, 0.45), between(rng, 0.4, 0.85), between(rng, 0.4, 0.75))
    rim, upper = between(rng, 0.82, 1.05), between(rng, 0.6, 0.8)
    top = 0.98 - upper
    if chance(rng, 0.38):
        _cactus(brush, rng, top, green)
    else:
        _leaves(brush, rng, top, green)
    pot = rounded(0, top + upper / 2, rim * 0.84, upper, 0.08, taper=between(rng, 0.2, 0.4))
    base = brush.fill(pot, clay, lit=0.26, round_=0.22)
    band = partner(rng, clay)
    if chance(rng, 0.4):
        zigzag = np.array([[x * 0.12, top + upper * 0.58 + 0.08 * (-1) ** x] for x in range(-6, 7)])
        brush.fill(tube(zigzag, 0.07), band, clip=base)
    elif chance(rng, 0.4):
        for side in (-1, 1):
            eye(brush, side * 0.14, top + upper * 0.5, 0.075)
        smile(brush, 0, top + upper * 0.72, 0.1, 0.04)
    brush.fill(rounded(0, top + 0.06, rim * 1.06, 0.2, 0.05), light(clay, 0.1), lit=0.26, round_=0.22)


def _leaves(brush: Brush, rng: Generator, top: float, green: Colour) -> None:
    count, broad = int(rng.integers(5, 11)), between(rng, 0.12, 0.3)
    reach, droop = between(rng, 0.75, 1.2), between(rng, 0.0, 0.5)
    order = rng.permutation(count)
    for leaf in order:
        lean = (float(leaf) + 0.5) / count * 2 - 1 + between(rng, -0.12, 0.12)
        length = reach * between(rng, 0.8, 1.1)
        end = (0.95 * lean * length, top - length * (1.05 - droop * lean * lean - 0.25 * abs(lean)))
        path = bend((lean * 0.18, top + 0.05), (lean * 0.35, top - length * 0.75), end)
        t = np.linspace(0, 1, len(path))
        width = broad * (0.2 * (1 - t) + np.sin(np.pi * t**0.8))
        shade = mix(green, hsv(between(rng, 0.18, 0.4), 0.6, between(rng, 0.3, 0.9)), 0.3)
        blade = brush.fill(tube(path, width), shade, lit=0.3)
        brush.fill(tube(path[:-1], 0.025), light(shade, 0.35), lit=0, opacity=0.8, clip=blade)
    if chance(rng, 0.3):  # flowers
        for _ in range(int(rng.integers(1, 4))):
            _flower(
                brush, rng, between(rng, -0.5, 0.5), top - between(rng, 0.55, 1.0), between(rng, 0.14, 0.2)
            )


def _flower(brush: Brush, rng: Generator, x: float, y: float, size: float) -> None:
    petal, count = lively(rng), int(rng.integers(5, 8))
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


def _cactus(brush: Brush, rng: Generator, top: float, green: Colour) -> None:
    tall, fat = between(rng, 0.85, 1.2), between(rng, 0.4, 0.62)
    for side in (-1, 1):
        if chance(rng, 0.65):
            y, out = top - tall * between(rng, 0.3, 0.6), side * (fat / 2 + between(rng, 0.16, 0.3))
            arm = np.array([[0, y], [out * 0.8, y], [out, y - 0.06], [out, y - between(rng, 0.2, 0.4)]])
            brush.fill(tube(arm, 0.22), dark(green, 0.1))
            end = (out, float(arm[-1, 1]))
            brush.fill(ellipse(*end, 0.11, 0.11, points=18), dark(green, 0.1))
    body = rounded(0, top - tall / 2 + 0.1, fat, tall + 0.2, fat / 2)
    base = brush.fill(body, green, lit=0.26, round_=0.2)
    across = (-0.3, 0.0, 0.3)
    ribs = [
        tube(bend((x * fat, top + 0.1), (x * fat * 1.4, top - tall / 2), (x * fat * 0.8, top - tall)), 0.03)
        for x in across
    ]
    brush.fill(ribs, dark(green, 0.35), lit=0, opacity=0.7, clip=base)
    spines = [
        ellipse(x * fat * 1.15, top - tall * y, 0.024, 0.024, points=8)
        for x in across
        for y in (0.12, 0.31, 0.5, 0.69, 0.88)
    ]
    brush.fill(spines, WHITE, lit=0, clip=base)
    if chance(rng, 0.6):
        _flower(brush, rng, 0, top - tall + 0.02, between(rng, 0.14, 0.22))


# --- rocket ---------------------------------------------------------------------------------------


def rocket(brush: Brush, rng: Generator) -> None:
    """Paint a toy rocket, nose up."""
    hull = light(lively(rng), between(rng, 0.5, 0.9)) if chance(rng, 0.6) else lively(rng)
    accent = lively(rng)
    fat, belly = between(rng, 0.36, 0.5), between(rng, 0.0, 0.25)
    fin, lower = between(rng, 0.26, 0.46), between(rng, 0.78, 0.98)
    for side in (-1, 1):
        wing = smooth(
            [
                (side * fat * 0.7, 0.1),
                (side * (fat + fin), 0.62),
                (side * (fat + fin * 0.9), lower),
                (side * fat * 0.6, 0.7),
            ],
            5,
        )
        brush.fill(wing, accent, lit=0.3)
    brush.fill(rounded(0, 0.82, fat * 1.1, 0.24, 0.04, taper=-0.3), (84, 84, 92), lit=0.3, round_=0.2)
    body = smooth(
        [
            (0, -1.0),
            (fat * 0.6, -0.62),
            (fat, -0.1 + belly),
            (fat * 0.86, 0.5),
            (fat * 0.6, 0.78),
            (-fat * 0.6, 0.78),
            (-fat * 0.86, 0.5),
            (-fat, -0.1 + belly),
            (-fat * 0.6, -0.62),
        ]
    )
    base = brush.fill(body, hull, lit=0.28, round_=0.22, gloss=0.15)
    nose = between(rng, -0.62, -0.5)
    brush.fill(np.array([[-1, -1.2], [1, -1.2], [1, nose], [0, nose + 0.07], [-1, nose]]), accent, clip=base)
    if chance(rng, 0.6):
        y = between(rng, 0.42, 0.55)
        brush.fill(tube(bend((-1, y - 0.05), (0, y + 0.07), (1, y - 0.05)), 0.12), accent, clip=base)
    glass = hsv(between(rng, 0.48, 0.62), 0.55, 0.85)
    panes = [-0.22] if chance(rng, 0.6) else [-0.3, 0.14]
    size = fat * (0.5 if len(panes) == 1 else 0.4)
    for y in panes:
        brush.fill(ellipse(0, y, size * 1.25, size * 1.25), mix(accent, (90, 90, 98), 0.5))
        brush.fill(ellipse(0, y, size, size), glass, lit=-0.3, gloss=0.4)
    if chance(rng, 0.6):
        brush.fill(
            smooth([(-0.05, 0.3), (0.05, 0.3), (0.05, lower + 0.06), (-0.05, lower + 0.06)], 4),
            dark(accent, 0.2),
        )
