"""Files that are damaged in any way give records or a DataError, never another exception."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from format_records import draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.data import formats
from solobox.errors import DataError

VOC = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size><object><name>x</name>"
    "<polygon><x1>1</x1><y1>2</y1></polygon></object><object><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax>"
    "<ymax>9</ymax></bndbox></object></annotation>"
)
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]},
        {"id": 3, "image_id": 2, "category_id": 1, "segmentation": {"size": [30, 40], "counts": "0ab5"}},
    ],
    "categories": [{"id": 1, "name": "x"}],
}
FILES: Mapping[str, Mapping[str, str]] = {
    "coco": {"annotations.json": json.dumps(COCO)},
    "voc": {"annotations/a.xml": VOC, "ImageSets/Main/train.txt": "a 1\n"},
    "yolo": {
        "data.yaml": "path: .\ntrain: images\nval: list.txt\nkpt_shape: [1, 2]\nnames: {0: x}\n",
        "list.txt": "images/b.png\n/x/a.png\n",
        "labels/a.txt": "0 0.5 0.5 0.2 0.2\n",
        "labels/b.txt": "0 0.5 0.5 0.2 0.2 0.5 0.5\n",
    },
    "bare": {"labels/a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.2\n", "classes.txt": "x\ny\n"},
    "darknet": {
        "obj.data": "train = data/train.txt\nnames = data/obj.names\n",
        "train.txt": "images/a.png\n",
    },
    "csv": {"labels.csv": "image,x1,y1,x2,y2,split\nimages/a.png,1,2,3,4,train\nb.png,,,,,\n"},
    "article": {"labels.csv": 'image,box\na.png,"[1, 2, 3, 4]"\nb.png,[]\n'},
}
SCRAPS = [
    b"",
    b"\0",
    b"\xff\xfe",
    b'"',
    b"[",
    b"{",
    b"}",
    b"<",
    b"&x;",
    b"nan",
    b"-1",
    b"1e999",
    b"null",
    b"true",
]
SCRAPS += [b"../", b"\\", b"%00", b"\n", b",", b";", b"\xc3", b"9" * 400, b"a" * 300, b": ", b"- ", b"~"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in FILES:
        draw(root / name / "images" / "a.png")
        draw(root / name / "images" / "b.png")
    return root


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_damaged_files(sets: Path, name: str, data: st.DataObject) -> None:
    folder = sets / name
    damaged = data.draw(st.sampled_from(sorted(FILES[name])))
    for file, text in FILES[name].items():
        content = text.encode()
        for _ in range(data.draw(st.integers(1, 3)) if file == damaged else 0):
            at = data.draw(st.integers(0, len(content)))
            until = at + data.draw(st.integers(0, 20))
            content = content[:at] + data.draw(st.sampled_from(SCRAPS)) + content[until:]
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    target = folder / "labels.csv" if "labels.csv" in FILES[name] else folder
    try:
        found = formats.read(target)
    except DataError:
        return
    assert all(record.box is None or len(record.box) == 4 for record in found.records)
    assert all(problem.record is None or problem.record < len(found.records) for problem in found.problems)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "size", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_coco_of_any_values(sets: Path, data: st.DataObject) -> None:
    value = json.loads(json.dumps(COCO))
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from([*value["images"], *value["annotations"], *value["categories"]]))
        entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(VALUES)
    (sets / "coco" / "annotations.json").write_text(json.dumps(value))
    try:
        formats.read(sets / "coco" / "annotations.json")
    except DataError:
        return
