"""Backgrounds: rooms, meadows, the sea, desks, blurred lights.

Each painter returns planes of shape (3, h, w), float32, about 0 to 255, and the y of the horizon as a fraction of the
image's height: objects that stand are placed below it.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image

from solobox.synthetic.canvas import Canvas, Colour, Planes, bend, dark, ellipse, hsv, light, mix, tube

Painter = Callable[[Generator, int, int], tuple[Planes, float]]
_TILE = 512
_GRAIN = 640


@functools.cache
def _noise() -> Planes:
    """White noise, shape (3, 640, 640), mean 0, the planes correlated. Cached, because drawing it is slow."""
    rng = np.random.default_rng(20240)
    noise = rng.standard_normal((3, _GRAIN, _GRAIN), dtype=np.float32) * np.float32(0.5)
    noise += rng.standard_normal((_GRAIN, _GRAIN), dtype=np.float32)
    noise.setflags(write=False)
    return noise


@functools.cache
def _cloud_image() -> Image.Image:
    """Smooth noise of many sizes, 512 by 512, about -1 to 1."""
    rng = np.random.default_rng(20241)
    total = np.zeros((_TILE, _TILE), dtype=np.float32)
    for octave in range(2, 9):
        cells = rng.standard_normal((2**octave, 2**octave), dtype=np.float32)
        size = Image.fromarray(cells).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        total += np.asarray(size) * 0.62**octave
    return Image.fromarray(total / np.abs(total).max())


def grain(rng: Generator, width: int, height: int) -> Planes:
    """White noise of shape (3, h, w), mean 0 and deviation about 1.1, the three planes correlated."""
    x = int(rng.integers(max(_GRAIN - width, 0) + 1))
    y = int(rng.integers(max(_GRAIN - height, 0) + 1))
    if x + width <= _GRAIN and y + height <= _GRAIN:
        return _noise()[:, y : y + height, x : x + width]
    rows, columns = np.arange(height) % _GRAIN, np.arange(width) % _GRAIN
    return _noise()[:, rows[:, None], columns]


def clouds(rng: Generator, width: int, height: int, across: float, down: float) -> Planes:
    """Smooth noise of shape (h, w), about -1 to 1.

    `across` and `down` are the shares of the noise's tile that the image shows: small ones magnify it.
    """
    x, y = rng.uniform(0, 1 - across) * _TILE, rng.uniform(0, 1 - down) * _TILE
    box = (x, y, x + across * _TILE, y + down * _TILE)
    return np.asarray(_cloud_image().resize((width, height), Image.Resampling.BILINEAR, box=box))


def _ramp(top: Colour, bottom: Colour, width: int, height: int) -> Planes:
    t = np.linspace(0, 1, height, dtype=np.float32)[None, :, None]
    first, last = (np.array(colour, dtype=np.float32)[:, None, None] for colour in (top, bottom))
    return np.repeat(first + (last - first) * t, width, axis=2)


def _pale(rng: Generator) -> Colour:
    return hsv(rng.uniform(0, 1), rng.uniform(0.05, 0.4), rng.uniform(0.55, 0.95))


def _any(rng: Generator) -> Colour:
    return hsv(rng.uniform(0, 1), rng.uniform(0.1, 0.8), rng.uniform(0.25, 0.9))


def _blend(planes: Planes, colour: Colour, share: Planes) -> None:
    """Blend planes, in place, with a colour by a share for each pixel."""
    for plane, part in zip(planes, colour, strict=True):
        plane += (np.float32(part) - plane) * share


# --- room -----------------------------------------------------------------------------------------


def _wall(rng: Generator, planes: Planes, height: int) -> None:
    """Paint a pattern on the upper rows of an image."""
    wall = planes[:, :height]
    width = wall.shape[2]
    other = mix(tuple(float(c) for c in wall[:, 0, 0]), _pale(rng), rng.uniform(0.3, 0.9))  # type: ignore[arg-type]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    step = max(planes.shape[1] * rng.uniform(0.06, 0.2), 6)
    choice = int(rng.integers(4))
    share: Planes
    if choice == 0:  # stripes
        share = np.broadcast_to((x / step % 1 < rng.uniform(0.2, 0.6))[None], (height, width)).astype(
            np.float32
        )
    elif choice == 1:  # dots
        shift = (y // step % 2)[:, None] * step / 2
        near = ((x[None] + shift) % step / step - 0.5) ** 2 + ((y % step / step - 0.5) ** 2)[:, None]
        share = np.clip((rng.uniform(0.02, 0.07) - near) * step * 3, 0, 1)
    elif choice == 2:  # bricks
        tall = step * 0.45
        shift = (y // tall % 2)[:, None] * step / 2
        joint = ((x[None] + shift) % step < 2) | (y % tall < 2)[:, None]
        share = joint.astype(np.float32) * 0.8
    else:
        return
    _blend(wall, other, share * np.float32(rng.uniform(0.3, 0.9)))


def _floor(rng: Generator, planes: Planes, top: int) -> None:
    """Paint boards or tiles in perspective on the lower rows of an image."""
    floor = planes[:, top:]
    height, width = floor.shape[1:]
    depth = 1 / (np.arange(height, dtype=np.float32) + 0.25 * height + 4)
    across = (np.arange(width, dtype=np.float32) - width * rng.uniform(0.2, 0.8))[None] * depth[:, None]
    column = (across * rng.uniform(3, 7) * (height + 40) / (width + 40) * 2).astype(np.float32)
    number = np.floor(column).astype(int)
    tone = rng.uniform(-1, 1, 64).astype(np.float32)
    if rng.random() < 0.5:
        row = np.floor(depth * height * rng.uniform(4, 9)).astype(int)
        share = tone[
            (number + 7 * row[:, None]) % 64 if rng.random() < 0.4 else (number + row[:, None]) % 2 + 3
        ]
    else:
        share = tone[number % 64]
    share = share * 16 - 30 * (np.abs(column - np.rint(column)) < 0.035)
    floor += share + clouds(rng, width, height, 0.5, 0.06) * 26


def room(rng: Generator, width: int, height: int) -> tuple[Planes, float]:
    """Paint a wall and a floor or a table."""
    horizon = rng.uniform(0.4, 0.78)
    top = min(max(round(horizon * height), 1), height - 1)
    paper = _pale(rng)
    planes = _ramp(light(paper, 0.1), dark(paper, rng.uniform(0.05, 0.3)), width, height)
    _wall(rng, planes, top)
    wood = hsv(rng.uniform(0.04, 0.12), rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.85))
    colour = wood if rng.random() < 0.6 else _any(rng)
    planes[:, top:] = _ramp(dark(colour, 0.3), light(colour, 0.1), width, height - top)
    _floor(rng, planes, top)
    canvas = Canvas(planes)
    if rng.random() < 0.5:  # a board along the wall
        board = np.array([[0, top - 0.05 * height], [width, top - 0.05 * height], [width, top], [0, top]])
        canvas.fill(board, _pale(rng), lit=0.1, round_=0)
    if rng.random() < 0.45:  # an image or a window
        w, h = width * rng.uniform(0.15, 0.35), height * rng.uniform(0.15, 0.4)
        x, y = rng.uniform(0, width - w), rng.uniform(0, 0.3) * height
        for grow, shade in ((0.06, _any(rng)), (0.0, _pale(rng))):
            g = grow * h
            canvas.fill(
                np.array([[x - g, y - g], [x + w + g, y - g], [x + w + g, y + h + g], [x - g, y + h + g]]),
                shade,
            )
        if rng.random() < 0.6:
            canvas.fill(ellipse(x + w / 2, y + h * 0.62, w * 0.3, h * 0.26), _any(rng))
    return planes, horizon


# --- outdoors -------------------------------------------------------------------------------------


def _ridge(rng: Generator, width: int, y: float, swing: float) -> Planes:
    """A wavy line: the height at each column, shape (w,)."""
    x = np.linspace(0, 1, width)
    line = np.full(width, y)
    for wave in range(1, 5):
        line += swing / wave * np.sin(2 * np.pi * (x * wave * rng.uniform(0.5, 1.2) + rng.uniform(0, 1)))
    return line.astype(np.float32)


def _below(line: Planes, height: int) -> Planes:
    """1 for pixels below a line, 0 above it, and a fraction on it."""
    depth: Planes = np.arange(height, dtype=np.float32)[:, None] - line
    return np.clip(depth, 0, 1)


def meadow(rng: Generator, width: int, height: int) -> tuple[Planes, float]:
    """Paint a sky with clouds, hills, and a meadow, sand or snow."""
    horizon = rng.uniform(0.35, 0.7)
    zenith = hsv(rng.uniform(0.53, 0.65), rng.uniform(0.2, 0.7), rng.uniform(0.6, 0.95))
    haze = mix(light(zenith, 0.7), hsv(rng.uniform(0.0, 0.15), 0.5, 1.0), rng.uniform(0, 0.5))
    planes = _ramp(zenith, haze, width, height)
    cloud = clouds(rng, width, height, rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.9))
    _blend(planes, (252, 250, 250), np.clip((cloud - rng.uniform(-0.1, 0.25)) * 3, 0, 0.85))
    season = rng.random()
    hue = rng.uniform(0.16, 0.4) if season < 0.7 else rng.uniform(0.07, 0.14)
    ground = (
        hsv(hue, rng.uniform(0.3, 0.7), rng.uniform(0.4, 0.75)) if season < 0.9 else (226.0, 232.0, 240.0)
    )
    for hill in range(int(rng.integers(0, 4))):
        line = _ridge(rng, width, height * (horizon - 0.14 + 0.04 * hill), height * 0.06)
        _blend(planes, mix(mix(ground, haze, 0.65 - 0.15 * hill), zenith, 0.15), _below(line, height))
    lawn = _below(_ridge(rng, width, height * horizon, height * 0.012), height)
    _blend(planes, ground, lawn)
    top = int(height * horizon * 0.96)
    blade = grain(rng, width, height - top)[0] * np.linspace(4, 14, height - top, dtype=np.float32)[:, None]
    patch = clouds(rng, width, height - top, 0.5, 0.25) * 40
    planes[:, top:] += (blade + patch) * lawn[top:]
    canvas = Canvas(planes)
    for _ in range(int(rng.integers(0, 4))):
        _tree(
            canvas,
            rng,
            rng.uniform(0, width),
            height * (horizon + rng.uniform(0, 0.06)),
            height * rng.uniform(0.1, 0.3),
        )
    for _ in range(int(rng.integers(0, 25))):
        y = rng.uniform(horizon + 0.03, 1)
        size = height * 0.014 * (0.3 + y)
        canvas.fill(ellipse(rng.uniform(0, width), y * height, size, size * 0.7, points=10), _any(rng), lit=0)
    return planes, horizon


def _tree(canvas: Canvas, rng: Generator, x: float, y: float, size: float) -> None:
    backbone = np.array([[x, y], [x, y - size]])
    canvas.fill(tube(backbone, size * 0.12), (96, 72, 54))
    green = hsv(rng.uniform(0.18, 0.42), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6))
    if rng.random() < 0.5:
        for step in range(3):
            up, half = y - size * (0.3 + 0.35 * step), size * (0.42 - 0.1 * step)
            canvas.fill(np.array([[x - half, up], [x, up - size * 0.55], [x + half, up]]), green, lit=0.3)
    else:
        for _ in range(4):
            at = ellipse(
                x + size * rng.uniform(-0.25, 0.25), y - size * rng.uniform(0.7, 1.2), size * 0.3, size * 0.28
            )
            canvas.fill(at, green, lit=0.35)


def sea(rng: Generator, width: int, height: int) -> tuple[Planes, float]:
    """Paint the sea from within, down to its sandy floor."""
    horizon = rng.uniform(0.68, 0.9)
    hue = rng.uniform(0.45, 0.62)
    near, far = (
        hsv(hue, rng.uniform(0.3, 0.7), rng.uniform(0.6, 0.95)),
        hsv(hue + 0.05, 0.75, rng.uniform(0.25, 0.55)),
    )
    planes = _ramp(near, far, width, height)
    x = np.linspace(0, 1, width, dtype=np.float32)[None]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    slope, number = rng.uniform(-0.6, 0.6), rng.uniform(3, 8)
    rays = np.sin((x + slope * y) * number * 6.28) + np.sin((x + slope * 0.8 * y) * number * 9.7 + 2)
    planes += np.clip(rays, 0, 2) * (1 - y) * np.float32(rng.uniform(5, 22))
    planes += clouds(rng, width, height, 0.35, 0.35) * 18
    sand = hsv(rng.uniform(0.08, 0.14), rng.uniform(0.15, 0.45), rng.uniform(0.5, 0.9))
    bed = _below(_ridge(rng, width, height * horizon, height * 0.03), height)
    _blend(planes, mix(sand, near, 0.25), bed)
    top = int(height * (horizon - 0.1))
    planes[:, top:] += (
        clouds(rng, width, height - top, 0.6, 0.1) * 40 + grain(rng, width, height - top)[0] * 6
    ) * bed[top:]
    canvas = Canvas(planes)
    for _ in range(int(rng.integers(0, 8))):  # weeds
        foot, tall = rng.uniform(0, width), height * rng.uniform(0.15, 0.5)
        colour = mix(hsv(rng.uniform(0.2, 0.5), 0.7, rng.uniform(0.25, 0.6)), far, 0.3)
        base = height * rng.uniform(horizon, 1.0)
        sway = tall * rng.uniform(-0.35, 0.35)
        path = bend((foot, base), (foot - sway, base - tall * 0.5), (foot + sway, base - tall))
        canvas.fill(tube(path, np.linspace(0.06, 0.01, 12) * height), colour)
    for _ in range(int(rng.integers(0, 14))):  # bubbles
        at, size = (
            (rng.uniform(0, width), rng.uniform(0, horizon) * height),
            height * rng.uniform(0.006, 0.025),
        )
        canvas.fill(ellipse(*at, size, size, points=16), light(near, 0.6), opacity=0.5, gloss=0.5)
    return planes, horizon


# --- others ---------------------------------------------------------------------------------------


def desk(rng: Generator, width: int, height: int) -> tuple[Planes, float]:
    """Paint a desk from above, with papers on it."""
    wood = hsv(rng.uniform(0.03, 0.13), rng.uniform(0.15, 0.65), rng.uniform(0.3, 0.9))
    wood = wood if rng.random() < 0.65 else _any(rng)
    planes = _ramp(light(wood, rng.uniform(0, 0.3)), dark(wood, rng.uniform(0, 0.3)), width, height)
    fibre = (
        clouds(rng, width, height, 0.08, 0.9) if rng.random() < 0.5 else clouds(rng, width, height, 0.9, 0.1)
    )
    planes += fibre * np.float32(rng.uniform(25, 70)) + np.sin(fibre * 30) * np.float32(rng.uniform(0, 8))
    canvas = Canvas(planes)
    for _ in range(int(rng.integers(0, 5))):
        paper, size = _pale(rng), height * rng.uniform(0.2, 0.5)
        turn, x, y = rng.uniform(0, math.pi), rng.uniform(0, width), rng.uniform(0, height)
        c, s = math.cos(turn), math.sin(turn)
        spin = np.array([[c, s], [-s, c]]) * size
        sheet = np.array([[-0.5, -0.7], [0.5, -0.7], [0.5, 0.7], [-0.5, 0.7]]) @ spin + (x, y)
        canvas.fill(sheet + np.array([0.02, 0.03]) * height, (20, 18, 16), opacity=0.3, lit=0, round_=0)
        canvas.fill(sheet, paper, lit=0.06, round_=0)
        for line in range(int(rng.integers(0, 7))):
            rule = np.array([[-0.38, -0.5 + 0.15 * line], [rng.uniform(0, 0.4), -0.5 + 0.15 * line]])
            canvas.fill(tube(rule @ spin + (x, y), size * 0.025), dark(paper, 0.45), lit=0, round_=0)
    if rng.random() < 0.4:  # the mark of a wet glass
        angle = np.linspace(0, 2 * np.pi, 40)
        r, x, y = height * rng.uniform(0.07, 0.14), rng.uniform(0, width), rng.uniform(0, height)
        circle = np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], axis=1)
        canvas.fill(tube(circle, r * 0.12), dark(wood, 0.6), opacity=0.4, lit=0)
    return planes, 0.0


def lights(rng: Generator, width: int, height: int) -> tuple[Planes, float]:
    """Paint colours out of focus, with discs of light."""
    grid = np.stack([_any(rng) for _ in range(20)]).reshape(4, 5, 3).astype(np.uint8)
    soft = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    planes = np.ascontiguousarray(soft.transpose(2, 0, 1)).astype(np.float32)
    planes += clouds(rng, width, height, rng.uniform(0.1, 1.0), rng.uniform(0.1, 1.0)) * np.float32(
        rng.uniform(10, 60)
    )
    canvas = Canvas(planes)
    for _ in range(int(rng.integers(0, 16))):
        size = height * rng.uniform(0.02, 0.12)
        disc = ellipse(rng.uniform(0, width), rng.uniform(0, height), size, size, points=24)
        canvas.fill(disc, light(_any(rng), 0.5), opacity=rng.uniform(0.15, 0.5), lit=0, round_=-0.2)
    return planes, 0.0


BACKGROUNDS: dict[str, Painter] = {
    "room": room,
    "meadow": meadow,
    "sea": sea,
    "desk": desk,
    "lights": lights,
}
"""The painters, by name."""

COMMON = ["room", "room", "meadow", "meadow", "sea", "desk", "lights"]
"""Their names, the more frequent ones twice."""
