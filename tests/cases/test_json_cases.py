import json
import math
from pathlib import Path
from typing import Any

import pytest
from format_cases import BOXES, SIZE, draw, pixels, put_json, xywh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solobox.data import checks, formats
from solobox.errors import DataError


def label_studio(i: int, **changes: Any) -> dict[str, Any]:
    x, y, width, height = xywh(BOXES[i])
    value = {
        "x": x / SIZE[0] * 100,
        "y": y / SIZE[1] * 100,
        "width": width / SIZE[0] * 100,
        "height": height / SIZE[1] * 100,
        "rotation": 0,
        "rectanglelabels": ["thing"],
    }
    size = {"original_width": SIZE[0], "original_height": SIZE[1]}
    return size | {"id": "r", "type": "rectanglelabels", "to_name": "image", "value": value | changes}


def task(i: int, *results: Any, **changes: Any) -> dict[str, Any]:
    annotation = {"id": i, "was_cancelled": False, "result": list(results)}
    return {"id": i, "data": {"image": f"{i}.png"}, "annotations": [annotation]} | changes


def test_label_studio(tmp_path: Path) -> None:
    draw(tmp_path)
    cancelled = [{"was_cancelled": True, "result": [label_studio(2)]}]
    tasks = [
        task(0, label_studio(0)),
        task(1),
        task(2, annotations=cancelled, predictions=[{"result": [label_studio(2)]}]),
        task(3, label_studio(3), label_studio(0)),
    ]
    found = formats.read(put_json(tmp_path / "project.json", tasks))
    assert found.format == "label-studio"
    assert pixels(found) == [BOXES[0], None, BOXES[3], BOXES[0]]
    assert [record.label for record in found.records] == ["thing", "", "thing", "thing"]
    assert tuple(found.records[0].size or ()) == SIZE
    assert [record.path.name for record in found.records] == ["0.png", "1.png", "3.png", "3.png"]


def test_a_turned_rectangle_of_label_studio_is_read_by_its_bounds(tmp_path: Path) -> None:
    draw(tmp_path)
    # A quarter turn about the upper left corner: (40, 8) 20 x 10 covers x 30 to 40, y 8 to 28.
    value = {"x": 40 / 0.96, "y": 8 / 0.64, "width": 20 / 0.96, "height": 10 / 0.64, "rotation": 90}
    found = formats.read(put_json(tmp_path / "a.json", [task(0, label_studio(0, **value))]))
    assert pixels(found) == [(30, 8, 40, 28)]
    assert "turned" in found.convention


def test_label_studio_min(tmp_path: Path) -> None:
    draw(tmp_path)
    rows = []
    for i in range(3):
        value = label_studio(i)
        rows.append({
            "image": f"/data/local-files/?d=set/{i}.png", "id": i, "annotator": 1, "annotation_id": i, "lead_time": 2.5,
            "label": [value["value"] | {"original_width": SIZE[0], "original_height": SIZE[1]}],
        })  # fmt: skip
    found = formats.read(put_json(tmp_path / "min.json", rows))
    assert (found.format, pixels(found)) == ("label-studio", BOXES[:3])
    assert [record.image for record in found.records] == ["set/0.png", "set/1.png", "set/2.png"]


def createml(i: int) -> dict[str, Any]:
    x1, y1, x2, y2 = BOXES[i]
    place = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}
    return {"image": f"{i}.png", "annotations": [{"label": "thing", "coordinates": place}]}


def test_createml(tmp_path: Path) -> None:
    draw(tmp_path / "train")
    content = [*map(createml, range(3)), {"image": "3.png", "annotations": []}]
    put_json(tmp_path / "train" / "_annotations.createml.json", content)
    found = formats.read(tmp_path)
    assert (found.format, pixels(found)) == ("createml", [*BOXES[:3], None])
    assert {record.split for record in found.records} == {"train"}
    assert found.records[0].path.is_file()


def labelme(i: int, *shapes: dict[str, Any]) -> dict[str, Any]:
    size = {"imageHeight": SIZE[1], "imageWidth": SIZE[0]}
    return {
        "version": "5",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{i}.png",
        "imageData": None,
    } | size


def test_labelme(tmp_path: Path) -> None:
    draw(tmp_path)
    x1, y1, x2, y2 = BOXES[0]
    drawn_upwards = {"label": "thing", "shape_type": "rectangle", "points": [[x2, y2], [x1, y1]]}
    polygon = {"label": "thing", "shape_type": "polygon", "points": [[5, 20], [30, 4], [60, 50]]}
    circle = {"label": "thing", "shape_type": "circle", "points": [[40, 30], [43, 34]]}
    point = {"label": "nose", "shape_type": "point", "points": [[3, 3]]}
    for index, shape in enumerate((drawn_upwards, polygon, circle, point)):
        put_json(tmp_path / f"{index}.json", labelme(index, shape))
    (tmp_path / "4.json").write_text("{broken")
    found = formats.read(tmp_path)
    assert found.format == "labelme"
    *boxes, of_point = pixels(found)
    assert boxes == [BOXES[0], (5, 4, 60, 50), (35, 25, 45, 35)]
    assert of_point is not None
    assert math.isnan(of_point[0])  # a row to correct, and no image without the object
    assert tuple(found.records[0].size or ()) == SIZE
    assert [problem.code for problem in found.problems] == ["no-box", "bad-json"]


def via_region(i: int) -> dict[str, Any]:
    x, y, width, height = xywh(BOXES[i])
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": {"name": "thing"}}


@pytest.mark.parametrize("kind", ["list", "object", "project"])
def test_via(tmp_path: Path, kind: str) -> None:
    draw(tmp_path)
    content: dict[str, Any] = {}
    for i in range(4):
        regions: Any = [] if i == 3 else [via_region(i)]
        if kind == "object":
            regions = {str(at): region for at, region in enumerate(regions)}
        content[f"{i}.png99"] = {
            "filename": f"{i}.png",
            "size": 99,
            "regions": regions,
            "file_attributes": {},
        }
    if kind == "project":
        content = {"_via_settings": {}, "_via_img_metadata": content, "_via_attributes": {}}
    found = formats.read(put_json(tmp_path / "via.json", content))
    assert (found.format, pixels(found)) == ("via", [*BOXES[:3], None])
    assert found.records[0].label == "thing"


def test_a_project_of_via_3(tmp_path: Path) -> None:
    draw(tmp_path)
    content = {
        "project": {"pname": "x"},
        "config": {},
        "attribute": {"1": {"aname": "kind", "options": {"0": "cat", "1": "thing"}}},
        "file": {str(i): {"fid": str(i), "fname": f"{i}.png", "src": f"{i}.png"} for i in range(3)},
        "metadata": {
            f"m{i}": {"vid": str(i), "xy": [2, *xywh(BOXES[i])], "av": {"1": "1"}} for i in range(2)
        },
        "view": {str(i): {"fid_list": [str(i)]} for i in range(3)},
    }
    found = formats.read(put_json(tmp_path / "via3.json", content))
    assert (found.format, pixels(found)) == ("via", [*BOXES[:2], None])
    assert found.records[1].label == "thing"


def test_hugging_face(tmp_path: Path) -> None:
    for split in ("train", "test"):
        draw(tmp_path / split)
        lines = [
            {"file_name": "0.png", "objects": {"bbox": [xywh(BOXES[0])], "categories": ["thing"]}},
            {"file_name": "1.png", "objects": {"bbox": [], "categories": []}},
            {
                "file_name": "2.png",
                "objects": {"bbox": [xywh(BOXES[1]), xywh(BOXES[2])], "categories": [0, 1]},
            },
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n"
        (tmp_path / split / "metadata.jsonl").write_text(text)
    found = formats.read(tmp_path)
    assert found.format == "hf"
    assert pixels(found) == [BOXES[0], None, BOXES[1], BOXES[2]] * 2
    assert [record.split for record in found.records] == ["test"] * 4 + ["train"] * 4
    assert [(problem.code, problem.row) for problem in found.problems] == [("bad-json", 4)] * 2


EDGES = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(41, 96), st.integers(31, 64))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(st.none() | EDGES, min_size=1, max_size=4), label=st.text(max_size=5))
def test_round_trips(tmp_path: Path, boxes: list[tuple[int, int, int, int] | None], label: str) -> None:
    folder, label = draw(tmp_path), label.encode("utf-8", "ignore").decode().strip()
    rows = [
        formats.Record(i + 1, "", f"{i}.png", folder / f"{i}.png", box, label=label if box else "")
        for i, box in enumerate(boxes)
    ]
    formats.write(tmp_path / "metadata.jsonl", rows, "hf")
    found = formats.read(tmp_path / "metadata.jsonl")
    assert pixels(found) == boxes
    assert [record.label for record in found.records] == [row.label for row in rows]
    formats.write(tmp_path / "tasks.json", rows, "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for each in tasks:  # a person accepts the predictions
        each["annotations"] = each.pop("predictions")
    assert pixels(formats.read(put_json(tmp_path / "corrected.json", tasks))) == boxes


FOREIGN = {
    "supervisely.json": {"description": "", "tags": [], "size": {"height": 1, "width": 1}, "objects": []},
    "datumaro.json": {"info": {}, "categories": {}, "items": []},
    "darwin.json": {"version": "2.0", "item": {"name": "a.png"}, "annotations": []},
    "dataloop.json": {"itemId": "x", "annotations": []},
    "labelbox.ndjson": {"data_row": {"id": "x"}, "projects": {}},
    "scale.json": [{"task_id": "x", "response": {"annotations": []}}],
    "bdd.json": [{"name": "a.jpg", "labels": [{"box2d": {"x1": 1}}]}],
    "output.manifest": {"source-ref": "s3://bucket/a.png", "label": {"annotations": []}},
    "object_ann.json": [{"token": "x", "bbox": [1, 2, 3, 4], "sample_data_token": "y"}],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_json_of_another_program_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="this format is not read") as caught:
        formats.read(put_json(tmp_path / name, FOREIGN[name]))
    assert caught.value.code == "unknown-format"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tfrecord", b"\0\1"),
        ("a.parquet", b"PAR1xxxx"),
        ("train.csv", b"ImageId,EncodedPixels\na.png,1 2\n"),
        ("0.txt", b"Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.00 1.75 13.22 -1.62\n"),
    ],
)
def test_another_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="this format is not read") as caught:
        formats.read(tmp_path / name)
    assert caught.value.code == "unknown-format"


@pytest.mark.parametrize("text", ['[{"a": 1, "b": 2}]', "[[1,2],[3,4]]", "<a>x,y</a>"])
def test_json_and_xml_are_never_a_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        formats.read(path)
    assert caught.value.code == "unknown-format"


SAMPLES = {
    "label-studio": json.dumps([task(0, label_studio(0)), task(1)]),
    "createml": json.dumps([createml(0), createml(1)]),
    "labelme": json.dumps(labelme(0, {"label": "a", "shape_type": "circle", "points": [[40, 30], [43, 34]]})),
    "via": json.dumps({"0.png9": {"filename": "0.png", "regions": [via_region(0)], "file_attributes": {}}}),
    "hf": json.dumps({"file_name": "0.png", "objects": {"bbox": [xywh(BOXES[0])], "categories": ["a"]}}),
}
JUNK = st.sampled_from(["null", "[]", "{}", '"x"', "1e999", "NaN", "true", "-1", "[[1]]", '{"x": []}'])


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_records_or_an_error(tmp_path: Path, name: str, data: st.DataObject) -> None:
    text = SAMPLES[name]
    values = sorted({text[i:j] for i, j in _values(text)})
    for _ in range(data.draw(st.integers(1, 3))):
        text = text.replace(data.draw(st.sampled_from(values)), data.draw(JUNK), 1)
    if data.draw(st.booleans()):
        text = text[: data.draw(st.integers(0, len(text)))]
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    try:
        found = formats.FORMATS[name].read(path)
    except DataError:
        return
    for record in found.records:
        assert record.box is None or all(math.isnan(v) or math.isfinite(v) for v in record.box)


def _values(text: str) -> list[tuple[int, int]]:
    """Where the values of a JSON text begin and end."""
    decoder, found = json.JSONDecoder(), []
    for at, char in enumerate(text):
        if char in '[{"-0123456789':
            try:
                found.append((at, decoder.raw_decode(text, at)[1]))
            except ValueError:
                continue
    return found


def test_what_is_drawn_without_a_box_is_no_negative(tmp_path: Path) -> None:
    """Points, lines and brushes are rows to correct: to learn from them that nothing is there would be wrong."""
    draw(tmp_path)
    brush = {"id": "b", "type": "brushlabels", "value": {"format": "rle", "rle": [0]}}
    choice = {"id": "c", "type": "choices", "value": {"choices": ["empty"]}}
    via = {"filename": "0.png", "regions": [{"shape_attributes": {"name": "point", "cx": 3, "cy": 4}}]}
    for name, content, bad in (
        ("ls.json", [task(0, brush), task(1, choice), task(2, label_studio(2))], 1),
        ("via.json", {"0.png1": via, "1.png1": {"filename": "1.png", "regions": []}}, 1),
    ):
        diagnosis = checks.check(formats.read(put_json(tmp_path / name, content)))
        assert [finding.code for finding in diagnosis.errors].count("no-box") == bad, name
        assert diagnosis.annotations.records[1].box is None


def test_captions_are_no_images_without_the_object(tmp_path: Path) -> None:
    draw(tmp_path)
    data = tmp_path / "metadata.jsonl"
    data.write_text("".join(json.dumps({"file_name": f"{i}.png", "text": "a duck"}) + "\n" for i in range(3)))
    with pytest.raises(DataError, check=lambda error: error.code == "no-annotations"):
        formats.read(data)


def test_of_several_annotators_the_last_counts_or_the_truth(tmp_path: Path) -> None:
    draw(tmp_path)
    several = task(0, label_studio(0))
    several["annotations"] += task(0, label_studio(1))["annotations"]
    found = formats.read(put_json(tmp_path / "ls.json", [several]))
    assert pixels(found) == [BOXES[1]]
    assert "several people" in found.convention
    several["annotations"][0]["ground_truth"] = True
    assert pixels(formats.read(put_json(tmp_path / "ls.json", [several]))) == [BOXES[0]]
