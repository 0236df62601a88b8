"""The bounds of COCO's segmentations: polygons, and run-length masks with their runs as numbers or as text."""

from collections.abc import Mapping
from typing import Any

from solobox.data.formats.parsing import NOT_A_BOX, number


def is_segmented(segmentation: object) -> bool:
    """Whether there is an outline or a mask; ``[]`` and ``[[]]`` are none."""
    return any(segmentation) if isinstance(segmentation, list) else bool(segmentation)


def segmentation_bounds(segmentation: object) -> tuple[float, float, float, float]:
    """x, y, width and height of what polygons or a run-length mask cover; NaN where there is neither."""
    if isinstance(segmentation, dict):
        return _mask_bounds(segmentation)
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [
        [number(value) for value in polygon] for polygon in polygons if isinstance(polygon, list) and polygon
    ]
    if not numbers or any(len(polygon) % 2 for polygon in numbers):
        return NOT_A_BOX
    x = [value for polygon in numbers for value in polygon[::2]]
    y = [value for polygon in numbers for value in polygon[1::2]]
    if any(value != value for value in (*x, *y)):
        return NOT_A_BOX
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _mask_bounds(mask: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The bounds of a run-length mask: ``size`` is height and width, ``counts`` are runs down the columns."""
    size, counts = mask.get("size"), mask.get("counts")
    height = int(number(size[0]) or 0) if isinstance(size, list) and size and number(size[0]) > 0 else 0
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not height or not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return NOT_A_BOX
    left = top = right = bottom = -1
    start = 0
    for at, run in enumerate(runs):
        if at % 2 and run:
            first, last = start, start + run - 1
            columns = first // height, last // height
            rows = (first % height, last % height) if columns[0] == columns[1] else (0, height - 1)
            left = columns[0] if left < 0 else left
            right = columns[1]
            top = rows[0] if top < 0 else min(top, rows[0])
            bottom = max(bottom, rows[1])
        start += run
    return NOT_A_BOX if left < 0 else (left, top, right + 1 - left, bottom + 1 - top)


def _runs(text: str) -> list[int] | None:
    """The runs in COCO's compressed text: numbers of 5 bits a character, from the third on as differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
