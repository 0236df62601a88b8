import math
from dataclasses import replace
from pathlib import Path

import pytest
from format_records import record

from solobox.data import formats
from solobox.data.formats import csv
from solobox.errors import DataError


def put(folder: Path, text: str | bytes, name: str = "boxes.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_plain_file(tmp_path: Path) -> None:
    path = put(tmp_path, "image,x1,y1,x2,y2,label\nface/a.jpg,1,2,30,40.5,face\nb.jpg,5,6,7,8,\n")
    found = formats.read(path)
    assert (found.path, found.format) == (path, "csv")
    assert "pixels" in found.convention
    first, second = found.records
    assert first.image == "face/a.jpg"
    assert first.path == tmp_path / "face" / "a.jpg"
    assert first.box == (1.0, 2.0, 30.0, 40.5)
    assert (first.row, first.where, first.label, first.text) == (
        2,
        "boxes.csv, row 2",
        "face",
        "1, 2, 30, 40.5",
    )
    assert (second.row, second.label, second.split) == (3, "", "")
    assert dict(first.extra) == {}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_dialects(tmp_path: Path, delimiter: str, end: str, encoding: str) -> None:
    rows = [
        [" Y2", "IMAGE ", "x1", "Y1", "x2", "Note", "Split"],
        ["40", '"ä, b;c\td.jpg"', " 1", "2 ", "30", '"said ""no"""', "Valid"],
    ]
    text = end + end.join(delimiter.join(row) for row in rows) + end
    path = tmp_path / "boxes.csv"
    path.write_bytes(text.encode(encoding))
    (found,) = formats.read(path).records
    assert found.image == "ä, b;c\td.jpg"
    assert found.box == (1.0, 2.0, 30.0, 40.0)
    assert dict(found.extra) == {"Note": 'said "no"'}
    assert found.split == "val"
    assert found.row == 3


def test_empty_coordinates_are_a_negative_and_half_empty_ones_are_not(tmp_path: Path) -> None:
    path = put(tmp_path, "image,x1,y1,x2,y2\na.jpg,,,,\nb.jpg, , ,,\nc.jpg,1,,3,4\nd.jpg,1,2\ne.jpg\n")
    a, b, c, d, e = csv.read(path).records
    assert a.box is None
    assert b.box is None
    assert e.box is None
    assert c.box is not None
    assert c.box[0] == 1
    assert math.isnan(c.box[1])
    assert c.text == "1, , 3, 4"
    assert d.box is not None
    assert [math.isnan(value) for value in d.box] == [False, False, True, True]


@pytest.mark.parametrize("word", ["left", "1_0", "nan", "inf", "-infinity", "1e999", "1,5", "0x10", "10px"])
def test_what_is_no_number_is_nan(tmp_path: Path, word: str) -> None:
    (found,) = csv.read(put(tmp_path, f'image,x1,y1,x2,y2\na.jpg,"{word}",2,3,4\n')).records
    assert found.box is not None
    assert math.isnan(found.box[0])
    assert found.box[1:] == (2, 3, 4)
    assert word in found.text


def test_a_stray_delimiter_spoils_the_box_and_not_the_file(tmp_path: Path) -> None:
    path = put(tmp_path, "image,x1,y1,x2,y2\na.jpg,1,2,3,4,5\nb.jpg,1,2,3,4,,\n")
    first, second = csv.read(path).records
    assert first.box is not None
    assert all(map(math.isnan, first.box))
    assert first.text.startswith("a.jpg, 1, 2, 3, 4, 5")
    assert second.box == (1, 2, 3, 4)


def test_rows_are_counted_as_an_editor_counts_lines(tmp_path: Path) -> None:
    path = put(tmp_path, 'image,x1,y1,x2,y2,note\n\na.jpg,1,2,3,4,"two\nlines"\n,,,,,\nb.jpg,1,2,3,4,\n')
    assert [found.row for found in csv.read(path).records] == [3, 6]


@pytest.mark.parametrize(
    ("word", "split"),
    [("train", "train"), ("Training", "train"), ("validation", "val"), ("DEV", "val"), ("testing", "test")],
)
def test_words_for_splits(tmp_path: Path, word: str, split: str) -> None:
    (found,) = csv.read(put(tmp_path, f"image,x1,y1,x2,y2,split\na.jpg,1,2,3,4,{word}\n")).records
    assert found.split == split


def test_an_unknown_split_and_an_empty_name_are_problems_of_their_rows(tmp_path: Path) -> None:
    text = "image,x1,y1,x2,y2,split\na.jpg,1,2,3,4,train\n,1,2,3,4,\nb.jpg,1,2,3,4,holdout\n"
    found = csv.read(put(tmp_path, text))
    assert [(each.code, each.row, each.record) for each in found.problems] == [
        ("empty-image-name", 3, None),
        ("unknown-split", 4, 1),
    ]
    assert [each.split for each in found.records] == ["train", ""]


def test_missing_columns_are_named_with_the_likely_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x2 \(is it 'x_2'\?\)") as error:
        formats.read(put(tmp_path, "filename,xmin,y1,x_2,y2\na.jpg,1,2,3,4\n"))
    assert error.value.code == "missing-column"
    assert "image" not in str(error.value).split(";")[0].split("header", 1)[1]


def test_a_file_without_a_header_is_read_where_its_numbers_can_only_be_one_box(tmp_path: Path) -> None:
    found = formats.read(put(tmp_path, "a.jpg,,,,,\nb.jpg,1,2,3,4,cat\n"))
    assert [(each.image, each.box, each.label) for each in found.records] == [
        ("a.jpg", None, ""),
        ("b.jpg", (1, 2, 3, 4), "cat"),
    ]
    with pytest.raises(DataError, check=lambda error: error.code == "missing-column"):
        formats.read(put(tmp_path, "a.jpg,9,9,1,2,3,4\n"))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("image,x1,y1,x2,y2,X1\n", "duplicate-column"),
        (b"image,x1,y1,x2,y2\n\xe4.jpg,1,2,3,4\n", "not-utf8"),
        ('image,x1,y1,x2,y2\n"' + "a" * 200_000, "bad-csv"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str | bytes, code: str) -> None:
    with pytest.raises(DataError, check=lambda error: error.code == code):
        formats.read(put(tmp_path, text))


def test_images_elsewhere_absolute_ones_and_those_of_windows(tmp_path: Path) -> None:
    path = put(tmp_path, "image,x1,y1,x2,y2\nin\\a.jpg,1,2,3,4\n/abs/b.jpg,1,2,3,4\n./in//a.jpg,1,2,3,4\n")
    assert [found.path for found in csv.read(path, Path("/images")).records] == [
        Path("/images/in/a.jpg"),
        Path("/abs/b.jpg"),
        Path("/images/in/a.jpg"),
    ]


def test_written_columns_are_those_with_something_in_them(tmp_path: Path) -> None:
    rows = [
        record(tmp_path / "a.jpg", (1, 2.5, 3, 4), split="val", note="x,y"),
        replace(record(tmp_path / "in" / "b.jpg", None, other="z"), image="in/b.jpg"),
    ]
    csv.write(tmp_path / "out.csv", rows)
    assert (tmp_path / "out.csv").read_text() == (
        'image,x1,y1,x2,y2,split,note,other\na.jpg,1,2.5,3,4,val,"x,y",\nin/b.jpg,,,,,,,z\n'
    )


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = put(tmp_path, "precious")
    with pytest.raises(DataError, match="row 7", check=lambda error: error.code == "box-not-finite"):
        csv.write(path, [record(tmp_path / "a.jpg", (1, 2, math.nan, 4), row=7)])
    with pytest.raises(DataError, match="UTF-8"):
        csv.write(path, [record(tmp_path / "a.jpg", (1, 2, 3, 4), label="\ud800")])
    assert [file.name for file in tmp_path.iterdir()] == ["boxes.csv"]
    assert path.read_text() == "precious"


def test_written_files_are_readable_by_others_as_usual(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    csv.write(tmp_path / "new" / "out.csv", [record(tmp_path / "a.jpg", (1, 2, 3, 4))])
    assert (tmp_path / "new" / "out.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert csv.read(tmp_path / "new" / "out.csv").records[0].path == tmp_path / "new" / "../a.jpg"
    assert (tmp_path / "new" / "out.csv").read_text().splitlines()[1] == "../a.jpg,1,2,3,4,a.jpg"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_with_an_end_of_line_in_it_stays_one_row(tmp_path: Path, end: str) -> None:
    names = [f"two{end}lines.jpg", "one.jpg"]
    csv.write(tmp_path / "out.csv", [record(tmp_path / name, (1, 2, 3, 4)) for name in names])
    assert [each.image for each in csv.read(tmp_path / "out.csv").records] == names


def test_names_hold_where_the_output_folder_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    image = tmp_path / "images" / "a.jpg"
    image.parent.mkdir()
    image.touch()
    csv.write(tmp_path / "link" / "out.csv", [record(image, (1, 2, 3, 4))])
    (found,) = csv.read(tmp_path / "link" / "out.csv").records
    assert found.path.exists()


def test_paths_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    csv.write(Path("out.csv"), [record(Path("in/a.jpg"), (1, 2, 3, 4))])
    (found,) = csv.read(Path("out.csv")).records
    assert found.path == Path("in/a.jpg")
