"""How long 100,000 rows of each format take to read, and to check without decoding: python bench/formats.py [ROWS].

The images are PNG of 64x48 pixels of noise, with 300 different contents. Each name is a file of its own, no link, and
so is each mask. Beside the seconds are those of the processor, user and system: other work on the machine changes them
less.
"""

import csv as python_csv
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from solobox.boxes import convert
from solobox.data import checks, formats
from solobox.data.formats import Record, csv

SIZE = (64, 48)
CONTENTS = 300
"""So many images are different; the others have the bytes of one of them."""


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def draw(root: Path, rows: int) -> list[Record]:
    """Draw the images, and a box in each that lies in it."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (rows, 2))
    boxes = convert(np.hstack([corner, rng.integers(8, 28, (rows, 2))]), "xywh", "xyxy")
    (root / "images").mkdir(parents=True)
    contents = [png(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)) for _ in range(CONTENTS)]
    records = []
    for row, box in enumerate(boxes.tolist()):
        path = root / "images" / f"{row:06d}.png"
        path.write_bytes(contents[row % CONTENTS])
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
    """A link to the folder of images, and a mask for each."""
    (folder / "images").symlink_to(folder.parent / "images", target_is_directory=True)
    (folder / "masks").mkdir()
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[10:40, 10:40] = 255
    content = png(mask)
    for record in records:
        (folder / "masks" / record.path.name).write_bytes(content)
    return folder


def write_via(folder: Path, records: list[Record]) -> Path:
    """The JSON of annotations of VIA 2."""
    path = folder / "via.json"
    content = {}
    for record in records:
        x, y, width, height = sides(record)
        shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
        regions = [{"shape_attributes": shape, "region_attributes": {"name": record.label}}]
        content[f"{record.path.name}9"] = {"filename": f"../{record.image}", "size": 9, "regions": regions}
    path.write_text(json.dumps(content))
    return path


def write_createml(folder: Path, records: list[Record]) -> Path:
    """One file."""
    path = folder / "createml.json"
    content = []
    for record in records:
        x, y, width, height = sides(record)
        place = {"x": x + width / 2, "y": y + height / 2, "width": width, "height": height}
        annotations = [{"label": record.label, "coordinates": place}]
        content.append({"image": f"../{record.image}", "annotations": annotations})
    path.write_text(json.dumps(content))
    return path


def write_table(path: Path, header: list[str], rows: Iterable[list[object]]) -> Path:
    """A CSV, for the formats that are tables."""
    with path.open("w", newline="") as file:
        python_csv.writer(file).writerows([*([header] if header else []), *rows])
    return path


def write_tables(root: Path, records: list[Record]) -> dict[str, Path]:
    """The tables of other programs, with a link to the folder of images beside them: Open Images names no folder."""
    (root / "tables").mkdir()
    (root / "tables" / "images").symlink_to(root / "images", target_is_directory=True)
    root /= "tables"
    whole = np.tile(SIZE, 2)
    fractions = [(np.array(record.box) / whole).tolist() for record in records]
    shapes = [
        json.dumps(dict(zip(("name", "x", "y", "width", "height"), ("rect", *sides(record)), strict=True)))
        for record in records
    ]
    return {
        "openimages": write_table(
            root / "openimages.csv",
            ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"],
            (
                [r.path.stem, "xclick", r.label, 1, b[0], b[2], b[1], b[3]]
                for r, b in zip(records, fractions, strict=True)
            ),
        ),
        "automl": write_table(
            root / "automl.csv",
            [],
            (
                ["TRAIN", r.image, r.label, b[0], b[1], "", "", b[2], b[3], "", ""]
                for r, b in zip(records, fractions, strict=True)
            ),
        ),
        "via-csv": write_table(
            root / "via.csv",
            ["filename", "region_count", "region_id", "region_shape_attributes", "region_attributes"],
            ([r.image, 1, 0, shape, "{}"] for r, shape in zip(records, shapes, strict=True)),
        ),
    }


def sides(record: Record) -> tuple[float, float, float, float]:
    """The corner and the size of a box."""
    x1, y1, x2, y2 = record.box or (0, 0, 0, 0)
    return x1, y1, x2 - x1, y2 - y1


def write_all(root: Path, records: list[Record]) -> dict[str, Path]:
    """Write the records in each format; gives the paths to read."""
    data = {}
    for name, file in (
        ("csv", "labels.csv"), ("article", "labels.csv"), ("coco", "labels.json"), ("label-studio", "labels.json"),
        ("hf", "metadata.jsonl"),
    ):  # fmt: skip
        data[name] = root / name / file
        data[name].parent.mkdir()
    data |= {name: root / name for name in ("voc", "yolo")}
    for name, path in data.items():
        formats.write(path, records, name)
    # Boxes are written for people to correct, as predictions; what they corrected are annotations.
    corrected = data["label-studio"].read_text().replace('"predictions"', '"annotations"')
    data["label-studio"].write_text(corrected)
    for name, write in (
        ("labelme", write_labelme), ("cvat", write_cvat), ("masks", write_masks), ("via", write_via),
        ("createml", write_createml),
    ):  # fmt: skip
        folder = root / name
        folder.mkdir()
        data[name] = write(folder, records)
    moved = root / "moved.csv"
    csv.write(moved, records)
    moved.write_text(moved.read_text().replace("images/", "C:\\Users\\me\\set\\images\\"))
    return data | write_tables(root, records) | {"csv, foreign paths": moved}


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
