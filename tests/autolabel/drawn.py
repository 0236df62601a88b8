"""Things that draw themselves, for labelers to find, with where they are."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Box = tuple[float, float, float, float]


def face(
    size: tuple[int, int] = (300, 240), centre: tuple[int, int] = (150, 120), radius: int = 60
) -> Image.Image:
    """A face from the front, `radius` about half its width; its centre is between eyes and nose."""
    image = Image.new("RGB", size, (120, 140, 150))
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, a: float, b: float, color: tuple[int, int, int]) -> None:
        x, y, a, b = centre[0] + x * radius, centre[1] + y * radius, a * radius, b * radius
        draw.ellipse((x - a, y - b, x + a, y + b), fill=color)

    ellipse(0, -0.15, 1.05, 1.45, (50, 35, 25))
    ellipse(0, 0, 0.85, 1.2, (225, 180, 150))
    for side in (-1, 1):
        ellipse(side * 0.38, -0.28, 0.24, 0.08, (70, 50, 40))
        ellipse(side * 0.38, -0.12, 0.2, 0.12, (90, 60, 50))
        ellipse(side * 0.38, -0.12, 0.09, 0.09, (20, 15, 15))
        ellipse(side * 0.5, 0.25, 0.2, 0.15, (235, 190, 165))
    ellipse(0, 0.15, 0.1, 0.3, (240, 200, 175))
    ellipse(0, 0.42, 0.16, 0.05, (160, 110, 95))
    ellipse(0, 0.68, 0.32, 0.09, (150, 70, 70))
    return image.filter(ImageFilter.GaussianBlur(radius / 40))


def person(centre: int = 130, top: int = 60, height: int = 220) -> tuple[Image.Image, Box]:
    """The dark shape of a person who stands before a light wall."""
    image = Image.new("RGB", (260, 340), (190, 195, 200))
    draw = ImageDraw.Draw(image)
    unit, dark = height / 8, (40, 40, 50)
    draw.ellipse((centre - unit / 2, top, centre + unit / 2, top + 1.15 * unit), fill=dark)
    backbone = (centre - unit, top + 1.3 * unit, centre + unit, top + 4.2 * unit)
    draw.rounded_rectangle(backbone, radius=unit / 2, fill=dark)
    for side in (-1, 1):
        leg = [(0.85, 4), (0.1, 4), (0.35, 8), (0.95, 8)]
        draw.polygon([(centre + side * x * unit, top + y * unit) for x, y in leg], fill=dark)
    return image.filter(ImageFilter.GaussianBlur(1)), (centre - unit, top, centre + unit, top + height)


def thing(box: Box = (50, 40, 141, 101), seed: int = 0) -> npt.NDArray[np.uint8]:
    """A red ellipse in `box` on a grainy wall whose light changes; shape (150, 200, 3)."""
    rng = np.random.default_rng(seed)
    wall = np.linspace(120, 170, 200)[None, :, None] + rng.normal(0, 6, (150, 200, 3))
    image = Image.fromarray(np.clip(wall, 0, 255).astype(np.uint8))
    x1, y1, x2, y2 = box
    ImageDraw.Draw(image).ellipse((x1, y1, x2 - 1, y2 - 1), fill=(200, 40, 40))
    return np.array(image)


def plain_images(folder: Path, count: int, size: tuple[int, int] = (40, 30)) -> list[Path]:
    """Images of one grey each, whose level is their number."""
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", size, (number, number, number)).save(path)
    return paths
