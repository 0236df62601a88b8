import math
from pathlib import Path

import pytest
import yaml
from format_records import draw, record, snapshot

from solobox.data import formats
from solobox.data.formats import yolo
from solobox.errors import DataError


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def small_set(folder: Path, **more: object) -> Path:
    draw(folder / "images" / "train" / "a.jpg", (40, 30))
    put(folder / "labels" / "train" / "a.txt", "1 0.5 0.5 0.25 0.2\n")
    draw(folder / "images" / "val" / "b.jpg", (40, 30))
    put(folder / "labels" / "val" / "b.txt", "")
    content = {"train": "images/train", "val": "images/val", "names": ["cat", "dog"], **more}
    return put(folder / "data.yaml", yaml.safe_dump(content))


def test_a_plain_set(tmp_path: Path) -> None:
    file = small_set(tmp_path)
    for data in (file, tmp_path):
        found = formats.read(data)
        assert found.format == "yolo"
        assert "fractions" in found.convention
        first, second = found.records
        assert first.box == (0.5, 0.5, 0.25, 0.2)
        assert (found.layout.order, found.layout.unit) == ("cxcywh", "fractions")
        assert (first.label, first.split, first.image) == ("dog", "train", "images/train/a.jpg")
        assert (first.row, first.where, first.text) == (1, "a.txt, line 1", "1 0.5 0.5 0.25 0.2")
        assert first.path == tmp_path / "images" / "train" / "a.jpg"
        assert (second.box, second.split) == (None, "val")


@pytest.mark.parametrize("key", ["val", "valid", "validation"])
def test_names_of_the_validation_split(tmp_path: Path, key: str) -> None:
    small_set(tmp_path)
    file = put(tmp_path / "other.yaml", yaml.safe_dump({key: "images/val"}))
    assert [each.split for each in formats.read(file).records] == ["val"]


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.1 0.1 0.5 0.1 0.5 0.9", (0.3, 0.5, 0.4, 0.8)),
        ("0 0.1 0.2 0.5 0.1 0.5 0.9 0.3 0.3", (0.3, 0.5, 0.4, 0.8)),
        ("0.0 0.5 0.5 1 1", (0.5, 0.5, 1, 1)),
        ("0 0.5 0.5 0.2 0.2 0.9", (0.5, 0.5, 0.2, 0.2)),
    ],
)
def test_polygons_and_odd_numbers(tmp_path: Path, line: str, box: tuple[float, ...]) -> None:
    small_set(tmp_path)
    put(tmp_path / "labels" / "train" / "a.txt", f"\n{line}\n")
    found = formats.read(tmp_path).records[0]
    assert found.box == pytest.approx(box)
    assert (found.row, found.label) == (2, "cat")


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.2", "0 0.5 0.5 0.2 x", "0", "0 0.5 0.5 0.2 0.2 9", "cat 1 1 1 x"]
)
def test_lines_that_are_no_boxes_are_nan(tmp_path: Path, line: str) -> None:
    small_set(tmp_path)
    put(tmp_path / "labels" / "train" / "a.txt", line)
    found = formats.read(tmp_path).records[0]
    assert found.box is not None
    assert any(map(math.isnan, found.box))
    assert found.text == line


def test_lists_and_tables_and_other_peoples_folders(tmp_path: Path) -> None:
    file = small_set(
        tmp_path / "set",
        path="/datasets/of/another/computer",
        train=["../images/train", "more.txt"],
        val="images/val/b.jpg",
        names={0: "cat", 1: "horse"},
    )
    draw(tmp_path / "set" / "images" / "c.jpg")
    draw(tmp_path / "set" / "d.jpg")
    put(tmp_path / "set" / "more.txt", "./images/c.jpg\n\nd.jpg\n./images/train/a.jpg\n")
    put(tmp_path / "set" / "labels" / "c.txt", "0 0.5 0.5 1 1\n")
    put(tmp_path / "set" / "d.txt", "1 0.5 0.5 1 1\n")
    found = formats.read(file).records
    assert [(each.image, each.split, each.label) for each in found] == [
        ("images/train/a.jpg", "train", "horse"),
        ("images/c.jpg", "train", "cat"),
        ("d.jpg", "train", "horse"),
        ("images/val/b.jpg", "val", ""),
    ]


def test_only_the_last_images_becomes_labels(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "set"
    small_set(folder)
    assert formats.read(folder).records[0].label == "dog"


def test_the_root_can_be_given(tmp_path: Path) -> None:
    small_set(tmp_path / "set")
    file = put(tmp_path / "elsewhere" / "data.yaml", yaml.safe_dump({"train": "images/train"}))
    with pytest.raises(DataError, check=lambda error: error.code == "not-found"):
        formats.read(file)
    (found,) = formats.read(file, tmp_path / "set").records
    assert found.box == (0.5, 0.5, 0.25, 0.2)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("train: [", "bad-yaml"),
        ("- train", "bad-yaml"),
        ("names: [a]", "missing-key"),
        ("train: images/train\nnames: 3", "bad-yaml"),
        ("train: !!python/object/apply:os.system [ls]", "bad-yaml"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, code: str) -> None:
    small_set(tmp_path)
    put(tmp_path / "data.yaml", text)
    with pytest.raises(DataError, check=lambda error: error.code == code):
        formats.read(tmp_path)


def test_written_with_links_and_without_touching_the_images(tmp_path: Path) -> None:
    rows = [
        record(draw(tmp_path / "x" / "a.png", (40, 30)), (1, 2, 3, 4), label="dog", split="val"),
        record(draw(tmp_path / "y" / "a.png", (50, 60)), (0, 0, 50, 60), label="cat"),
        record(draw(tmp_path / "y" / "n.png"), None, split="train"),
    ]
    before = snapshot(tmp_path)
    yolo.write(tmp_path / "out", rows)
    assert yaml.safe_load((tmp_path / "out" / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "cat", 1: "dog"},
    }
    links = sorted(path for path in (tmp_path / "out" / "images").rglob("*") if not path.is_dir())
    assert [path.relative_to(tmp_path).as_posix() for path in links] == [
        "out/images/train/n.png",
        "out/images/train/y_a.png",
        "out/images/val/x_a.png",
    ]
    assert all(path.is_symlink() and not path.readlink().is_absolute() for path in links)
    assert (tmp_path / "out" / "labels" / "train" / "y_a.txt").read_text() == "0 0.5 0.5 1.0 1.0\n"
    assert (tmp_path / "out" / "labels" / "train" / "n.txt").read_text() == ""
    found = formats.read(tmp_path / "out").records
    assert [(each.path.resolve(), each.label, each.split) for each in found] == [
        ((tmp_path / "y" / "n.png").resolve(), "", "train"),
        ((tmp_path / "y" / "a.png").resolve(), "cat", "train"),
        ((tmp_path / "x" / "a.png").resolve(), "dog", "val"),
    ]
    assert {name: value for name, value in snapshot(tmp_path).items() if not name.startswith("out")} == before


def test_copies_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    image = draw(tmp_path / "a.png")
    yolo.write(tmp_path / "out", [record(image, (1, 2, 3, 4))])
    copy = tmp_path / "out" / "images" / "train" / "a.png"
    assert not copy.is_symlink()
    assert copy.read_bytes() == image.read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    image = draw(tmp_path / "a.png")
    for rows, code in [
        ([record(tmp_path / "gone.png", (1, 2, 3, 4))], "unreadable-image"),
        (
            [record(image, (1, 2, 3, 4), split="val"), record(image, (1, 2, 3, 4), split="test")],
            "split-conflict",
        ),
        ([record(tmp_path / "noending", None)], "bad-image-name"),
        ([record(image, (math.nan, 2, 3, 4))], "box-not-finite"),
    ]:
        with pytest.raises(DataError) as error:
            yolo.write(tmp_path / "out", rows)
        assert error.value.code == code
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
