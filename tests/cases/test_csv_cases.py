"""Tables as people and tools write them: the right box in pixels, image without the object, and split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from solobox import Dataset
from solobox.data import formats
from solobox.errors import DataError

WIDTH, HEIGHT = 120, 80
BOXES = [(6 + 3 * i, 4 + 2 * i, 40 + 4 * i, 30 + 3 * i) for i in range(12)]


def box(i: int) -> str:
    return ",".join(map(str, BOXES[i]))


def sides(i: int) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = BOXES[i]
    return x1, y1, x2 - x1, y2 - y1


def fractions(i: int) -> list[str]:
    return [f"{value / side:.5f}" for value, side in zip(BOXES[i], (WIDTH, HEIGHT) * 2, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    (root / "images").mkdir()
    for i in range(len(BOXES)):
        Image.new("RGB", (WIDTH, HEIGHT), (20 * i, 200, 90)).save(root / "images" / f"{i}.png")
    return root


def table(folder: Path, header: str, row: Callable[[int], str], name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([*([header] if header else []), *map(row, range(len(BOXES)))]) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", lambda i: f"{i}.png,120,80,cup,{box(i)}"),
        ("Image_Path;Left;Top;Right;Bottom", lambda i: f"images\\{i}.png;" + box(i).replace(",", ";")),
        ("file_name,bbox_x1,bbox_y1,bbox_x2,bbox_y2", lambda i: f"{i}.png,{box(i)}"),
        ("img,x0,y0,x1,y1", lambda i: f"{i}.png,{box(i)}"),
        ("", lambda i: f"images/{i}.png,{box(i)},cup"),
        ("sep=;\nimage;x1;y1;x2;y2", lambda i: f"{i}.png;" + ",0;".join(map(str, BOXES[i])) + ",0"),
        (
            "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax",
            lambda i: "{0}.png,xclick,/m/01,1,{1[0]},{1[2]},{1[1]},{1[3]}".format(i, fractions(i)),
        ),
        (
            "",
            lambda i: "TRAIN,{0}.png,cup,{1[0]},{1[1]},,,{1[2]},{1[3]},,".format(i, fractions(i)),
        ),
        (
            "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes",
            lambda i: (
                '{0}.png,1,"{{}}",1,0,"{{""name"":""rect"",""x"":{1[0]},""y"":{1[1]},""width"":{1[2]},'
                '""height"":{1[3]}}}","{{""kind"":""cup""}}"'.format(i, sides(i))
            ),
        ),
        (
            "annotation_id,annotator,created_at,id,image,label,lead_time",
            lambda i: (
                '1,1,now,{0},/data/{0}.png,"[{{""x"":{1[0]},""y"":{1[1]},""width"":{1[2]},""height"":{1[3]},'
                '""rotation"":0,""rectanglelabels"":[""cup""],""original_width"":120,""original_height"":80}}]",1'
            ).format(i, [100 * v / s for v, s in zip(sides(i), (WIDTH, HEIGHT) * 2, strict=True)]),
        ),
        ("image,x,y,w,h", lambda i: "{},{},{},{},{}".format(f"images/{i}.png", *sides(i))),
        ("image_id,width,height,bbox", lambda i: f'{i}.png,120,80,"{list(sides(i))}"'),
    ],
    ids=[
        "tfod",
        "left",
        "x1",
        "x0",
        "keras",
        "sep",
        "openimages",
        "automl",
        "via",
        "labelstudio",
        "xywh",
        "bbox",
    ],
)
def test_the_box_in_pixels(folder: Path, header: str, row: Callable[[int], str]) -> None:
    data = Dataset.read(table(folder, header, row))
    assert [path.name for path in data.images if isinstance(path, Path)] == [f"{i}.png" for i in range(12)]
    np.testing.assert_allclose(data.boxes, BOXES, atol=0.01)


@pytest.mark.parametrize(
    "cells", [",,,", "NA,NA,NA,NA", "null,null,null,null", "None,None,None,None", "nan,nan,nan,nan"]
)
def test_words_for_no_object_are_counted(folder: Path, cells: str) -> None:
    path = table(folder, "image,x1,y1,x2,y2", lambda i: f"{i}.png,{cells if i % 3 == 2 else box(i)}")
    found = formats.read(path)
    assert [record.box is None for record in found.records] == [i % 3 == 2 for i in range(12)]
    assert "(4 rows)" in found.convention


def test_the_recorded_size_and_not_the_box_is_width_and_height(folder: Path) -> None:
    path = table(folder, "filename,width,height,xmin,ymin,xmax,ymax", lambda i: f"{i}.png,120,80,{box(i)}")
    assert {record.size for record in formats.read(path).records} == {(WIDTH, HEIGHT)}
    path = table(folder, "image,left,top,width,height", lambda i: "{}.png,{},{},{},{}".format(i, *sides(i)))
    found = formats.read(path)
    assert {record.size for record in found.records} == {None}
    assert found.layout.order == "xywh"


def test_one_table_for_each_split(folder: Path, tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name / "a.png")
        text = f"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,120,80,cup,{box(1)}\n"
        (tmp_path / name / "_annotations.csv").write_text(text)
    found = formats.read(tmp_path)
    assert [(each.image, each.split) for each in found.records] == [
        ("train/a.png", "train"),
        ("valid/a.png", "val"),
    ]
    assert all(each.path.exists() for each in found.records)


def test_two_keys_that_name_two_images(folder: Path) -> None:
    path = table(
        folder,
        "filename,image_id,x1,y1,x2,y2",
        lambda i: f"images/{i}.png,images/{(i + 1) % 12}.png,{box(i)}",
    )
    other = formats.read(path).records[3].other_path
    assert other is not None
    assert other.name == "4.png"


START = [
    b"filename,width,height,class,xmin,ymin,xmax,ymax\n1.png,120,80,cup,1,2,3,4\n",
    b"a.png,1,2,3,4,cup\nb.png,,,,,\n",
    b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nab,xclick,/m/1,1,0.1,0.2,0.3,0.4\n",
    b"TRAIN,gs://b/a.png,cup,0.1,0.1,,,0.2,0.2,,\n",
    b'filename,region_shape_attributes\na.png,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}"\n',
    b'image,annotator,lead_time,annotation_id,label\na.png,1,1,1,"[{""x"":1,""y"":2,""width"":3,""height"":4}]"\n',
    b'image,bbox\na.png,"[1, 2, 3, 4]"\n',
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from(START),
    edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), st.binary(max_size=4)), max_size=5),
)
def test_a_damaged_table_is_read_or_refused(
    tmp_path: Path, start: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    for at, length, put in edits:
        start = start[:at] + put + start[at + length :]
    path = tmp_path / "labels.csv"
    path.write_bytes(start)
    try:
        found = formats.read(path)
    except DataError:
        return
    assert all(record.box is None or len(record.box) == 4 for record in found.records)


def test_beside_corners_width_and_height_may_be_the_boxes_own(folder: Path) -> None:
    path = table(
        folder,
        "image,xmin,ymin,xmax,ymax,width,height",
        lambda i: f"{i}.png,{box(i)},{sides(i)[2]},{sides(i)[3]}",
    )
    assert {record.size for record in formats.read(path).records} == {None}
