import math
from pathlib import Path

import pytest
from format_records import record

from solobox.data import formats
from solobox.data.formats import article
from solobox.errors import DataError


def put(folder: Path, text: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("header", ["", "image,box\n", "Path,Bounding Box\n", '"ID","x, y, x, y"\n'])
def test_with_any_header_or_none(tmp_path: Path, header: str) -> None:
    found = formats.read(put(tmp_path, header + 'in/a.jpg,"[1, 2, 30, 40.5]"\nb.jpg,"[5,6,7,8]"\n'))
    assert found.format == "article"
    assert [each.box for each in found.records] == [(1, 2, 30, 40.5), (5, 6, 7, 8)]
    assert found.records[0].path == tmp_path / "in" / "a.jpg"
    assert found.records[0].row == 1 + bool(header)
    assert found.records[0].where == f"boxes.csv, row {1 + bool(header)}"
    assert found.records[0].text == "[1, 2, 30, 40.5]"


@pytest.mark.parametrize(
    "text",
    [
        '"[1, 2, 3.5, 4]"',
        "[1, 2, 3.5, 4]",
        ' "[ 1,2 , 3.5,4 ]"',
        "[1 2 3.5 4]",
        "[ 1.   2.   3.5  4. ]",
        '"(1, 2, 3.5, 4)"',
        '"[np.float64(1.0), np.int64(2), np.float64(3.5), np.float64(4.0)]"',
        '"[1, 2,\n 3.5, 4]"',
        "[1e0 2 3.5 4]",
    ],
)
def test_ways_to_write_the_numbers(tmp_path: Path, text: str) -> None:
    found = formats.read(put(tmp_path, f"image,box\nb.jpg,[1 1 2 2]\na.jpg,{text}\n"))
    assert found.format == "article"
    assert found.records[1].box == (1, 2, 3.5, 4)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    path = put(tmp_path, f"image{delimiter}box\na, b.jpg{delimiter}[1, 2, 3, 4]\n")
    (found,) = formats.read(path).records
    assert (found.image, found.box) == ("a, b.jpg", (1, 2, 3, 4))


def test_nothing_is_a_negative_and_nonsense_is_nan(tmp_path: Path) -> None:
    path = put(
        tmp_path, 'a.jpg,\nb.jpg,[]\nc.jpg,"[1, 2, 3]"\nd.jpg,what\ne.jpg,"[1, 2, x, 4]"\nf.jpg,[1 2 3 4]\n'
    )
    found = formats.read(path)
    assert found.format == "article"
    a, b, c, d, e, f = (each.box for each in found.records)
    assert a is None
    assert b is None
    assert f == (1.0, 2.0, 3.0, 4.0)
    for box in (c, d):
        assert box is not None
        assert all(map(math.isnan, box))
    assert e is not None
    assert math.isnan(e[2])
    assert e[3] == 4


def test_a_first_row_of_nonsense_is_no_header(tmp_path: Path) -> None:
    first, _ = formats.read(put(tmp_path, "a.jpg,what\nb.jpg,[1 2 3 4]\n")).records
    assert first.text == "what"


def test_a_row_without_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2", check=lambda error: error.code == "empty-image-name"):
        article.read(put(tmp_path, "image,box\n,[1 2 3 4]\n"))


def test_links_of_markdown_are_no_boxes(tmp_path: Path) -> None:
    assert not article.fits(put(tmp_path, "see here, [the page](https)\n"))


def test_written(tmp_path: Path) -> None:
    rows = [record(tmp_path / "a.jpg", (1, 2.5, 3, 4), label="lost"), record(tmp_path / "b.jpg", None)]
    article.write(tmp_path / "out.csv", rows)
    assert (tmp_path / "out.csv").read_text() == 'image,box\na.jpg,"[1, 2.5, 3, 4]"\nb.jpg,[]\n'
