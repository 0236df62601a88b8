"""Whole scenes: one object on a background, and its box."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from solobox.boxes import Floats
from solobox.synthetic.backgrounds import BACKGROUNDS, COMMON, grain
from solobox.synthetic.canvas import Brush, Canvas, Colour, Planes, hsv
from solobox.synthetic.clutter import DISTRACTORS, OCCLUDERS
from solobox.synthetic.objects import KINDS

_MIN_INSIDE = 0.62  # share of the object's area inside the frame
_MAX_HIDDEN = 0.28  # share of it that something in front hides


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A drawn image.

    pixels: shape (h, w, 3), uint8, RGB, C-contiguous.
    box: shape (4,), float64, ``x1, y1, x2, y2`` in pixels; None without an object. See `draw`.
    label: the kind of object, or the empty string.
    """

    pixels: NDArray[np.uint8]
    box: Floats | None
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """An object without its background, and its position.

    planes: shape (4, h, w), float32, colours premultiplied by alpha (0..1). x, y: position of their corner in the
    frame. label: the kind. stands: whether it stands on the ground.
    """

    planes: Planes
    x: int
    y: int
    label: str
    stands: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is chosen before anything is painted."""

    seed: int
    width: int
    height: int
    label: str
    background: str
    light: tuple[float, float]
    share: tuple[float, float] | None

    def rng(self, stream: int) -> Generator:
        """A random generator for one step, so that steps do not depend on each other."""
        return np.random.default_rng([self.seed, stream])


def draw(
    seed: int,
    size: tuple[int, int] = (320, 240),
    *,
    empty: bool = False,
    object_share: tuple[float, float] | None = None,
) -> Scene:
    """Draw a scene of ``size`` (width, height) in pixels, 16 or more each way.

    The same arguments give the same pixels, whatever was drawn before. With `empty` it is the same scene without its
    object and the object's shadow. object_share: least and greatest size of the object, roughly, as a share of the
    image's shorter side, such as ``(0.02, 0.08)``; by default 0.16 to 0.76. The least has 8 pixels or more.

    The box is exact: it encloses the pixels of which the object covers more than half, inside the frame; a part that
    something in front hides still counts. At least 60 % of the object's area is inside the frame, and at most 30 % of
    it is hidden.
    """
    scene = Composition(seed, size, object_share)
    pixels = scene.paint(body=not empty, shadow=not empty)
    return Scene(pixels, None, "") if empty else Scene(pixels, scene.box, scene.sprite.label)


class Composition:
    """A scene that can be painted with and without its object.

    sprite: the object. box: its box within the frame, shape (4,), float64.
    """

    def __init__(
        self, seed: int, size: tuple[int, int], object_share: tuple[float, float] | None = None
    ) -> None:
        width, height = size
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, not {seed}")
        if width < 16 or height < 16:
            raise ValueError(f"size must be 16 pixels or more each way, not {width}x{height}")
        if object_share and not 8 <= object_share[0] * min(size) <= object_share[1] * min(size) <= min(size):
            raise ValueError(f"an object of 8 pixels or more must fit into {width}x{height}: {object_share}")
        self._plan = _plan(seed, width, height, object_share)
        self._ground, self._horizon = BACKGROUNDS[self._plan.background](self._plan.rng(1), width, height)
        self.sprite = _place(self._plan, _paint_object(self._plan), self._horizon)
        self.box = box_of(self.sprite, size)

    def paint(self, *, body: bool, shadow: bool) -> NDArray[np.uint8]:
        """Paint it, shape (h, w, 3), uint8, with or without the object and its shadow."""
        canvas = Canvas(self._ground.copy(), self._plan.light)
        _paint_distractors(self._plan, canvas, self._horizon, self.sprite, self.box)
        if shadow:
            _cast_shadow(canvas, self.sprite, self.box, self._horizon)
        if body:
            rows, columns, layer = _in_frame(self.sprite, canvas.planes)
            canvas.planes[:, rows, columns] *= 1 - layer[3]
            canvas.planes[:, rows, columns] += layer[:3]
        _paint_occluder(self._plan, canvas, self.sprite, self.box)
        return _finish(self._plan, canvas.planes)


def box_of(sprite: Sprite, size: tuple[int, int]) -> Floats:
    """The box of a sprite within a frame of ``size`` (width, height): shape (4,), whole pixels."""
    width, height = size
    rows, columns, layer = _in_frame(sprite, np.empty((0, height, width), dtype=np.float32))
    solid = layer[3] > 0.5
    x, y = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    x1, y1 = columns.start, rows.start
    return np.array([x1 + x[0], y1 + y[0], x1 + x[-1] + 1, y1 + y[-1] + 1], dtype=np.float64)


def _in_frame(sprite: Sprite, frame: Planes) -> tuple[slice, slice, Planes]:
    """The rows and columns of a frame that a sprite covers, and its planes there."""
    height, width = sprite.planes.shape[1:]
    x1, y1 = max(sprite.x, 0), max(sprite.y, 0)
    x2, y2 = min(sprite.x + width, frame.shape[2]), min(sprite.y + height, frame.shape[1])
    layer = sprite.planes[:, y1 - sprite.y : y2 - sprite.y, x1 - sprite.x : x2 - sprite.x]
    return slice(y1, y2), slice(x1, x2), layer


def _plan(seed: int, width: int, height: int, share: tuple[float, float] | None) -> _Plan:
    rng = np.random.default_rng([seed, 0])
    label = str(rng.choice(sorted(KINDS)))
    home, often = KINDS[label].home
    background = home if rng.random() < often else str(rng.choice(COMMON))
    side, steep = rng.choice([-1.0, 1.0]), rng.uniform(0.5, 1.2)
    light = float(side * math.cos(steep)), -math.sin(steep)
    return _Plan(seed, width, height, label, background, light, share)


# --- the object -----------------------------------------------------------------------------------


def _paint_object(plan: _Plan) -> Planes:
    """Paint the object on a transparent canvas, cropped to its solid pixels and one more: shape (4, h, w)."""
    rng, kind = plan.rng(2), KINDS[plan.label]
    share = 0.16 + 0.6 * float(rng.beta(1.25, 1.5)) if plan.share is None else float(rng.uniform(*plan.share))
    scale = share * min(plan.width, plan.height) / 2 * kind.unit
    half = math.ceil(1.6 * scale) + 2
    canvas = Canvas(np.zeros((4, 2 * half, 2 * half), dtype=np.float32), plan.light)
    brush = Brush(
        canvas,
        half + float(rng.uniform(-0.5, 0.5)),
        half + float(rng.uniform(-0.5, 0.5)),
        scale,
        turn=float(rng.uniform(-kind.turn, kind.turn)),
        mirror=bool(rng.random() < 0.5),
        stretch=float(rng.uniform(0.88, 1.14)),
    )
    kind.paint(brush, rng)
    solid = canvas.planes[3] > 0.5
    x, y = np.flatnonzero(solid.any(axis=0)), np.flatnonzero(solid.any(axis=1))
    return canvas.planes[:, max(y[0] - 1, 0) : y[-1] + 2, max(x[0] - 1, 0) : x[-1] + 2]


def _place(plan: _Plan, planes: Planes, horizon: float) -> Sprite:
    """Choose a position in the frame: on the ground if it stands, sometimes cut off by the frame."""
    rng, stands = plan.rng(4), KINDS[plan.label].stands and horizon > 0
    height, width = planes.shape[1:]
    right, down = plan.width - width, plan.height - height
    x = int(rng.integers(min(1, right // 2), max(right, 2)))
    highest = min(1, down // 2)
    if stands:
        highest = max(highest, min(round(horizon * plan.height) + 2 - height, down - 2))
    y = int(rng.integers(highest, max(down, highest + 1)))
    if rng.random() < 0.16:
        x, y = _over_the_edge(plan, rng, planes[3], (x, y), stands=stands)
    return Sprite(planes, x, y, plan.label, stands)


def _over_the_edge(
    plan: _Plan, rng: Generator, alpha: Planes, position: tuple[int, int], *, stands: bool
) -> tuple[int, int]:
    """Move a position so that one edge of the frame cuts off some of the object, but never too much."""
    across = bool(rng.random() < 0.6)
    profile = alpha.sum(axis=0 if across else 1)
    first = bool(rng.random() < 0.5) and (across or not stands)  # nothing stands at the top of a wall
    gone = np.cumsum(profile if first else profile[::-1]) / profile.sum()
    most = int(np.searchsorted(gone, 1 - _MIN_INSIDE))  # this many columns or rows leave at least that share
    cut = int(rng.integers(most // 4, most + 1))
    at = -cut if first else (plan.width if across else plan.height) - len(profile) + cut
    return (at, position[1]) if across else (position[0], at)


def _palette(sprite: Sprite, rng: Generator) -> list[Colour]:
    """Colours of the object, for the clutter."""
    y, x = np.nonzero(sprite.planes[3] > 0.99)
    if len(x) == 0:
        return [hsv(float(rng.random()), 0.6, 0.8)]
    picks = rng.integers(0, len(x), 4)
    return [tuple(sprite.planes[:3, y[at], x[at]].tolist()) for at in picks]


# --- the rest -------------------------------------------------------------------------------------


def _paint_distractors(plan: _Plan, canvas: Canvas, horizon: float, sprite: Sprite, box: Floats) -> None:
    """Paint distractors, some in the object's colours, behind and beside it."""
    rng, palette = plan.rng(5), _palette(sprite, plan.rng(3))
    x1, _, x2, y2 = (float(edge) for edge in box)
    count = int(rng.choice([0, 2, 3, 4, 6, 9]))
    middles = np.sort(rng.uniform(horizon + 0.02, 1.02, count) if horizon > 0 else rng.uniform(0, 1, count))
    for middle in middles:
        size = min(plan.width, plan.height) * float(rng.uniform(0.035, 0.15)) * (0.6 + 0.6 * float(middle))
        x, y = float(rng.uniform(0, plan.width)), float(middle) * plan.height
        colour = palette[int(rng.integers(len(palette)))]
        if rng.random() < 0.45:
            colour = hsv(float(rng.random()), float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.3, 0.95)))
        if sprite.stands and y > y2 - size and x1 - size < x < x2 + size:
            continue  # it would be under the object, or in front of it
        canvas.shadow(x - size * canvas.light[0] * 0.4, y + size * 0.75, size * 1.1, size * 0.32, 0.4)
        turn = float(rng.normal(0, 0.12) if horizon > 0 else rng.uniform(-3.1, 3.1))
        brush = Brush(canvas, x, y, size, turn, mirror=bool(rng.random() < 0.5))
        DISTRACTORS[int(rng.integers(len(DISTRACTORS)))](brush, rng, colour)


def _cast_shadow(canvas: Canvas, sprite: Sprite, box: Floats, horizon: float) -> None:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    width, height = x2 - x1, y2 - y1
    lx, ly = canvas.light
    middle = (x1 + x2) / 2
    if sprite.stands:
        canvas.shadow(middle - lx * width * 0.18, y2 - width * 0.03, width * 0.55, width * 0.13, 0.5)
        canvas.shadow(middle, y2 - width * 0.02, width * 0.42, width * 0.05, 0.4)
    elif horizon == 0:  # seen from above, or against a wall
        canvas.shadow(
            middle - lx * width * 0.1, (y1 + y2) / 2 - ly * height * 0.1, width * 0.5, height * 0.5, 0.45
        )
    else:
        ground = max(y2 + height * 0.15, (horizon + 0.06) * canvas.planes.shape[1])
        canvas.shadow(middle - lx * width * 0.3, ground, width * 0.4, width * 0.07, 0.3)


def _paint_occluder(plan: _Plan, canvas: Canvas, sprite: Sprite, box: Floats) -> None:
    """Sometimes put something in front of the object."""
    rng = plan.rng(6)
    if rng.random() > 0.24:
        return
    x1, y1, x2, y2 = (float(edge) for edge in box)
    rows, columns, layer = _in_frame(sprite, canvas.planes)
    for _ in range(4):
        front = Canvas(np.zeros((4, plan.height, plan.width), dtype=np.float32), plan.light)
        size = math.sqrt((x2 - x1) * (y2 - y1)) * float(rng.uniform(0.2, 0.42))
        at = float(rng.uniform(x1, x2)), float(rng.uniform((y1 + y2) / 2, y2))
        brush = Brush(front, *at, size, turn=float(rng.normal(0, 0.15)), mirror=bool(rng.random() < 0.5))
        colour = hsv(float(rng.random()), float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.25, 0.95)))
        OCCLUDERS[int(rng.integers(len(OCCLUDERS)))](brush, rng, colour)
        hidden = (front.planes[3, rows, columns] * layer[3]).sum() / layer[3].sum()
        if hidden <= _MAX_HIDDEN:
            canvas.planes *= 1 - front.planes[3]
            canvas.planes += front.planes[:3]
            return


def _finish(plan: _Plan, planes: Planes) -> NDArray[np.uint8]:
    """Add uneven light, a tint, slight blur and noise, as a lamp and a camera do. Changes `planes`."""
    rng, (height, width) = plan.rng(7), planes.shape[1:]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    fall, rim = np.float32(rng.uniform(0, 0.22)), np.float32(rng.uniform(0, 0.16))
    lx, ly = plan.light
    level = (1 + fall * lx * x - rim * x * x) + (fall * ly * y - rim * y * y)[:, None]
    gain = rng.uniform(0.75, 1.12) + rng.uniform(-0.05, 0.05, 3)
    base = rng.uniform(-6, 14)
    for plane, part in zip(planes, gain, strict=True):
        plane *= level * np.float32(part)
        plane += np.float32(base)
    std = np.float32(rng.uniform(0, 0.25) if rng.random() < 0.5 else 0)
    if std > 0:
        inner = planes[:, 1:-1] * (1 - 2 * std)
        inner += (planes[:, :-2] + planes[:, 2:]) * std
        planes[:, 1:-1] = inner
        inner = planes[:, :, 1:-1] * (1 - 2 * std)
        inner += (planes[:, :, :-2] + planes[:, :, 2:]) * std
        planes[:, :, 1:-1] = inner
    planes += grain(rng, width, height) * np.float32(max(rng.normal(2.5, 2.5), 0))
    np.clip(planes, 0, 255, out=planes)
    planes += np.float32(0.5)
    return np.ascontiguousarray(planes.astype(np.uint8).transpose(1, 2, 0))
