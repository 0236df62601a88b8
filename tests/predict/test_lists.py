import json
from pathlib import Path

import fsspec
import pytest

from error_codes import has_code
from solobox.errors import DataError
from solobox.predict.inputs import expand
from solobox.predict.lists import is_list


def names(item: Path) -> list[str]:
    return [Path(name).relative_to(item.parent).as_posix() for name in expand([item])]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_blank_lines_and_comments_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path / "list.txt", "# my images\n\na.jpg\n  # more\ndeep/b.jpg\n./#c.jpg\n")
    assert names(path) == ["a.jpg", "deep/b.jpg", "#c.jpg"]


def test_a_list_as_powershell_writes_it(tmp_path: Path) -> None:
    assert names(written(tmp_path / "list.txt", "ä.jpg\r\nb.jpg\r\n", "utf-16")) == ["ä.jpg", "b.jpg"]
    assert names(written(tmp_path / "list.csv", "image\r\nä.jpg\r\n", "utf-16")) == ["ä.jpg"]


def test_names_without_an_ending_are_images_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    assert names(written(tmp_path / "list.txt", "one\n")) == ["one"]


def test_labels_give_each_image_once(tmp_path: Path) -> None:
    table = "image,x1,y1,x2,y2\nb.jpg,1,1,5,5\na.jpg,1,1,5,5\nb.jpg,2,2,6,6\nnone.jpg,,,,\n"
    assert names(written(tmp_path / "labels.csv", table)) == ["b.jpg", "a.jpg", "none.jpg"]
    images = [
        {"id": n, "file_name": name, "width": 9, "height": 9} for n, name in enumerate(["b.jpg", "a.jpg"])
    ]
    boxes = [
        {"id": n, "image_id": image, "category_id": 1, "bbox": [1, 1, 4, 4]}
        for n, image in enumerate([0, 1, 0])
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    assert names(written(tmp_path / "coco.json", json.dumps(content))) == ["b.jpg", "a.jpg"]


def test_a_list_without_boxes_keeps_every_row(tmp_path: Path) -> None:
    assert names(written(tmp_path / "list.csv", "image,label\nb.jpg,1\na.jpg,2\nb.jpg,3\n")) == [
        "b.jpg", "a.jpg", "b.jpg",
    ]  # fmt: skip


def test_labels_at_urls_give_each_url_once(tmp_path: Path) -> None:
    table = "image,x1,y1,x2,y2\nb.jpg,1,1,5,5\ns3://bucket/e.jpg,1,1,5,5\nb.jpg,2,2,6,6\n"
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/labels.csv", table.encode())
    assert [name.rsplit("/", 1)[1] for name in expand([f"memory://{tmp_path.name}/labels.csv"])] == [
        "b.jpg",
        "e.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("readme.txt", "These are my photographs.\nTaken in May.\n"),
        ("label.txt", "0 0.5 0.5 0.25 0.25\n"),
        ("table.csv", "size,colour\n1,red\n"),
        ("some.json", '{"a": 1}'),
        ("some.jsonl", "{}\n"),
        ("broken.json", "{"),
        ("empty.json", ""),
        ("some.xml", "<a/>"),
        ("some.yaml", "a: 1\n"),
    ],
)
def test_what_is_no_list_is_an_error_that_says_so(tmp_path: Path, name: str, text: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(DataError, match=r"list|labels", check=has_code("list-damaged")) as error:
        expand([path])
    assert str(path) in str(error.value)


def test_a_folder_with_the_name_of_a_list_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "faces.txt"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert not is_list(str(folder))
    assert not is_list(f"file://{folder}")
    assert expand([folder]) == [str(folder / "a.jpg")]
