"""Draws the images that the cases of annotations are about."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from solobox.boxes import convert, scale
from solobox.data.formats import Annotations, Record

SIZE = (120, 80)
BOX = {index: (12.0 + 3 * index, 6.0 + 2 * index, 60.0 + 4 * index, 44.0 + 3 * index) for index in range(8)}
"""The true box of each image, corners in pixels."""


def draw(path: Path, shade: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 20 * shade).save(path)
    return path


def draw_all(folder: Path, indices: Iterable[int] = range(6), name: str = "{}.png") -> None:
    for index in indices:
        draw(folder / name.format(index), index)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def xywh(index: int) -> list[float]:
    return [float(value) for value in convert(BOX[index], "xyxy", "xywh")]


def yolo_line(index: int, box: tuple[float, float, float, float] | None = None) -> str:
    fractions = scale(convert(box or BOX[index], "xyxy", "cxcywh"), 1 / SIZE[0], 1 / SIZE[1])
    return "0 " + " ".join(f"{value:.6f}" for value in fractions)


def in_pixels(record: Record, found: Annotations) -> tuple[float, ...]:
    """A record's box as corners in pixels, by the layout of its file."""
    assert record.box is not None
    box = convert(record.box, found.layout.order, "xyxy")
    if found.layout.unit == "fractions":
        box = scale(box, *SIZE)
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1 - found.layout.first, y1 - found.layout.first, x2, y2


def codes(found: Annotations) -> list[str]:
    return sorted({problem.code for problem in found.problems})


def index_of(record: Record, stem: Callable[[str], str] = lambda stem: stem) -> int:
    return int(stem(record.path.stem))
