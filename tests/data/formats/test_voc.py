import math
from pathlib import Path

import pytest
from defusedxml.ElementTree import parse
from format_records import draw, record, snapshot

from solobox.data import formats
from solobox.data.formats import voc
from solobox.errors import DataError

OBJECT = (
    "<object><name> {label} </name><part><bndbox><xmin>9</xmin></bndbox></part><bndbox><xmax>20</xmax>"
    "<xmin>1</xmin><ymin>{ymin}</ymin><ymax>30.5</ymax></bndbox></object>"
)


def put(path: Path, filename: str, *objects: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<filename>{filename}</filename><path>/home/x/{filename}</path>"
    path.write_text(f"<annotation>{head}{''.join(objects)}</annotation>")
    return path


def test_corners_become_continuous(tmp_path: Path) -> None:
    put(
        tmp_path / "a.xml",
        "a.jpg",
        OBJECT.format(label="cat", ymin=2),
        OBJECT.format(label="dog", ymin="two"),
    )
    draw(tmp_path / "a.jpg")
    found = formats.read(tmp_path)
    assert found.format == "voc"
    assert "xmin - 1" in found.convention
    first, second = found.records
    assert first.box == (1.0, 2.0, 20.0, 30.5)
    assert found.layout.first == 1
    assert (first.label, first.where, first.row) == ("cat", "a.xml, object 1", 1)
    assert first.path == tmp_path / "a.jpg"
    assert (second.label, second.where, second.row) == ("dog", "a.xml, object 2", 2)
    assert second.box is not None
    assert math.isnan(second.box[1])
    assert "ymin two" in second.text


def test_no_object_is_a_negative(tmp_path: Path) -> None:
    put(tmp_path / "a.xml", "a.jpg")
    (found,) = formats.read(tmp_path).records
    assert (found.box, found.image, found.where) == (None, "a.jpg", "a.xml")


@pytest.mark.parametrize("place", [".", "../images", "../JPEGImages", "images"])
def test_the_usual_places_of_images(tmp_path: Path, place: str) -> None:
    file = put(tmp_path / "annots" / "a.xml", "a.jpg", OBJECT.format(label="cat", ymin=2))
    image = draw(file.parent / place / "a.jpg")
    for data in (tmp_path, tmp_path / "annots", file):
        (found,) = formats.read(data).records
        assert found.path.samefile(image)
        assert found.image == "a.jpg"


def test_from_within_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "annots" / "a.xml", "a.jpg")
    image = draw(tmp_path / "images" / "a.jpg")
    monkeypatch.chdir(tmp_path / "annots")
    (found,) = formats.read(Path()).records
    assert found.path.samefile(image)


def test_the_image_of_the_xmls_own_name(tmp_path: Path) -> None:
    put(tmp_path / "annots" / "a.xml", "DSC_1.jpg")
    put(tmp_path / "annots" / "b.xml", "b")
    draw(tmp_path / "images" / "a.png")
    draw(tmp_path / "images" / "b.png")
    first, second = formats.read(tmp_path).records
    assert first.path == tmp_path / "images" / "a.png"
    assert first.image == "a.png"
    assert second.path == tmp_path / "images" / "b.png"


def test_images_elsewhere_and_missing_ones(tmp_path: Path) -> None:
    put(tmp_path / "annots" / "a.xml", "a.jpg")
    put(tmp_path / "annots" / "gone.xml", "gone.jpg")
    image = draw(tmp_path / "other" / "a.jpg")
    first, second = formats.read(tmp_path, tmp_path / "other").records
    assert first.path == image
    assert second.path == tmp_path / "other" / "gone.jpg"


ENTITY = '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("", "ascii"),
        ("<annotation><object>", "ascii"),
        ("<other/>", "ascii"),
        (ENTITY, "ascii"),
        (ENTITY, "utf-16"),
        (f'<?xml version="1.0" encoding="UTF-16BE"?>{ENTITY}', "utf-16-be"),
    ],
)
def test_what_is_no_voc_is_nan_and_spoils_nothing(tmp_path: Path, text: str, encoding: str) -> None:
    put(tmp_path / "a.xml", "a.jpg", OBJECT.format(label="cat", ymin=2))
    (tmp_path / "b.xml").write_bytes(text.encode(encoding))
    draw(tmp_path / "b.jpg")
    good, bad = formats.read(tmp_path).records
    assert good.box == (1.0, 2.0, 20.0, 30.5)
    assert bad.box is not None
    assert all(map(math.isnan, bad.box))
    assert "XML" in bad.text
    assert bad.path == tmp_path / "b.jpg"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_xml_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    put(tmp_path / "a.xml", "a.jpg", OBJECT.format(label="Ähre", ymin=2))
    named = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f'<?xml version="1.0" encoding="{named}"?>' + (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    plain = formats.read(tmp_path).records
    (tmp_path / "a.xml").write_bytes(f"{text}<!-- of no use -->".encode(encoding))
    assert formats.read(tmp_path).records == plain
    assert (plain[0].label, plain[0].box) == ("Ähre", (1.0, 2.0, 20.0, 30.5))


def test_splits_of_lists(tmp_path: Path) -> None:
    for name in ("a b", "c", "d", "e"):
        put(tmp_path / "Annotations" / f"{name}.xml", f"{name}.jpg")
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("a b\n")
    (main / "val.txt").write_text("c -1\n\n")
    (main / "test.txt").write_text("d  1\n")
    (main / "trainval.txt").write_text("a b\nc\ne\n")
    for data in (tmp_path, tmp_path / "Annotations"):
        assert [each.split for each in formats.read(data).records] == ["train", "val", "test", ""]
    (main / "test.txt").write_text("c\n")
    with pytest.raises(DataError, check=lambda error: error.code == "split-conflict"):
        formats.read(tmp_path)


def test_splits_of_folders(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        put(tmp_path / name / "a.xml", "a.jpg")
        draw(tmp_path / name / "a.jpg")
    found = {each.split: each.path.parent.name for each in formats.read(tmp_path).records}
    assert found == {"train": "train", "val": "valid", "test": "test"}


def test_written(tmp_path: Path) -> None:
    image = draw(tmp_path / "in" / "a.png", (40, 30))
    before = snapshot(tmp_path)
    rows = [
        record(image, (0, 1.5, 20, 30), label="c<t", split="val"),
        record(tmp_path / "in" / "b.png", None),
    ]
    voc.write(tmp_path / "out", rows)
    root = parse(tmp_path / "out" / "Annotations" / "a.xml").getroot()
    assert root is not None
    assert root.findtext("filename") == "../../in/a.png"
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("40", "30")
    assert [root.findtext(f"object/bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")] == [
        "1",
        "2.5",
        "20",
        "30",
    ]
    assert (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text() == "a\n"
    first, second = formats.read(tmp_path / "out").records
    assert (first.box, first.label, first.split) == ((1, 2.5, 20, 30), "c<t", "val")
    assert first.path.samefile(image)
    assert (second.box, second.split) == (None, "")
    assert {name: value for name, value in snapshot(tmp_path).items() if not name.startswith("out")} == before


def test_images_of_one_name_keep_apart(tmp_path: Path) -> None:
    paths = [draw(tmp_path / folder / name) for folder in "xy" for name in ("a.png", "A.jpg")]
    paths.append(draw(tmp_path / "z" / "x_a.png"))
    voc.write(tmp_path / "out", [record(path, (index, 1, 20, 30)) for index, path in enumerate(paths)])
    found = formats.read(tmp_path / "out").records
    assert {each.path.resolve(): each.box[0] for each in found if each.box} == {
        path.resolve(): index + 1 for index, path in enumerate(paths)
    }


def test_nothing_is_written_over_or_by_halves(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(DataError, check=lambda error: error.code == "already-exists"):
        voc.write(tmp_path / "out", [record(tmp_path / "a.png", (1, 2, 3, 4))])
    with pytest.raises(DataError, check=lambda error: error.code == "bad-image-name"):
        voc.write(tmp_path / "new", [record(tmp_path / "a.png", (1, 2, 3, 4), label="\x00")])
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    voc.write(tmp_path / "out", [record(tmp_path / "a.png", (1, 2, 3, 4))])
    assert formats.read(tmp_path / "out").records[0].box == (2, 3, 3, 4)


@pytest.mark.real
@pytest.mark.parametrize("place", ["kangaroo", "kangaroo/annots"])
def test_kangaroo(real_data: Path, place: str) -> None:
    found = formats.read(real_data / place)
    assert len({each.path for each in found.records}) == 164
    assert all(each.path.is_file() for each in found.records)
    assert found.records[0].box == (233.0, 89.0, 386.0, 262.0)
    # Corners count from 1, and some boxes begin at the image's edge.
    assert min(min(each.box[:2]) for each in found.records if each.box) == 1
