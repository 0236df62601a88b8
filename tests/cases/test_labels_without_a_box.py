"""Labels of which no box can be made, and entries that cannot be read: findings, never an image without the object."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from format_cases import BOXES, SIZE, draw, pixels, put_json

from solobox.data import checks, formats
from solobox.data.dataset import Dataset
from solobox.data.formats import Annotations

SIZES = {"original_width": SIZE[0], "original_height": SIZE[1]}
RECTANGLE = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["a"]}
IN_PIXELS = (24, 16, 72, 48)
POLYGON = {"points": [[25, 25], [75, 25], [50, 75]], "closed": True, "polygonlabels": ["a"]}
ELLIPSE = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 90, "ellipselabels": ["a"]}
POINT = {"x": 50, "y": 50, "width": 0.5, "keypointlabels": ["a"]}
BRUSH = {"format": "rle", "rle": [0, 1], "brushlabels": ["a"]}
# A quarter turn about the upper left corner: (40, 8) 20 x 10 covers x 30 to 40, y 8 to 28.
TURNED = RECTANGLE | {"x": 40 / 0.96, "y": 8 / 0.64, "width": 20 / 0.96, "height": 10 / 0.64, "rotation": 90}
# (48, 32) with radii of 24 and 16 pixels, which change places.
TURNED_ELLIPSE = (32, 8, 64, 56)


def findings(found: Annotations) -> list[tuple[str, str]]:
    """The errors about single rows, by code and place."""
    return [(each.code, each.where) for each in checks.check(found).errors if each.row]


def negatives(found: Annotations) -> list[str]:
    return [record.image for record in found.records if record.box is None]


def result(value: dict[str, Any], to_name: str = "image", **changes: Any) -> dict[str, Any]:
    kind = next(key for key in value if key.endswith("labels"))
    return SIZES | {"id": kind, "type": kind, "to_name": to_name, "value": value} | changes


def task(image: object, results: object, **changes: Any) -> dict[str, Any]:
    data = image if isinstance(image, dict) else {"image": image}
    return {"id": 1, "data": data, "annotations": [{"id": 1, "result": results}]} | changes


def minimal(i: int, *values: Any) -> dict[str, Any]:
    regions = [value | SIZES if isinstance(value, dict) else value for value in values]
    return {
        "image": f"{i}.png",
        "id": i,
        "annotator": 1,
        "annotation_id": i,
        "lead_time": 1,
        "label": regions,
    }


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def label_studio_csv(folder: Path, *cells: str) -> Path:
    header = ("annotation_id", "annotator", "created_at", "image", "label", "lead_time")
    return table(folder / "a.csv", header, [(1, 1, "t", f"{i}.png", cell, 1) for i, cell in enumerate(cells)])


def put_label_studio(folder: Path, kind: str, *values: dict[str, Any]) -> Path:
    if kind == "csv":
        return label_studio_csv(folder, *(json.dumps([value | SIZES]) for value in values))
    if kind == "min":
        return put_json(folder / "a.json", [minimal(i, value) for i, value in enumerate(values)])
    return put_json(folder / "a.json", [task(f"{i}.png", [result(value)]) for i, value in enumerate(values)])


@pytest.mark.parametrize("kind", ["json", "min", "csv"])
def test_label_studio_bounds_of_every_area(tmp_path: Path, kind: str) -> None:
    draw(tmp_path)
    found = formats.read(put_label_studio(tmp_path, kind, RECTANGLE, POLYGON, TURNED, ELLIPSE))
    assert pixels(found) == [IN_PIXELS, IN_PIXELS, (30, 8, 40, 28), TURNED_ELLIPSE]
    assert [record.label for record in found.records] == ["a"] * 4
    assert "2 turned" in found.convention
    assert findings(found) == []


@pytest.mark.parametrize("kind", ["json", "min", "csv"])
def test_label_studio_without_an_area(tmp_path: Path, kind: str) -> None:
    draw(tmp_path)
    found = formats.read(put_label_studio(tmp_path, kind, RECTANGLE, POINT, BRUSH))
    assert [code for code, _ in findings(found)] == ["no-box", "no-box"]
    assert not negatives(found)
    assert "keypoint alone" in found.problems[0].message


def test_label_studio_beside_a_box_points_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path)
    both = put_json(tmp_path / "a.json", [task("0.png", [result(POINT), result(RECTANGLE), result(BRUSH)])])
    found = formats.read(both)
    assert pixels(found) == [IN_PIXELS]
    assert "2 key points, brushes" in found.convention
    cell = json.dumps([POINT | SIZES, RECTANGLE | SIZES])
    assert pixels(formats.read(label_studio_csv(tmp_path, cell))) == [IN_PIXELS]


def test_label_studio_a_region_with_choices_is_one_box(tmp_path: Path) -> None:
    draw(tmp_path)
    value = {key: RECTANGLE[key] for key in ("x", "y", "width", "height", "rotation")}
    choices = SIZES | {"id": "rectanglelabels", "type": "choices", "value": value | {"choices": ["hidden"]}}
    found = formats.read(put_json(tmp_path / "a.json", [task("0.png", [choices, result(RECTANGLE)])]))
    assert pixels(found) == [IN_PIXELS]
    assert found.records[0].label == "a"


def choices(*classes: str) -> dict[str, Any]:
    return {"id": "c", "type": "choices", "from_name": "c", "value": {"choices": list(classes)}}


CLASSES = (["dog"], ["no object"], ["None"], ["good", "negative"], ["No-Object", "empty"])
WITHOUT = ["1.png", "2.png", "4.png"]


@pytest.mark.parametrize("kind", ["json", "min", "csv"])
def test_label_studio_a_class_alone_is_no_box(tmp_path: Path, kind: str) -> None:
    """What says that the object is absent, and nothing else, is an image without it."""
    draw(tmp_path, 6)
    if kind == "json":
        tasks = [task(f"{i}.png", [choices(*each)]) for i, each in enumerate(CLASSES)]
        found = formats.read(put_json(tmp_path / "a.json", [*tasks, task("5.png", [result(RECTANGLE)])]))
    elif kind == "min":
        chosen = [each[0] if len(each) == 1 else {"choices": each} for each in CLASSES]
        rows = [minimal(i) | {"choice": each} for i, each in enumerate(chosen)]
        found = formats.read(put_json(tmp_path / "a.json", [*rows, minimal(5, RECTANGLE)]))
    else:
        cells = [each[0] if len(each) == 1 else json.dumps({"choices": each}) for each in CLASSES]
        header = ("annotation_id", "annotator", "created_at", "image", "label", "choice")
        lines = [(1, 1, "t", f"{i}.png", "", cell) for i, cell in enumerate(cells)]
        lines.append((1, 1, "t", "5.png", json.dumps([RECTANGLE | SIZES]), "dog"))
        found = formats.read(table(tmp_path / "a.csv", header, lines))
    assert [code for code, _ in findings(found)] == ["no-box", "no-box"]
    assert negatives(found) == WITHOUT
    assert [problem.image for problem in found.problems] == ["0.png", "3.png"]
    assert pixels(found)[-1:] == [IN_PIXELS]
    assert "the class 'dog' alone" in found.problems[0].message
    assert "'no object'" in found.problems[0].advice
    data = Dataset.from_annotations(found, skip_bad=True)
    assert [data.names[row] for row in range(len(data))] == [*WITHOUT, "5.png"]


@pytest.mark.parametrize("kind", ["json", "min", "csv"])
def test_label_studio_a_taxonomy_alone_is_no_box(tmp_path: Path, kind: str) -> None:
    draw(tmp_path, 3)
    paths = [[["animal", "dog"]], [["nothing", "no object"]], []]
    if kind == "json":
        value = [{"id": "t", "type": "taxonomy", "value": {"taxonomy": each}} for each in paths]
        found = formats.read(put_json(tmp_path / "a.json", [task(f"{i}.png", [value[i]]) for i in range(3)]))
    elif kind == "min":
        rows = [minimal(i) | {"kind of animal": each} for i, each in enumerate(paths)]
        found = formats.read(put_json(tmp_path / "a.json", rows))
    else:
        header = ("annotation_id", "annotator", "created_at", "image", "label", "kind of animal")
        lines = [(1, 1, "t", f"{i}.png", "", json.dumps(each)) for i, each in enumerate(paths)]
        found = formats.read(table(tmp_path / "a.csv", header, lines))
    assert [(problem.code, problem.image) for problem in found.problems] == [("no-box", "0.png")]
    assert negatives(found) == ["1.png", "2.png"]


def test_cvat_a_tag_alone_is_no_box(tmp_path: Path) -> None:
    draw(tmp_path, 4)
    box = '<box label="a" xtl="7" ytl="5" xbr="41" ybr="33"/>'
    inside = ['<tag label="dog"/>', '<tag label="background"/>', f'<tag label="dog"/>{box}', ""]
    images = "".join(f'<image id="{i}" name="{i}.png">{each}</image>' for i, each in enumerate(inside))
    (tmp_path / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    found = formats.read(tmp_path)
    assert findings(found) == [("no-box", "annotations.xml, image 1")]
    assert negatives(found) == ["1.png", "3.png"]
    assert "1 images are without the object, as a tag says" in found.convention


def test_label_studio_csv_counts_negatives_and_refuses_cut_cells(tmp_path: Path) -> None:
    draw(tmp_path)
    whole = json.dumps([RECTANGLE | SIZES])
    found = formats.read(label_studio_csv(tmp_path, whole, "", whole[:50], "[]"))
    assert findings(found) == [("bad-json", "a.csv, row 4")]
    assert negatives(found) == ["1.png", "3.png"]
    assert "2 rows without a region are images without the object" in found.convention


def test_label_studio_several_images_in_a_task(tmp_path: Path) -> None:
    draw(tmp_path)
    data = {"left": "0.png", "right": "1.png", "caption": "a pair"}
    right = put_json(tmp_path / "a.json", [task(data, [result(RECTANGLE, "right")])])
    found = formats.read(right)
    assert [(record.image, record.where) for record in found.records] == [("1.png", "a.json, task 1")]
    assert found.unlabelled == ("0.png",)
    doubtful = put_json(tmp_path / "a.json", [task(data, [result(RECTANGLE, "img")]), task("2.png", [])])
    found = formats.read(doubtful)
    assert findings(found) == [("two-images", "a.json, task 1")]
    assert [record.image for record in found.records] == ["2.png"]
    draw(tmp_path, 1, (50, 50))  # the recorded size is now that of 1.png alone
    found = formats.read(doubtful)
    assert [record.image for record in found.records] == ["1.png", "2.png"]


def test_label_studio_csv_with_two_columns_of_images(tmp_path: Path) -> None:
    draw(tmp_path)
    header = ("annotation_id", "annotator", "created_at", "image", "second", "label")
    rows = [(1, 1, "t", "0.png", "1.png", json.dumps([RECTANGLE | SIZES]))]
    found = formats.read(table(tmp_path / "a.csv", header, rows))
    assert findings(found) == [("two-images", "a.csv, row 2")]


GOOD = {"label": "a", "coordinates": {"x": 30, "y": 20, "width": 20, "height": 10}}
LABELME = {"version": "5", "flags": {}, "imagePath": "0.png", "imageWidth": SIZE[0], "imageHeight": SIZE[1]}


@pytest.mark.parametrize(
    ("content", "wheres"),
    [
        ([None, task("0.png", [result(RECTANGLE)]), 5], ["task 1", "task 3"]),
        ([task("0.png", [None]), task("1.png", "x"), task("2.png", None)], ["task 1, result 1", "task 2", "task 3"]),
        ([task("0.png", [], annotations=[7])], ["task 1, annotation 1"]),
        ([minimal(0, None, RECTANGLE)], ["task 1, label, result 1"]),
        ([{"image": "0.png", "annotations": [GOOD]}, 3], ["image 2"]),
        ([{"image": "0.png", "annotations": [None]}], ["image 1, annotation 1"]),
        ([{"image": "0.png", "annotations": [GOOD]}, {"image": "1.png", "labels": [GOOD]}], ["image 2"]),
        (LABELME | {"shapes": [None]}, ["shape 1"]),
        (LABELME | {"shapes": "x"}, [""]),
        ({"a": {"filename": "0.png", "regions": [None]}, "b": None}, ["image 1, region 1", "image 2"]),
        ({"a": {"filename": "0.png", "regions": []}, "b": {"filename": "1.png"}}, ["image 2"]),
    ],
)  # fmt: skip
def test_what_is_no_object_is_told_with_its_position(
    tmp_path: Path, content: object, wheres: list[str]
) -> None:
    draw(tmp_path)
    found = formats.read(put_json(tmp_path / "a.json", content))
    places = [f"a.json, {where}" if where else "a.json" for where in wheres]
    assert sorted(findings(found)) == [("bad-json", place) for place in places]
    at_fault = {problem.image for problem in found.problems}
    assert at_fault.isdisjoint(negatives(found))


def test_numbers_of_entries_are_not_shifted(tmp_path: Path) -> None:
    draw(tmp_path)
    tasks = [None, task("0.png", [result(RECTANGLE)])]
    assert formats.read(put_json(tmp_path / "a.json", tasks)).records[0].where == "a.json, task 2"


CIRCLE = {"name": "circle", "cx": 30, "cy": 20, "r": 5}
VIA_SHAPES: list[tuple[dict[str, Any], tuple[float, ...] | None]] = [
    ({"name": "rect", "x": 7, "y": 5, "width": 30, "height": 20}, (7, 5, 37, 25)),
    (CIRCLE, (25, 15, 35, 25)),
    ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 5, "ry": 10, "theta": 1.5707963267948966}, (20, 15, 40, 25)),
    ({"name": "polygon", "all_points_x": [1, 5, 9], "all_points_y": [2, 8, 3]}, (1, 2, 9, 8)),
    ({"name": "polyline", "all_points_x": [1, 5, 9], "all_points_y": [2, 8, 3]}, None),
    ({"name": "point", "cx": 3, "cy": 4}, None),
    ({}, None),
]  # fmt: skip


def via(folder: Path, kind: str, *shapes: dict[str, Any]) -> Path:
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    if kind == "json":
        return put_json(folder / "via.json", {"0.png9": {"filename": "0.png", "size": 9, "regions": regions}})
    header = ("filename", "region_count", "region_id", "region_shape_attributes", "region_attributes")
    rows = [("0.png", len(shapes), i, json.dumps(shape), "{}") for i, shape in enumerate(shapes)]
    return table(folder / "via.csv", header, [*rows, ("1.png", 0, 0, "{}", "{}")])


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(("shape", "box"), VIA_SHAPES)
def test_via_shapes(tmp_path: Path, kind: str, shape: dict[str, Any], box: tuple[float, ...] | None) -> None:
    draw(tmp_path)
    found = formats.read(via(tmp_path, kind, shape))
    if box is not None:
        assert pixels(found)[0] == box
    assert [code for code, _ in findings(found)] == ([] if box else ["no-box"])
    assert negatives(found) == (["1.png"] if kind == "csv" else [])
    assert ("1 rows without a region" in found.convention) == (kind == "csv")


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_via_points_beside_a_box_are_left_out(tmp_path: Path, kind: str) -> None:
    draw(tmp_path)
    found = formats.read(via(tmp_path, kind, {"name": "point", "cx": 3, "cy": 4}, CIRCLE))
    assert pixels(found)[0] == (25, 15, 35, 25)
    assert findings(found) == []
    assert "beside a box" in found.convention


def via3(regions: dict[str, Any], views: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "project": {}, "config": {}, "attribute": {},
        "file": {str(i): {"fid": str(i), "fname": f"{i}.png", "src": f"{i}.png"} for i in range(3)},
        "metadata": regions, "view": {key: {"fid_list": ids} for key, ids in views.items()},
    }  # fmt: skip


def test_via_3_a_view_of_two_images_gives_no_box_to_either(tmp_path: Path) -> None:
    draw(tmp_path)
    region = {"vid": "1", "xy": [2, 7, 5, 30, 20], "av": {}}
    content = via3({"a": region, "b": region | {"vid": "9"}}, {"1": ["0", "1"], "2": ["2"]})
    found = formats.read(put_json(tmp_path / "via3.json", content))
    assert [code for code, _ in findings(found)] == ["two-images", "bad-reference"]
    assert (found.records, found.unlabelled) == ((), ("2.png",))
    # With a box of its own the image is not that of the lost region.
    content["metadata"]["c"] = region | {"vid": "2"}
    found = formats.read(put_json(tmp_path / "via3.json", content))
    assert [(record.image, record.box is None) for record in found.records] == [("2.png", False)]
    del content["metadata"]["b"], content["metadata"]["c"]
    assert negatives(formats.read(put_json(tmp_path / "via3.json", content))) == ["2.png"]


def test_labelme_kinds(tmp_path: Path) -> None:
    draw(tmp_path)
    rectangle = {"shape_type": "Rectangle", "label": "a", "points": [[7, 5], [41, 33]]}
    for i, shapes in enumerate(([rectangle], [rectangle | {"shape_type": "line"}], [])):
        put_json(tmp_path / f"{i}.json", LABELME | {"imagePath": f"{i}.png", "shapes": shapes})
    found = formats.read(tmp_path)
    assert pixels(found)[0] == BOXES[0]
    assert findings(found) == [("no-box", "1.json")]
    assert negatives(found) == ["2.png"]


HF_BOXES = {"bbox": [[7, 5, 34, 28]], "categories": ["a"]}


def test_hugging_face_lines_that_say_no_box(tmp_path: Path) -> None:
    draw(tmp_path, 8)
    listed: list[object] = [
        HF_BOXES, {"bbox": [], "categories": []}, [{"bbox": [7, 5, 34, 28], "category": "a"}], None,
        {"segments": [[1]]}, {"bbox": [], "categories": ["a"]}, {"bbox": "x"}, {},
    ]  # fmt: skip
    lines = [{"file_name": f"{i}.png", "objects": each} for i, each in enumerate(listed)]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "null\n"
    (tmp_path / "metadata.jsonl").write_text(text)
    found = formats.read(tmp_path)
    assert [(record.image, box) for record, box in zip(found.records, pixels(found), strict=True)] == [
        ("0.png", BOXES[0]), ("1.png", None), ("2.png", BOXES[0]), ("7.png", None),
    ]  # fmt: skip
    assert [(problem.code, problem.row) for problem in found.problems] == [
        *(("missing-key", row) for row in (4, 5, 6, 7)), ("bad-json", 9),
    ]  # fmt: skip
    assert found.records[2].label == "a"


def test_hugging_face_boxes_beside_the_name(tmp_path: Path) -> None:
    draw(tmp_path, 7)
    box = [7, 5, 34, 28]
    listed: list[dict[str, object]] = [
        {"bbox": box, "label": "a"}, {"bboxes": [box], "labels": ["a"]}, {"bbox": []}, {"bbox": None, "label": "none"},
        {"bbox": None, "label": "a"}, {"bbox": "7 5 34 28"}, {"bbox": [box, box], "label": ["a", "b"]},
    ]  # fmt: skip
    lines = [json.dumps({"file_name": f"{i}.png"} | each) + "\n" for i, each in enumerate(listed)]
    (tmp_path / "metadata.jsonl").write_text("".join(lines))
    found = formats.read(tmp_path)
    assert [(record.image, record.label) for record in found.records if record.box is not None] == [
        ("0.png", "a"), ("1.png", "a"), ("6.png", "a"), ("6.png", "b"),
    ]  # fmt: skip
    assert set(pixels(found)) == {BOXES[0], None}
    assert negatives(found) == ["2.png", "3.png"]
    assert [(problem.code, problem.image) for problem in found.problems] == [
        ("missing-key", "4.png"), ("missing-key", "5.png"),
    ]  # fmt: skip


@pytest.mark.parametrize("written", [json.dumps, str])
def test_hugging_face_csv(tmp_path: Path, written: Callable[[object], str]) -> None:
    draw(tmp_path)
    cells = [
        written(HF_BOXES),
        written({"bbox": [], "categories": []}),
        "",
        "{'bbox': array([[1, 2, 3, 4]])}",
    ]
    rows = [(f"{i}.png", "train", cell) for i, cell in enumerate(cells)]
    table(tmp_path / "metadata.csv", ("file_name", "split", "objects"), rows)
    found = formats.read(tmp_path)
    assert (found.format, pixels(found)) == ("hf", [BOXES[0], None, None])
    assert {record.split for record in found.records} == {"train"}
    assert "an empty cell means no object (1 rows)" in found.convention
    assert findings(found) == [("missing-key", "metadata.csv, row 5")]
