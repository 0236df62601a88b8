"""Pascal VOC as people have it: recorded sizes, renumbered files, folders of classes, polygons."""

from pathlib import Path

import numpy as np
import pytest
from case_files import BOX, SIZE, codes, draw_all, in_pixels, index_of, put

from solobox.data import formats
from solobox.data.formats import Annotations


def bndbox(index: int) -> str:
    x1, y1, x2, y2 = BOX[index]
    values = {"xmin": f"{x1 + 1:.2f}", "ymin": y1 + 1, "xmax": x2, "ymax": y2}
    return f"<bndbox>{''.join(f'<{tag}>{value}</{tag}>' for tag, value in values.items())}</bndbox>"


def xml(path: Path, index: int, name: str | None = None, box: str | None = None, size: str = "") -> Path:
    size = size or f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
    filename = f"<filename>{f'{index}.png' if name is None else name}</filename>"
    thing = f"<object><name>thing</name>{bndbox(index) if box is None else box}</object>"
    return put(path, f"<annotation>{filename}{size}{thing}</annotation>")


def assert_right(found: Annotations, count: int = 6) -> None:
    assert len(found.records) == count
    for record in found.records:
        assert record.path.exists()
        assert in_pixels(record, found) == pytest.approx(BOX[index_of(record)])


def test_recorded_sizes(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    sizes = ["", "<size/>", "<size><width>0</width><height>0</height></size>", "<x/>"]
    for index, size in enumerate(sizes):
        xml(tmp_path / "annotations" / f"{index}.xml", index, size=size)
    found = formats.read(tmp_path)
    assert_right(found, 4)
    assert [record.size for record in found.records] == [SIZE, None, None, None]


def test_a_file_that_has_the_name_of_another_image(tmp_path: Path) -> None:
    """After renumbering: the XML of 1 names image 0, and both exist."""
    draw_all(tmp_path / "images")
    for index in range(5):
        xml(tmp_path / "annotations" / f"{index + 1}.xml", index)
    xml(tmp_path / "annotations" / "other.xml", 5)
    found = formats.read(tmp_path).records
    assert [record.path.name for record in found] == [f"{index}.png" for index in range(6)]
    others = [record.other_path.name if record.other_path else None for record in found]
    assert others == [*(f"{index + 1}.png" for index in range(5)), None]


def test_a_file_of_its_own_image_has_no_other(tmp_path: Path) -> None:
    draw_all(tmp_path / "images")
    for index in range(6):
        xml(
            tmp_path / "annotations" / f"{index}.xml",
            index,
            name=["{}.png", "{}", "{}.jpg"][index % 3].format(index),
        )
    found = formats.read(tmp_path)
    assert_right(found)
    assert not any(record.other_path for record in found.records)
    assert codes(found) == ["image-name-differs"]


@pytest.mark.parametrize("images", ["images/{}", "JPEGImages/{}", "images", "annotations/{}", "{}"])
def test_folders_of_classes(tmp_path: Path, images: str) -> None:
    for start, name in ((0, "cats"), (3, "dogs")):
        draw_all(tmp_path / images.format(name), range(start, start + 3))
        for index in range(start, start + 3):
            xml(tmp_path / "annotations" / name / f"{index}.xml", index)
    for data in (tmp_path, tmp_path / "annotations"):
        assert_right(formats.read(data))


def test_polygons_without_a_box(tmp_path: Path) -> None:
    draw_all(tmp_path)
    for index in range(6):
        x1, y1, x2, y2 = BOX[index]
        corners = [(x1 + 1, y1 + 1), (x2, y1 + 1), (x2, y2)]
        if index % 2:
            points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners)
        else:
            points = "".join(f"<x{at}>{x}</x{at}><y{at}>{y}</y{at}>" for at, (x, y) in enumerate(corners, 1))
        xml(tmp_path / f"{index}.xml", index, box=f"<polygon>{points}</polygon>")
    assert_right(formats.read(tmp_path))


@pytest.mark.parametrize("box", ["", "<polygon><pt><x>1</x></pt></polygon>", "<bndbox/>"])
def test_an_object_without_a_box_is_a_fault_of_its_row(tmp_path: Path, box: str) -> None:
    draw_all(tmp_path)
    xml(tmp_path / "0.xml", 0, box=box)
    xml(tmp_path / "1.xml", 1)
    first, second = formats.read(tmp_path).records
    assert np.isnan(first.box or 0).all()
    assert second.box is not None


def test_fractions_stay_as_they_are_written(tmp_path: Path) -> None:
    """The checks judge the layout over the whole file: the numbers must reach them unchanged."""
    draw_all(tmp_path / "images")
    box = "<bndbox><xmin>0.1</xmin><ymin>0.2</ymin><xmax>0.5</xmax><ymax>0.75</ymax></bndbox>"
    xml(tmp_path / "annotations" / "0.xml", 0, box=box)
    assert formats.read(tmp_path).records[0].box == (0.1, 0.2, 0.5, 0.75)


def test_paths_of_another_computer_in_filename(tmp_path: Path) -> None:
    draw_all(tmp_path / "photos")
    for index in range(6):
        xml(tmp_path / "annots" / f"{index}.xml", index, name=f"C:\\work\\set\\{index}.png")
    found = formats.read(tmp_path / "annots", tmp_path)
    assert_right(found)
    assert codes(found) == ["images-found-elsewhere"]


def test_cvat_is_not_voc(tmp_path: Path) -> None:
    put(
        tmp_path / "annotations.xml",
        '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>',
    )
    assert formats.read(tmp_path).format == "cvat"
