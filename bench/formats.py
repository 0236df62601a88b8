"""How long 100,000 rows of each format take to read, and to check without decoding: python bench/formats.py [ROWS].

All images are links to a few small ones. Beside the seconds are those of the processor, user and system: other work on
the machine changes them less.
"""

import json
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


def write_labelme(folder: Path, records: list[Record]) -> Path:
    """A file for each image."""
    for record in records:
        x1, y1, x2, y2 = record.box or (0, 0, 0, 0)
        shape = {"label": record.label, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
        content: dict[str, object] = {
            "version": "5.0", "flags": {}, "shapes": [shape], "imagePath": f"../{record.image}", "imageData": None,
            "imageWidth": SIZE[0], "imageHeight": SIZE[1],
        }  # fmt: skip
        (folder / f"{record.path.stem}.json").write_text(json.dumps(content))
    return folder


def write_cvat(folder: Path, records: list[Record]) -> Path:
    """One file."""
    path = folder / "annotations.xml"
    with path.open("w") as file:
        file.write("<annotations>\n<version>1.1</version>\n")
        for record in records:
            x1, y1, x2, y2 = record.box or (0, 0, 0, 0)
            file.write(
                f'<image id="{record.row}" name="../{record.image}" width="{SIZE[0]}" height="{SIZE[1]}">'
                f'<box label="{record.label}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/></image>\n'
            )
        file.write("</annotations>\n")
    return path


def write_masks(folder: Path, records: list[Record]) -> Path:
    """Links to one mask, and to the images."""
    (folder / "images").symlink_to(folder.parent / "images", target_is_directory=True)
    (folder / "masks").mkdir()
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[10:40, 10:40] = 255
    paths = [folder / "masks" / record.path.name for record in records]
    for row, path in enumerate(paths):
        if row % LINKS:
            path.hardlink_to(paths[row - row % LINKS])
        else:
            Image.fromarray(mask).save(path)
    return folder


def write_all(root: Path, records: list[Record]) -> dict[str, Path]:
    """Write the records in each format; gives the paths to read."""
    data = {}
    for name, file in (("csv", "labels.csv"), ("coco", "labels.json"), ("label-studio", "labels.json")):
        data[name] = root / name / file
        data[name].parent.mkdir()
    data |= {name: root / name for name in ("voc", "yolo")}
    for name, path in data.items():
        formats.write(path, records, name)
    # Boxes are written for people to correct, as predictions; what they corrected are annotations.
    corrected = data["label-studio"].read_text().replace('"predictions"', '"annotations"')
    data["label-studio"].write_text(corrected)
    for name, write in (("labelme", write_labelme), ("cvat", write_cvat), ("masks", write_masks)):
        folder = root / name
        folder.mkdir()
        data[name] = write(folder, records)
    moved = root / "moved.csv"
    csv.write(moved, records)
    moved.write_text(moved.read_text().replace("images/", "C:\\Users\\me\\set\\images\\"))
    return data | {"csv, foreign paths": moved}


def main() -> None:
    """Print a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        records = draw(root, rows)
        data = write_all(root, records)
        print(f"{rows:,} rows | read, s (processor, s) | check, s (processor, s)")
        for name, path in data.items():
            started = time.perf_counter(), time.process_time()
            annotations = formats.read(path)
            middle = time.perf_counter(), time.process_time()
            diagnosis = checks.check(annotations, "headers")
            ended = time.perf_counter(), time.process_time()
            codes = sorted({finding.code for finding in diagnosis.findings})
            print(
                f"{name} | {middle[0] - started[0]:.1f} ({middle[1] - started[1]:.1f}) | "
                f"{ended[0] - middle[0]:.1f} ({ended[1] - middle[1]:.1f}) | {len(annotations.records):,} {codes}",
                flush=True,
            )


if __name__ == "__main__":
    main()
