"""`formats.files` knows every file that a reader opens, so that no output of a command replaces one."""

import builtins
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from format_records import draw
from PIL import Image

from solobox.data import checks, formats

SIZE = {"width": 40, "height": 30}
PERCENT = {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["a"]}
RECT = {"name": "rect", "x": 1, "y": 2, "width": 9, "height": 9}
CREATEML = [
    {
        "image": "a.png",
        "annotations": [{"label": "x", "coordinates": {"x": 9, "y": 9, "width": 5, "height": 5}}],
    }
]
VIA = {"a.png1": {"filename": "a.png", "regions": [{"shape_attributes": RECT, "region_attributes": {}}]}}
VIA_CSV = "filename,region_count,region_id,region_shape_attributes,region_attributes\n"
VIA_CSV += 'a.png,1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":9,""height"":9}","{}"\n'
TASK = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [
    {"id": "1", "type": "rectanglelabels", "original_width": 40, "original_height": 30, "value": PERCENT}
]}]}  # fmt: skip
LABELME = {
    "version": "5", "flags": {}, "imagePath": "a.png", "imageWidth": 40, "imageHeight": 30,
    "shapes": [{"label": "x", "shape_type": "rectangle", "points": [[1, 2], [9, 9]]}],
}  # fmt: skip
COCO = {
    "images": [{"id": 1, "file_name": "a.png", **SIZE}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "x"}],
}
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.png" width="40" height="30">'
    '<box label="x" xtl="1" ytl="2" xbr="9" ybr="9"/></image></annotations>'
)
VOC = (
    "<annotation><filename>a.png</filename><object><name>x</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
    "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
)
OPENIMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\na,x,/m/1,1,0.1,0.5,0.1,0.5\n"
LABEL_STUDIO_CSV = f'annotation_id,annotator,created_at,image,label\n1,1,t,a.png,"{json.dumps([PERCENT])}"\n'
LABEL_STUDIO_CSV = (
    LABEL_STUDIO_CSV.replace('"[', "\0[").replace(']"\n', "]\0\n").replace('"', '""').replace("\0", '"')
)
DATA_YAML = "path: .\ntrain: lists/train.txt\nnames: {0: x}\n"

CASES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "csv": ("csv", "set/labels.csv", {"set/labels.csv": "image,x1,y1,x2,y2\na.png,1,2,9,9\n"}),
    "csv of splits": ("csv", "set", {
        "set/train_labels.csv": "filename,xmin,ymin,xmax,ymax\na.png,1,2,9,9\n",
        "set/test_labels.csv": "filename,xmin,ymin,xmax,ymax\nb.png,1,2,9,9\n",
    }),
    "article": ("article", "set/labels.csv", {"set/labels.csv": 'image,box\na.png,"[1, 2, 9, 9]"\n'}),
    "openimages": ("openimages", "set/labels.csv", {"set/labels.csv": OPENIMAGES}),
    "automl": ("automl", "set/labels.csv", {"set/labels.csv": "TRAIN,a.png,x,0.1,0.1,,,0.5,0.5,,\n"}),
    "via-csv": ("via-csv", "set/labels.csv", {"set/labels.csv": VIA_CSV}),
    "label-studio-csv": ("label-studio-csv", "set/labels.csv", {"set/labels.csv": LABEL_STUDIO_CSV}),
    "label-studio": ("label-studio", "set/tasks.json", {"set/tasks.json": json.dumps([TASK])}),
    "labelme": ("labelme", "set", {
        "set/a.json": json.dumps(LABELME), "set/b.json": json.dumps(LABELME | {"imagePath": "b.png"}),
    }),
    "createml": ("createml", "set", {
        "set/train/_annotations.createml.json": json.dumps(CREATEML),
        "set/valid/_annotations.createml.json": json.dumps(CREATEML),
    }),
    "via": ("via", "set", {"set/train/via_region_data.json": json.dumps(VIA)}),
    "hf": ("hf", "set", {
        "set/train/metadata.jsonl": '{"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]]}}\n',
        "set/test/metadata.jsonl": '{"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]]}}\n',
    }),
    "cvat": ("cvat", "set", {"set/annotations.xml": CVAT}),
    "coco": ("coco", "set", {"set/annotations/instances_train.json": json.dumps(COCO)}),
    "voc": ("voc", "set", {"set/Annotations/a.xml": VOC, "set/ImageSets/Main/train.txt": "a\n"}),
    "voc, annotations": ("voc", "set/Annotations", {
        "set/Annotations/a.xml": VOC, "set/ImageSets/Main/train.txt": "a\n",
    }),
    "yolo": ("yolo", "set/data.yaml", {
        "set/data.yaml": DATA_YAML, "set/lists/train.txt": "../images/a.png\nimages/a.png\n",
        "set/labels/a.txt": "0 0.5 0.5 0.2 0.2\n",
    }),
    "yolo, config elsewhere": ("yolo", "config/data.yaml", {
        "config/data.yaml": "path: ../set\ntrain: lists/train.txt\nnames: {0: x}\n",
        "set/lists/train.txt": "images/a.png\n", "set/labels/a.txt": "0 0.5 0.5 0.2 0.2\n",
    }),
    "darknet": ("yolo", "set/obj.data", {
        "set/obj.data": "train = lists/train.txt\nnames = more/obj.names\n", "set/more/obj.names": "x\n",
        "set/lists/train.txt": "images/a.png\n", "set/labels/a.txt": "0 0.5 0.5 0.2 0.2\n",
    }),
    "masks": ("masks", "set", {}),
}  # fmt: skip


def made(root: Path, name: str) -> Path:
    """The files of a case in `root`, and the path to read."""
    _, path, files = CASES[name]
    for file, text in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    folders = {(root / file).parent for file in files if "_annotations" in file or "metadata" in file}
    folders |= {root / "set" / "train"} if name == "via" else {root / "set" / "images"} - folders
    for folder in folders:
        draw(folder / "a.png")
        draw(folder / "b.png")
    if name == "masks":
        (root / "set" / "masks").mkdir()
        for stem in "ab":
            Image.new("L", (40, 30), 1).save(root / "set" / "masks" / f"{stem}.png")
    return root / path


@contextmanager
def watched() -> Iterator[Counter[Path]]:
    """How often each file is opened."""
    opened = Counter[Path]()
    real = io.open

    def counted(file: Any, *more: Any, **options: Any) -> object:
        if isinstance(file, str | Path):
            opened[Path(os.path.realpath(file))] += 1
        return real(file, *more, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", counted)
        patch.setattr(builtins, "open", counted)
        yield opened


def test_every_format_has_a_case() -> None:
    assert {format_ for format_, _, _ in CASES.values()} == set(formats.FORMATS)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_all_that_is_opened_and_all_images_are_known(tmp_path: Path, name: str, linked: bool) -> None:
    path = made(tmp_path, name)
    if linked:  # the folders of a set are links to another disk
        for folder in [each for each in (tmp_path / "set").iterdir() if each.is_dir()]:
            (tmp_path / "disk").mkdir(exist_ok=True)
            folder.rename(tmp_path / "disk" / folder.name)
            folder.symlink_to(tmp_path / "disk" / folder.name, target_is_directory=True)
    with watched() as counts:
        found = formats.read(path)
    opened = {file for file in counts if file.is_relative_to(tmp_path.resolve())}
    assert (found.format, bool(found.records)) == (CASES[name][0], True)
    known = {Path(os.path.realpath(file)) for file in formats.files(found)}
    assert opened
    assert opened - known == set()
    images = {Path(os.path.realpath(record.path)) for record in found.records}
    assert all(image.is_file() for image in images)
    assert images <= known


@pytest.mark.parametrize("name", CASES)
def test_reading_and_checking_open_each_image_once(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    with watched() as counts:
        found = formats.read(path)
        checks.check(found, "headers")
    images = {Path(os.path.realpath(record.path)) for record in found.records}
    assert {counts[image] for image in images} == {1}


def test_both_images_of_a_row_are_known(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("filename,image_id,x1,y1,x2,y2\na.png,b.png,1,2,9,9\n")
    known = set(formats.files(formats.read(tmp_path / "labels.csv")))
    assert {tmp_path / "a.png", tmp_path / "b.png"} <= known


def test_a_link_to_the_folder_itself_ends(tmp_path: Path) -> None:
    path = made(tmp_path, "masks")
    (path / "again").symlink_to(path, target_is_directory=True)
    assert path / "masks" / "a.png" in set(formats.files(formats.read(path)))
