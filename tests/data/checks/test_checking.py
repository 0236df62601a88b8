import builtins
import io
import itertools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check_sets import Box, ImageSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox.data import checks, formats
from solobox.data.formats.records import Annotations, Record
from solobox.utils.progress import NullProgress


@st.composite
def clean_rows(draw: st.DrawFn) -> list[tuple[tuple[int, int], Box]]:
    """Sizes of images, and a box of at least two pixels anywhere in each (one pixel is fractions)."""
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        width, height = draw(st.integers(8, 60)), draw(st.integers(8, 60))
        x1, y1 = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
        x2, y2 = draw(st.floats(x1 + 2, width)), draw(st.floats(y1 + 2, height))
        rows.append(((width, height), (x1, y1, x2, y2)))
    return rows


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=clean_rows())
def test_valid_boxes_of_whatever_image_give_no_error(
    rows: list[tuple[tuple[int, int], Box]], tmp_path: Path
) -> None:
    records = []
    for number, (size, box) in enumerate(rows):
        path = tmp_path / f"{number}.bmp"
        Image.new("RGB", size, (number, 7, 9)).save(path)
        records.append(Record(number + 2, f"boxes.csv, row {number + 2}", path.name, path, box))
    annotations = Annotations(tmp_path / "boxes.csv", "csv", "", tuple(records))
    # two images of one size are told apart by their colour, so the bytes never agree
    assert checks.check(annotations).errors == ()


class Counted(NullProgress):
    """Counts the steps."""

    total = done = 0

    def start(self, stage: str, total: int | None) -> None:
        self.total = total or 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps


def test_progress_advances_once_for_each_image(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.fine(4)
    data.add("fine0.png", (1, 1, 30, 30))
    progress = Counted()
    checks.check(data.annotations(), progress=progress)
    assert (progress.total, progress.done) == (4, 4)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *itertools.product(["csv", "coco", "yolo", "voc", "hf"], ["headers", "pixels"]),
        ("masks", "headers"),  # read with the headers of the images, which have to be of the masks' sizes
    ],
)
def test_reading_and_checking_open_each_image_once(
    name: str, level: checks.CheckLevel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ImageSet(tmp_path / "images")
    data.folder.mkdir()
    data.fine(40)
    data.image("large.bmp", (300, 200))
    data.add("large.bmp", (20, 30, 70, 60), draw=False)
    path = tmp_path / {"csv": "boxes.csv", "coco": "boxes.json", "hf": "metadata.csv"}.get(name, name)
    if name == "masks":
        path = tmp_path
        (path / "masks").mkdir()
        for record in data.records:
            with Image.open(record.path) as image:
                Image.new("L", image.size, 9).save(path / "masks" / record.image)
    else:
        formats.write(path, data.records, name)
    opened = Counter[Path]()
    real = io.open

    def counted(file: Any, *more: Any, **options: Any) -> object:
        opened[Path(os.path.realpath(file))] += 1
        return real(file, *more, **options)

    monkeypatch.setattr(io, "open", counted)
    monkeypatch.setattr(builtins, "open", counted)
    assert checks.check(formats.read(path), level).n_images == 41
    folder = data.folder.resolve()
    assert {path: opened[path] for path in opened if path.parent == folder} == dict.fromkeys(
        folder.iterdir(), 1
    )


def test_checking_changes_nothing(tmp_path: Path) -> None:
    data = ImageSet(tmp_path)
    data.fine(3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    data.check()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ten_thousand_rows_are_checked_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 300, (10_000, 2))
    boxes = np.concatenate([start, start + rng.uniform(20, 300, (10_000, 2))], axis=1)
    boxes[7, 2:] = boxes[7, :2]
    records = tuple(
        Record(row, f"boxes.csv, row {row}", f"{row}.png", tmp_path / f"{row}.png", (x1, y1, x2, y2))
        for row, (x1, y1, x2, y2) in enumerate(boxes.tolist(), start=2)
    )
    diagnosis = checks.check(Annotations(tmp_path / "boxes.csv", "csv", "", records), level="numbers")
    assert [finding.code for finding in diagnosis.errors] == ["empty-box"]
    assert diagnosis.bad_rows == (7,)
    assert diagnosis.n_images == 10_000


@pytest.mark.real
def test_caltech_airplane_has_the_one_flat_box(real_data: Path) -> None:
    diagnosis = checks.check(formats.read(real_data / "caltech" / "airplane.csv"))
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level, finding.row) == ("empty-box", "error", 119)
    assert finding.image.endswith("image_0118.jpg")
    assert diagnosis.bad_rows == (117,)


@pytest.mark.real
def test_caltech_face_is_fine(real_data: Path) -> None:
    findings = checks.check(formats.read(real_data / "caltech" / "face.csv")).findings
    assert [finding.code for finding in findings] == ["similar-images"]  # one person, photographed twice


@pytest.mark.real
def test_kangaroo_has_a_truncated_image_and_many_kangaroos(real_data: Path) -> None:
    diagnosis = checks.check(formats.read(real_data / "kangaroo"))
    assert [(finding.code, finding.image) for finding in diagnosis.errors] == [
        ("unreadable-image", "00090.jpg")
    ]
    assert Counter(finding.code for finding in diagnosis.warnings) == {"several-boxes": 57, "same-bytes": 1}
