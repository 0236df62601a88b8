"""Small drawn sets with known boxes, and the boxes that a reader gives, as corners in pixels."""

import json
from pathlib import Path

from PIL import Image

from solobox.boxes import convert
from solobox.data import formats

SIZE = (96, 64)
Box = tuple[float, float, float, float]
BOXES: list[Box] = [(7 + 3 * i, 5 + 2 * i, 41 + 6 * i, 33 + 3 * i) for i in range(4)]


def draw(folder: Path, count: int = 4, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", size, (index, 9, 9)).save(folder / f"{index}.png")
    return folder


def put_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def xywh(box: Box) -> list[float]:
    return [float(value) for value in convert(box, "xyxy", "xywh")]


def pixels(annotations: formats.Annotations, size: tuple[int, int] = SIZE) -> list[Box | None]:
    """The boxes of all records, by the layout that the reader states."""
    layout = annotations.layout
    boxes: list[Box | None] = []
    for record in annotations.records:
        if record.box is None:
            boxes.append(None)
            continue
        scaled = [
            value * {"pixels": 1.0, "fractions": side, "percent": side / 100}[layout.unit]
            for value, side in zip(record.box, (*size, *size), strict=True)
        ]
        x1, y1, x2, y2 = (round(float(value), 6) for value in convert(scaled, layout.order, "xyxy"))
        boxes.append((x1, y1, x2, y2))
    return boxes
