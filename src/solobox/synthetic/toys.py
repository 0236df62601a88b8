"""Painters of a rubber duck, a fish and a robot; see `solobox.synthetic.objects`."""

import math

import numpy as np
from numpy.random import Generator

from solobox.synthetic.canvas import (
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
    rounded,
    smooth,
    tube,
)
from solobox.synthetic.details import arc, between, chance, eye, lively, partner, smile

# --- duck -----------------------------------------------------------------------------------------


def duck(brush: Brush, rng: Generator) -> None:
    """Paint a rubber duck from the side."""
    usual = chance(rng, 0.45)
    colour = hsv(between(rng, 0.11, 0.15), between(rng, 0.7, 0.95), 0.98) if usual else lively(rng)
    bill = hsv(between(rng, 0.02, 0.09), 0.9, 0.95) if usual else lively(rng)
    tail, plump, neck = between(rng, -0.35, -0.05), between(rng, 0.9, 1.1), between(rng, -0.05, 0.12)
    body = smooth(
        [
            (-1.0, tail),
            (-0.72, 0.06),
            (-0.3, -0.02),
            (0.15, -0.14),
            (0.62, 0.0),
            (0.8, 0.36),
            (0.58, 0.72 * plump),
            (0.0, 0.82 * plump),
            (-0.55, 0.7 * plump),
            (-0.88, 0.36),
        ]
    )
    head, size = (0.42 + neck, -0.52), between(rng, 0.44, 0.54)
    beak = between(rng, 0.28, 0.44)
    brush.fill(body, colour, lit=0.22, round_=0.14)
    if chance(rng, 0.5):
        brush.fill(_beak(head, size, beak, 0.1), dark(bill, 0.25))
    brush.fill(ellipse(*head, size, size * 0.96), colour, lit=0.22, round_=0.14, gloss=0.35)
    brush.fill(_beak(head, size, beak, 0.0), bill, lit=0.3)
    wing = smooth([(-0.62, 0.16), (-0.15, 0.1), (0.3, 0.24), (0.22, 0.5), (-0.2, 0.58), (-0.5, 0.42)])
    wing = wing * between(rng, 0.85, 1.08)
    brush.fill(wing + np.array([0.02, 0.05]), dark(colour, 0.28), lit=0.1)
    brush.fill(wing, light(colour, 0.14), lit=0.25)
    eye(brush, head[0] + size * 0.28, head[1] - size * 0.22, size * between(rng, 0.2, 0.27), look=0.25)
    if chance(rng, 0.3):  # a hat
        hat = lively(rng)
        top = head[1] - size * 0.82
        brush.fill(rounded(head[0] - 0.04, top - 0.14, 0.42, 0.34, 0.05), hat, lit=0.2)
        brush.fill(rounded(head[0] - 0.04, top + 0.02, 0.72, 0.1, 0.05), dark(hat, 0.2))


def _beak(head: tuple[float, float], size: float, length: float, drop: float) -> Outline:
    x, y = head[0] + size * 0.78, head[1] + size * 0.14 + drop
    return smooth(
        [
            (x - 0.08, y - 0.1),
            (x + length * 0.5, y - 0.07),
            (x + length, y - 0.03 + drop),
            (x + length * 0.9, y + 0.08 + drop),
            (x + length * 0.4, y + 0.13),
            (x - 0.06, y + 0.12),
        ]
    )


# --- fish -----------------------------------------------------------------------------------------


def fish(brush: Brush, rng: Generator) -> None:
    """Paint a fish from the side."""
    colour = lively(rng)
    fin, mark = partner(rng, colour), partner(rng, colour)
    tall, std = between(rng, 0.42, 0.72), between(rng, 0.4, 0.7)
    tail = smooth(
        [
            (-0.55, -0.09),
            (-0.86, -std * 0.7),
            (-1.08, -std),
            (-0.94, -between(rng, 0.0, 0.2)),
            (-1.08, std),
            (-0.86, std * 0.7),
            (-0.55, 0.09),
        ],
        4,
    )
    brush.fill(tail, fin, lit=0.25)
    back = between(rng, 0.2, 0.45)
    dorsal = smooth(
        [(0.4, -tall * 0.75), (0.1, -tall - back), (-0.3, -tall - back * 0.6), (-0.45, -tall * 0.5)], 5
    )
    brush.fill(dorsal, fin, lit=0.2)
    belly = smooth([(0.15, tall * 0.8), (-0.12, tall + back * 0.7), (-0.35, tall * 0.65)], 5)
    brush.fill(belly, fin, lit=0.2)
    body = smooth(
        [
            (0.98, 0.02),
            (0.78, -tall * 0.55),
            (0.3, -tall),
            (-0.25, -tall * 0.75),
            (-0.62, -tall * 0.22),
            (-0.62, tall * 0.22),
            (-0.25, tall * 0.75),
            (0.3, tall),
            (0.78, tall * 0.6),
        ]
    )
    base = brush.fill(body, colour, lit=0.24, round_=0.12, gloss=0.25)
    _fish_pattern(brush, rng, base, tall, mark)
    if chance(rng, 0.6):  # a pale belly
        brush.fill(ellipse(0.15, tall * 1.05, 0.95, tall * 0.55), light(colour, 0.7), opacity=0.55, clip=base)
    gill = bend((0.42, -tall * 0.55), (0.22, 0.05), (0.42, tall * 0.6))
    brush.fill(tube(gill, 0.05), dark(colour, 0.45), lit=0, opacity=0.8, clip=base)
    flap = smooth([(0.25, 0.1), (-0.02, 0.04), (-0.2, 0.22), (-0.02, 0.36), (0.2, 0.26)])
    brush.fill(flap, light(fin, 0.15), lit=0.25)
    eye(brush, 0.62, -tall * 0.22, between(rng, 0.12, 0.17), look=0.2)
    mouth = bend((0.97, 0.12), (0.86, 0.2), (0.74, between(rng, 0.14, 0.22)))
    brush.fill(tube(mouth, 0.045), dark(colour, 0.7), lit=0, clip=base)


def _fish_pattern(brush: Brush, rng: Generator, base: Stamp | None, tall: float, mark: Colour) -> None:
    choice = int(rng.integers(4))
    if choice == 0:  # bands
        for x in np.linspace(-0.42, 0.3, int(rng.integers(2, 5))):
            band = bend((float(x), -1), (float(x) + 0.2, 0), (float(x), 1))
            brush.fill(tube(band, between(rng, 0.08, 0.16)), mark, clip=base)
    elif choice == 1:  # spots
        spots = []
        for _ in range(int(rng.integers(5, 12))):
            x, y, size = between(rng, -0.5, 0.35), between(rng, -tall, tall) * 0.8, between(rng, 0.04, 0.1)
            spots.append(ellipse(x, y, size, size, points=14))
        brush.fill(spots, mark, clip=base)
    elif choice == 2:  # scales
        places = [
            (0.24 - column * 0.2 - 0.1 * (row % 2), row * tall * 0.34)
            for row in range(-2, 3)
            for column in range(5)
        ]
        scales = [tube(arc(x, y, 0.1, 0.13, 2.0, 4.3), 0.03) for x, y in places]
        brush.fill(scales, mark, opacity=0.75, lit=0, clip=base)


# --- robot ----------------------------------------------------------------------------------------


def robot(brush: Brush, rng: Generator) -> None:
    """Paint a small robot that faces us."""
    metal = hsv(between(rng, 0, 1), between(rng, 0.03, 0.3), between(rng, 0.55, 0.85))
    colour = lively(rng) if chance(rng, 0.6) else metal
    accent, glow = lively(rng), hsv(between(rng, 0, 1), between(rng, 0.3, 0.9), 1.0)
    head_w, head_h = between(rng, 0.75, 1.1), between(rng, 0.5, 0.66)
    body_w, body_h = between(rng, 0.75, 1.05), between(rng, 0.6, 0.8)
    neck = -0.18
    head_y = neck - 0.06 - head_h / 2
    _robot_legs(brush, rng, neck + body_h, body_w, metal, accent)
    for side in (-1, 1):
        shoulder = (side * body_w / 2, neck + 0.18)
        hand = (side * (body_w / 2 + between(rng, 0.2, 0.38)), neck + between(rng, -0.35, 0.6))
        elbow = (side * (body_w / 2 + between(rng, 0.3, 0.42)), neck + 0.3)
        brush.fill(tube(bend(shoulder, elbow, hand), 0.14), dark(metal, 0.2), lit=0.3)
        brush.fill(ellipse(*hand, 0.14, 0.14, points=20), accent, gloss=0.3)
    brush.fill(rounded(0, neck - 0.04, 0.3, 0.24, 0.04), dark(metal, 0.4))
    base = brush.fill(
        rounded(0, neck + body_h / 2, body_w, body_h, between(rng, 0.06, 0.25)), colour, lit=0.3
    )
    _robot_panel(brush, rng, base, (body_w, neck + body_h / 2), metal, accent)

    brush.fill([rounded(side * head_w / 2, head_y, 0.18, 0.26, 0.06) for side in (-1, 1)], accent)  # ears
    stalks = [0.0] if chance(rng, 0.6) else [-head_w * 0.28, head_w * 0.28]
    tip = head_y - head_h / 2 - between(rng, 0.14, 0.3)
    for x in stalks:
        brush.fill(
            rounded(x, (tip + head_y - head_h / 2) / 2, 0.06, head_y - head_h / 2 - tip + 0.1, 0.02), metal
        )
        brush.fill(ellipse(x, tip, 0.1, 0.1, points=20), glow, gloss=0.5)
    brush.fill(rounded(0, head_y, head_w, head_h, between(rng, 0.08, 0.28)), colour, lit=0.3, gloss=0.12)
    _robot_face(brush, rng, (head_w, head_h, head_y), metal, glow)


def _robot_legs(
    brush: Brush, rng: Generator, hip: float, width: float, metal: Colour, accent: Colour
) -> None:
    foot = hip + between(rng, 0.22, 0.34)
    if chance(rng, 0.35):  # tracks
        brush.fill(rounded(0, hip + 0.12, width * 1.12, 0.3, 0.15), dark(metal, 0.65), lit=0.1)
        wheels = [ellipse(x * width, hip + 0.12, 0.09, 0.09, points=20) for x in (-0.38, -0.13, 0.13, 0.38)]
        brush.fill(wheels, light(metal, 0.2))
        return
    for side in (-1, 1):
        x = side * width * 0.26
        brush.fill(rounded(x, (hip + foot) / 2, 0.17, foot - hip + 0.12, 0.03), dark(metal, 0.25), lit=0.3)
        brush.fill(
            smooth([(x - 0.2, foot + 0.1), (x, foot - 0.08), (x + 0.2, foot + 0.1), (x, foot + 0.13)]), accent
        )


def _robot_panel(
    brush: Brush, rng: Generator, base: Stamp | None, at: tuple[float, float], metal: Colour, accent: Colour
) -> None:
    width, y = at
    choice = int(rng.integers(3))
    if choice == 0:  # a dial
        brush.fill(ellipse(0, y, 0.22, 0.22), WHITE, lit=0.1, clip=base)
        turn = between(rng, -2.5, -0.6)
        hand = np.array([[0, y], [0.17 * math.cos(turn), y + 0.17 * math.sin(turn)]])
        brush.fill(tube(hand, 0.045), hsv(0, 0.85, 0.85), clip=base)
    elif choice == 1:  # buttons on a plate
        brush.fill(rounded(0, y, width * 0.66, 0.34, 0.05), light(metal, 0.45), lit=-0.12, clip=base)
        for column in range(3):
            x = (column - 1) * width * 0.19
            brush.fill(ellipse(x, y, 0.075, 0.075, points=18), lively(rng), gloss=0.3)
    else:  # a stripe and rivets
        brush.fill(rounded(0, y, width * 1.2, 0.16, 0.01), accent, clip=base)
        rivets = [
            ellipse(x * width, y + up, 0.035, 0.035, points=12) for x in (-0.36, 0.36) for up in (-0.18, 0.2)
        ]
        brush.fill(rivets, dark(metal, 0.4), clip=base)


def _robot_face(
    brush: Brush, rng: Generator, head: tuple[float, float, float], metal: Colour, glow: Colour
) -> None:
    width, height, y = head
    gap, size = width * between(rng, 0.2, 0.26), height * between(rng, 0.19, 0.25)
    if chance(rng, 0.4):  # a visor
        brush.fill(
            rounded(0, y - 0.03, width * 0.82, height * 0.56, 0.14), dark(metal, 0.82), lit=-0.1, gloss=0.1
        )
        for side in (-1, 1):
            brush.fill(
                ellipse(side * gap, y - 0.03, size * 0.62, size * 0.8, points=20), glow, lit=0, round_=-0.1
            )
    else:
        for side in (-1, 1):
            eye(brush, side * gap, y - 0.06, size, look=between(rng, -0.15, 0.15))
        if chance(rng, 0.5):
            smile(brush, 0, y + height * 0.3, width * 0.16, 0.05)
        else:
            brush.fill(rounded(0, y + height * 0.31, width * 0.42, 0.09, 0.03), dark(metal, 0.7), lit=0)
