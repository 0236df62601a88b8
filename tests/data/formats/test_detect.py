import gc
import json
from pathlib import Path

import pytest
from format_records import draw, record

from solobox.data import formats
from solobox.errors import ConfigError, DataError


@pytest.mark.parametrize("name", sorted(formats.WRITERS.keys() - {"label-studio"}))
def test_what_is_written_is_recognised(tmp_path: Path, name: str) -> None:
    folder = name in {"voc", "yolo"}
    out = tmp_path / ("out" if folder else "out.dat")  # an ending that says nothing
    formats.write(out, [record(draw(tmp_path / "a.png"), (1, 2, 3, 4))], name)
    found = formats.read(out)
    assert (found.path, found.format) == (out, name)
    assert found.convention == formats.FORMATS[name].CONVENTION


def test_nothing_that_fits_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Notes\n\nsome words, [a link](there)\n")
    with pytest.raises(DataError) as error:
        formats.read(tmp_path / "notes.md")
    for module in formats.FORMATS.values():
        assert module.LOOKS_LIKE in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.csv", b"", "unknown-format"),
        ("a.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF,\x00", "unknown-format"),
        ("a.json", b'{"shapes": []}', "unknown-format"),
        ("a.json", b"[1, 2, 3]", "unknown-format"),
        ("a.xml", b"<html/>", "unknown-format"),
        ("a.yaml", b"key: value", "unknown-format"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, check=lambda error: error.code == code):
        formats.read(tmp_path / name)


def test_a_folder_of_tables_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, check=lambda error: error.code == "unknown-format"):
        formats.read(tmp_path)
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\n")
    with pytest.raises(DataError, match=r"boxes\.csv", check=lambda error: error.code == "unknown-format"):
        formats.read(tmp_path)


def test_what_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2,y2\n")
    with pytest.raises(DataError, match=r"boxes\.csv", check=lambda error: error.code == "not-found"):
        formats.read(tmp_path / "box.csv")
    with pytest.raises(DataError, check=lambda error: error.code == "not-found"):
        formats.read(tmp_path / "no" / "such")
    with pytest.raises(DataError, check=lambda error: error.code == "not-found"):
        formats.read(tmp_path / "boxes.csv", tmp_path / "nowhere")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, check=lambda error: error.code == "unknown-format"):
        formats.write(tmp_path / "a", [], "json")


def test_the_collector_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image,x1,y1,x2\na.jpg,1,2,3\n")
    assert gc.isenabled()
    with pytest.raises(DataError):
        formats.read(tmp_path / "boxes.csv")
    assert gc.isenabled()


def test_a_stray_export_does_not_stand_for_the_labelme_files_beside_it(tmp_path: Path) -> None:
    shape = {"label": "a", "shape_type": "rectangle", "points": [[1, 2], [3, 4]]}
    for name in ("1", "2"):
        draw(tmp_path / f"{name}.png")
        content = {"version": "5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.png"}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "via.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": {}}))
    found = formats.read(tmp_path)
    assert (found.format, len(found.records)) == ("labelme", 2)
    assert "1 other JSON files are left out" in found.convention
