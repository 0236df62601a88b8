"""A box as text in one column: read as its name says, judged over the file, refused where nothing tells."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solobox.boxes import Floats, convert, scale
from solobox.data import checks, formats
from solobox.data.dataset import Dataset
from solobox.data.formats.records import Layout
from solobox.data.formats.text_layout import layout_in_name
from solobox.data.layouts import WHOLE, describe, layout_name, parse_layout
from solobox.errors import DataError

COUNT, SIZE = 30, (400, 300)
NAMES = ["xyxy", "yxyx", "xywh", "yxhw", "cxcywh", "cycxhw"]
LAYOUTS = [
    *map(parse_layout, NAMES),
    *(parse_layout(f"{order}-{unit}") for order in ("xyxy", "xywh", "cxcywh") for unit in WHOLE),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text")
    for index in range(COUNT):
        Image.new("L", SIZE, 8 * index).save(root / f"{index}.png")
    return root


def anywhere() -> Floats:
    rng = np.random.default_rng(3)
    side = rng.uniform(0.2, 0.5, (COUNT, 2))
    start = (1 - side) * rng.uniform(0, 1, (COUNT, 2))
    corners: Floats = np.round(np.concatenate([start, start + side], axis=1) * np.tile(SIZE, 2))
    return corners


def in_the_middle() -> Floats:
    """Large objects about the middle: as x, y, width, height their numbers are corners too."""
    boxes = np.array([[100, 75, 300, 225]]) + np.arange(COUNT)[:, None] * [0, 0, 1, 0]
    return boxes.astype(np.float64)


def written(layout: Layout, corners: Floats) -> Floats:
    if layout.unit != "pixels":
        corners = scale(corners, WHOLE[layout.unit] / SIZE[0], WHOLE[layout.unit] / SIZE[1])
    numbers = convert(corners, "xyxy", layout.order)
    return numbers[:, [1, 0, 3, 2]] if layout.y_first else numbers


def table(folder: Path, header: Sequence[str], numbers: Floats, name: str = "labels.csv") -> Path:
    path = folder / name
    others = ["cup"] * (len(header) - 2)
    with path.open("w", newline="") as file:
        rows = [[f"{index}.png", str(row.tolist()), *others] for index, row in enumerate(numbers)]
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("true", LAYOUTS, ids=layout_name)
@pytest.mark.parametrize(
    ("header", "stated", "kind"),
    [
        (("file_name", "bbox"), "xywh", "csv"),
        (("file_name", "bbox", "label"), "xywh", "csv"),
        (("image", "bboxes"), "xywh", "csv"),
        (("image", "box"), "xyxy", "article"),
        (("photo", "face"), "xyxy", "article"),
        (("path", "Bounding Box"), "xyxy", "article"),
        (("image", "box", "label"), "xywh", "csv"),
        (("image", "box_xyxy"), "xyxy", "article"),
        (("image", "ymin, xmin, ymax, xmax"), "yxyx", "csv"),
    ],
)
def test_each_layout_under_each_name(
    folder: Path, header: tuple[str, ...], stated: str, kind: str, true: Layout
) -> None:
    """Read right, or told by an error for the file; never another box without a word."""
    path = table(folder, header, written(true, anywhere()))
    found = formats.read(path)
    assert (found.format, found.layout) == (kind, parse_layout(stated))
    diagnosis = checks.check(found, "headers")
    if found.layout == true:
        assert [each.code for each in diagnosis.findings] == []
        np.testing.assert_allclose(Dataset.read(path).boxes, anywhere(), atol=0.01)
        return
    assert not np.allclose(
        [each.box for each in diagnosis.annotations.records if each.box], anywhere(), atol=2
    )
    assert diagnosis.errors
    np.testing.assert_allclose(Dataset.read(path, layout=layout_name(true)).boxes, anywhere(), atol=0.01)
    if found.layout.y_first and true.unit != "pixels":
        return  # nothing shows that x comes first: docs/reference/formats.md
    if set(diagnosis.bad_rows) == {fix.index for fix in diagnosis.fixes if fix.box is not None}:
        checks.fix(diagnosis, folder / "clean.csv")
        np.testing.assert_allclose(Dataset.read(folder / "clean.csv").boxes, anywhere(), atol=0.6)


@pytest.mark.parametrize("level", ["numbers", "headers"])
@pytest.mark.parametrize("unit", ["", "-fractions"])
@pytest.mark.parametrize("order", ["xyxy", "xywh"])
@pytest.mark.parametrize("header", [("photo", "face"), ("file", "boxes"), ("image", "box", "label")])
def test_where_nothing_tells_it_is_refused(
    folder: Path, header: tuple[str, ...], order: str, unit: str, level: checks.CheckLevel
) -> None:
    middle = in_the_middle()
    boxes = middle if order == "xywh" else convert(middle, "xywh", "xyxy")
    boxes = boxes if order == "xywh" else middle * 0.5  # corners in the upper left: sizes too
    path = table(folder, header, written(parse_layout(order + unit), boxes))
    diagnosis = checks.check(formats.read(path), level)
    codes = [each.code for each in diagnosis.errors]
    assert codes == ["ambiguous-layout"] if level == "headers" or not unit else codes
    assert diagnosis.errors
    assert not [fix for fix in diagnosis.fixes if fix.box is not None]
    told = formats.read(path, layout=parse_layout(order + unit)).convention
    assert ("--layout says" in told) == (formats.read(path).layout != parse_layout(order + unit))
    with pytest.raises(DataError, match=f"--layout {order}") as error:
        Dataset.read(path, check=level)
    assert error.value.code == "data-errors"
    np.testing.assert_allclose(Dataset.read(path, layout=order + unit).boxes, boxes, atol=0.01)


@pytest.mark.parametrize(
    ("header", "order"), [(("file_name", "bbox"), "xywh"), (("image", "box"), "xyxy"), (("", ""), "xyxy")]
)
def test_names_of_a_convention_settle_it(folder: Path, header: tuple[str, str], order: str) -> None:
    boxes = in_the_middle() * (0.5 if order == "xyxy" else 1)
    path = table(folder, header, written(parse_layout(order), boxes), "settled.csv")
    np.testing.assert_allclose(Dataset.read(path).boxes, boxes)


def test_hugging_face_metadata_with_a_column_bbox(folder: Path) -> None:
    path = table(folder, ("file_name", "bbox"), written(Layout("xywh"), anywhere()), "metadata.csv")
    found = formats.read(path)
    assert found.convention == f"{describe(Layout('xywh'))} (the column bbox)"
    np.testing.assert_allclose(Dataset.read(path).boxes, anywhere())


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("bbox", "xywh"), ("BBoxes ", "xywh"), ("bbox_xyxy", "xyxy"), ("xywh", "xywh"), ("box cxcywh", "cxcywh"),
        ("x1, y1, x2, y2", "xyxy"), ("[x, y, width, height]", "xywh"), ("x_center y_center width height", "cxcywh"),
        ("ymin,xmin,ymax,xmax", "yxyx"), ("left top right bottom", "xyxy"), ("x_min, y_min, x_max, y_max", "xyxy"),
        ("box", None), ("boxes", None), ("bounding box", None), ("face", None), ("", None), ("wxyz", None),
    ],
)  # fmt: skip
def test_what_a_name_settles(name: str, layout: str | None) -> None:
    assert layout_in_name(name) == (parse_layout(layout) if layout else None)
