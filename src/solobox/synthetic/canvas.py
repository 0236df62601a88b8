"""Painting shaded, anti-aliased shapes on arrays.

Outlines are closed polygons, shape (n, 2), in pixels, x to the right and y down. Images are planar float32,
shape (channels, h, w), 0 to 255 in the colours: numpy works along whole rows that way, several times faster
than on interleaved pixels. An optional fourth channel is alpha, 0 to 1; the colours are then premultiplied by it.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Outline: TypeAlias = NDArray[np.float64]
Planes: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]

WHITE: Colour = (250.0, 250.0, 248.0)
INK: Colour = (28.0, 24.0, 32.0)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue (any number, one turn a unit), a saturation and a value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return red * 255, green * 255, blue * 255


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """A colour between two others; share 0 is the first, 1 the second."""
    red, green, blue = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return red, green, blue


def dark(colour: Colour, share: float = 0.35) -> Colour:
    """A darker shade, slightly blue, as shadows are."""
    return mix(colour, (20.0, 18.0, 38.0), share)


def light(colour: Colour, share: float = 0.35) -> Colour:
    """A lighter tint."""
    return mix(colour, (255.0, 252.0, 240.0), share)


# --- outlines -------------------------------------------------------------------------------------


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, points: int = 36) -> Outline:
    """An ellipse around ``(x, y)``, turned by an angle in radians."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    a, b = rx * np.cos(angle), ry * np.sin(angle)
    c, s = math.cos(turn), math.sin(turn)
    return np.stack([x + a * c - b * s, y + a * s + b * c], axis=1)


def rounded(x: float, y: float, width: float, height: float, radius: float, taper: float = 0.0) -> Outline:
    """A rectangle around ``(x, y)`` with round corners; by `taper` the top is wider than the bottom."""
    radius = min(radius, width / 2, height / 2)
    angle = np.linspace(0, np.pi / 2, 6)
    parts = []
    for quarter, (sx, sy) in enumerate([(1, 1), (-1, 1), (-1, -1), (1, -1)]):
        turn = angle + quarter * np.pi / 2
        cx, cy = sx * (width / 2 - radius), sy * (height / 2 - radius)
        parts.append(np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], axis=1))
    outline: Outline = np.concatenate(parts)
    outline[:, 0] *= 1 - taper * outline[:, 1] / height
    outline += np.array([x, y])
    return outline


def smooth(points: Sequence[tuple[float, float]] | Outline, steps: int = 6) -> Outline:
    """The closed smooth curve (Catmull-Rom) through some points."""
    p = np.asarray(points, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, p, after, beyond))
    curve = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * ((d - a) / 2 + 1.5 * (b - c))
    return curve.reshape(-1, 2)


def bend(start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float]) -> Outline:
    """The open Bezier curve of 12 points from `start` to `end` with the control point `middle`."""
    t = np.linspace(0, 1, 12)[:, None]
    curve: Outline = (
        (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(middle) + t**2 * np.array(end)
    )
    return curve


def tube(path: Outline, width: float | NDArray[np.float64]) -> Outline:
    """The outline of a stroke along an open path, shape (n, 2), with one width or a width per point."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    half = np.stack([-along[:, 1], along[:, 0]], axis=1) * (np.asarray(width) / 2).reshape(-1, 1)
    return np.concatenate([path + half, (path - half)[::-1]])


# --- painting -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """How much of each pixel a shape covers: mask of shape (h, w), 0..1, with its corner at ``(x, y)``."""

    x: int
    y: int
    mask: Planes


@dataclass(slots=True, eq=False)
class Canvas:
    """An image to paint on.

    planes: shape (3 or 4, h, w), float32; see above. Painted in place.
    light: direction towards the light in the image plane, a unit vector.
    """

    planes: Planes
    light: tuple[float, float] = (-0.6, -0.8)

    def cover(self, outlines: Sequence[Outline]) -> Stamp | None:
        """Rasterize outlines as one shape; None if it is outside."""
        height, width = self.planes.shape[1:]
        lower, upper = _extent(outlines)
        x1, y1 = max(math.floor(lower[0]), 0), max(math.floor(lower[1]), 0)
        x2, y2 = min(math.ceil(upper[0]), width), min(math.ceil(upper[1]), height)
        if x1 >= x2 or y1 >= y2:
            return None
        fine = 4 if (x2 - x1) * (y2 - y1) < 8000 else 3
        image = Image.new("L", ((x2 - x1) * fine, (y2 - y1) * fine))
        draw = ImageDraw.Draw(image)
        for outline in outlines:
            corners = ((outline - (x1, y1)) * fine - 0.5).ravel().tolist()
            draw.polygon(corners, fill=255)
        mask = np.asarray(image.reduce(fine)).astype(np.float32)
        mask *= 1 / 255
        return Stamp(x1, y1, mask)

    def fill(
        self,
        shape: Outline | Sequence[Outline],
        colour: Colour,
        *,
        lit: float = 0.22,
        round_: float = 0.10,
        gloss: float = 0.0,
        opacity: float = 1.0,
        clip: Stamp | None = None,
    ) -> Stamp | None:
        """Paint a shape, of one outline or several.

        lit: how much brighter it grows towards the light. round_: how much darker towards its rim.
        gloss: strength of a highlight. clip: paint only where this earlier shape is. Returns the shape, to clip
        others by.
        """
        outlines = [shape] if isinstance(shape, np.ndarray) else shape
        stamp = self.cover(outlines)
        if stamp is not None and clip is not None:
            stamp = _overlap(stamp, clip)
        if stamp is None:
            return None
        mask = stamp.mask if opacity == 1 else stamp.mask * np.float32(opacity)
        lower, upper = _extent(outlines)
        u, v = _axes(stamp, (lower + upper) / 2, np.maximum((upper - lower) / 2, 0.5))
        lx, ly = self.light
        shade = (1 + round_ / 3 + lit * lx * u - round_ * u * u) + (lit * ly * v - round_ * v * v)[:, None]
        shade *= mask
        self._lay(stamp, colour, mask, shade)
        if gloss > 0:
            across, down = np.exp(-(((u - 0.42 * lx) / 0.3) ** 2)), np.exp(-(((v - 0.48 * ly) / 0.3) ** 2))
            self._window(stamp)[:3] += (255 * gloss) * (mask * (across * down[:, None]))
        return stamp

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """Darken a soft ellipse around ``(x, y)``, where something stands."""
        height, width = self.planes.shape[1:]
        x1, x2 = max(int(x - 2 * rx), 0), min(int(x + 2 * rx) + 1, width)
        y1, y2 = max(int(y - 2 * ry), 0), min(int(y + 2 * ry) + 1, height)
        if x1 < x2 and y1 < y2:
            across = np.exp(-(((np.arange(x1, x2) + 0.5 - x) / rx) ** 2) * 1.2).astype(np.float32)
            down = np.exp(-(((np.arange(y1, y2) + 0.5 - y) / ry) ** 2) * 1.2).astype(np.float32)
            self.planes[:3, y1:y2, x1:x2] *= 1 - np.float32(strength) * across * down[:, None]

    def _window(self, stamp: Stamp) -> Planes:
        height, width = stamp.mask.shape
        return self.planes[:, stamp.y : stamp.y + height, stamp.x : stamp.x + width]

    def _lay(self, stamp: Stamp, colour: Colour, mask: Planes, shade: Planes | None = None) -> None:
        window = self._window(stamp)
        window *= 1 - mask
        shade = mask if shade is None else shade
        for plane, part in zip(window, colour, strict=False):
            plane += shade * np.float32(part)
        if len(window) == 4:
            window[3] += mask


def _extent(outlines: Sequence[Outline]) -> tuple[Outline, Outline]:
    """The minimum and maximum corner of outlines, shape (2,) each."""
    points = outlines[0] if len(outlines) == 1 else np.concatenate(outlines)
    return points.min(axis=0), points.max(axis=0)


def _axes(stamp: Stamp, centre: Outline, reach: Outline) -> tuple[Planes, Planes]:
    """The coordinates of the stamp's columns and rows, -1..1 across the whole shape."""
    height, width = stamp.mask.shape
    u = (np.arange(width) + (stamp.x + 0.5 - centre[0])) / reach[0]
    v = (np.arange(height) + (stamp.y + 0.5 - centre[1])) / reach[1]
    return u.astype(np.float32), v.astype(np.float32)


def _overlap(stamp: Stamp, other: Stamp) -> Stamp | None:
    x1, y1 = max(stamp.x, other.x), max(stamp.y, other.y)
    x2 = min(stamp.x + stamp.mask.shape[1], other.x + other.mask.shape[1])
    y2 = min(stamp.y + stamp.mask.shape[0], other.y + other.mask.shape[0])
    if x1 >= x2 or y1 >= y2:
        return None
    mine = stamp.mask[y1 - stamp.y : y2 - stamp.y, x1 - stamp.x : x2 - stamp.x]
    return Stamp(x1, y1, mine * other.mask[y1 - other.y : y2 - other.y, x1 - other.x : x2 - other.x])


@dataclass(slots=True, eq=False)
class Brush:
    """Paints shapes described around an origin, in units, at a position on a canvas.

    x, y: the origin in pixels. scale: pixels per unit. turn: radians, clockwise. mirror: left for
    right. stretch: height over width, relative to the description's.
    """

    canvas: Canvas
    x: float
    y: float
    scale: float
    turn: float = 0.0
    mirror: bool = False
    stretch: float = 1.0
    matrix: Outline = field(init=False)

    def __post_init__(self) -> None:
        c, s = math.cos(self.turn), math.sin(self.turn)
        sx, sy = (-1.0 if self.mirror else 1.0) * self.stretch**-0.5, self.stretch**0.5
        self.matrix = self.scale * np.array([[c, s], [-s, c]]) * np.array([[sx], [sy]])

    def fill(
        self,
        shape: Outline | Sequence[Outline],
        colour: Colour,
        *,
        lit: float = 0.22,
        round_: float = 0.10,
        gloss: float = 0.0,
        opacity: float = 1.0,
        clip: Stamp | None = None,
    ) -> Stamp | None:
        """Paint a shape given in units; see `Canvas.fill`."""
        outlines = [shape] if isinstance(shape, np.ndarray) else shape
        origin = np.array([self.x, self.y])
        return self.canvas.fill(
            [outline @ self.matrix + origin for outline in outlines],
            colour,
            lit=lit,
            round_=round_,
            gloss=gloss,
            opacity=opacity,
            clip=clip,
        )
