"""How long 100,000 rows of each format take to read, and to check without decoding: python bench/formats.py [ROWS].

All images are links to a few small ones. The last column is the reading of a CSV whose paths are of another computer.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from solobox.boxes import convert
from solobox.data import checks, formats
from solobox.data.formats import Record, csv

SIZE = (64, 48)
LINKS = 20_000
"""Of one file: some file systems allow 65,000."""


def draw(root: Path, rows: int) -> list[Record]:
    """Draw the images, and a box in each that lies in it."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (rows, 2))
    boxes = convert(np.hstack([corner, rng.integers(8, 28, (rows, 2))]), "xywh", "xyxy")
    (root / "images").mkdir(parents=True)
    records, first = [], root / "images" / "000000.png"
    for row, box in enumerate(boxes.tolist()):
        path = root / "images" / f"{row:06d}.png"
        if row % LINKS:
            path.hardlink_to(first)
        else:
            first = path
            Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)).save(first)
        records.append(Record(row, "", f"images/{path.name}", path, tuple(box), label="thing"))
    return records


def main() -> None:
    """Print a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        records = draw(root, rows)
        data = {
            name: root / name / ("labels.csv" if name == "csv" else "labels.json") for name in ("csv", "coco")
        }
        data |= {name: root / name for name in ("voc", "yolo")}
        for name, path in data.items():
            if name in {"csv", "coco"}:
                path.parent.mkdir()
            formats.write(path, records, name)
        moved = root / "moved.csv"
        csv.write(moved, records)
        moved.write_text(moved.read_text().replace("images/", "C:\\Users\\me\\set\\images\\"))
        print(f"{rows:,} rows | read, s | check, s")
        for name, path in [*data.items(), ("csv, foreign paths", moved)]:
            start = time.perf_counter()
            annotations = formats.read(path)
            middle = time.perf_counter()
            diagnosis = checks.check(annotations, "headers")
            end = time.perf_counter()
            codes = sorted({finding.code for finding in diagnosis.findings})
            print(
                f"{name} | {middle - start:.1f} | {end - middle:.1f} | {len(annotations.records):,} {codes}",
                flush=True,
            )


if __name__ == "__main__":
    main()
